/**
 * @file `plan`: what a fit and a scoring would take, before anything runs. Counts are exact functions of shapes; times are
 * the counts over the rate of products (tensor/gemm-rate.ts) times a share of it that was measured on SmolLM2-135M
 * (docs/performance.md). bench/plan.ts holds what is foretold against what is then measured.
 */
import { UserError } from '../base/index.js'
import {
  batchTokensLeast, covarianceFlop, eigenCubes, eigenvalueFlop, factorBytes, modelFlop, planJoin, planStages, rotationFlop, spanBytes, partsOf, trackedLayers,
  type JoinKind, type Plan, type PlanInput,
} from '../influence/index.js'
import { openModel } from '../model/index.js'
import type { PlanSettings } from '../settings/index.js'
import { probeDevice } from '../tensor/index.js'
import { contextOf } from './checkpoint.js'
import { chooseEngine } from './engine.js'

/** Shares of the rate of products that each kind of work reached (docs/performance.md). */
const reached = { covariances: 0.72, eigenvalues: 0.82, preparing: { 'low-rank': 0.85, dense: 0.31, shared: 0.39 } } as const
/** The same of scoring, in batches of so many tokens. */
const scoringReached = (batchTokens: number): number => (batchTokens >= 2048 ? 0.82 : batchTokens >= 1024 ? 0.77 : 0.73)
/** An eigendecomposition of width n takes as long as so many n³ FLOP of products. */
const eigenFlop = 41
/** Of a record of `influence` beside its scores, and of a document beside its text, in bytes; characters of a token. */
const [recordBytes, charactersOfToken] = [120, 4.5]

export interface PlannedScoring {
  readonly join: JoinKind
  readonly fits: boolean
  /** Of the queries alone, and of everything with weights and a batch. */
  readonly queryBytes: number
  readonly bytes: number
  /** FLOP a token, model and join; what that makes. */
  readonly flopAToken: number
  readonly tokensPerSecond: number
  readonly hours: number
  readonly secondsAQuery: number
}

export interface RunPlan {
  readonly checkpoint: { readonly folder: string; readonly architecture: string; readonly parameters: number; readonly weightBytes: number; readonly stages: number }
  readonly tracked: { readonly layers: number; readonly parameters: number }
  /** FLOP/s of float32 products (tensor/gemm-rate.ts): given, or measured just now on `device`. */
  readonly gemmRate: number
  readonly device: string
  readonly tokens: number
  readonly fit: {
    readonly documents: number
    readonly covarianceTokensPerSecond: number
    readonly eigenvalueTokensPerSecond: number
    readonly eigendecompositionSeconds: number
    readonly hours: number
    readonly diskBytes: number
    readonly sumBytes: number
  }
  /** Of a batch of the scoring, given or chosen. */
  readonly batchTokens: number
  /** Cheapest first. */
  readonly joins: readonly PlannedScoring[]
  /** The one that `--join` chooses; none if none fits. */
  readonly chosen: JoinKind | null
  readonly reason: string
  /** Of the embedded log, when all is scored. */
  readonly logBytes: number
}

/**
 * @throws UserError for a checkpoint that cannot be used, layers that are not there, or a device that is not usable. That
 *   no join fits is no error: the plan says so
 */
export const planRun = async (settings: PlanSettings): Promise<RunPlan> => {
  const { join, rank, sharedRank, queryCount: queries, documents, fitDocuments, blocks } = settings
  const memory = settings.deviceMemory ?? settings.memory
  const checkpoint = await openModel(settings.model, { positionsMax: Math.max(settings.context ?? 0, 4096) })
  const { model } = checkpoint
  const tracked = trackedLayers(model, settings.track)
  const context = contextOf(checkpoint, settings.context)
  const length = Math.min(settings.tokensMean, context)
  const stages = settings.stageMemory === null ? undefined : { spans: planStages(model, settings.stageMemory), activationBytesMax: settings.stageMemory }
  const input = { model, tracked, queries, rank, sharedRank, context, batchTokens: settings.batchTokens, stages }
  const { rate, device } = await rateOf(settings)

  const { plan, chosen, reason } = choiceOf({ ...input, memory }, join)
  const base = modelFlop(model, tracked, context)
  const secondsOf = (flop: number, share: number): number => flop / (rate * share)
  const joins = plan.considered.map(({ kind, flop, bytes, bytesTotal, fits }): PlannedScoring => {
    const seconds = secondsOf(base + flop, scoringReached(plan.batchTokens))
    return {
      join: kind, fits, queryBytes: bytes, bytes: bytesTotal, flopAToken: base + flop, tokensPerSecond: 1 / seconds,
      hours: (seconds * length * documents) / 3600, secondsAQuery: secondsOf(rotationFlop(tracked), reached.preparing[kind]),
    }
  })
  const covariances = secondsOf(covarianceFlop(model, tracked, context), reached.covariances)
  const eigenvalues = secondsOf(eigenvalueFlop(model, tracked, context), reached.eigenvalues)
  const eigendecompositionSeconds = secondsOf(eigenFlop * eigenCubes(tracked, blocks), 1)
  const { disk, sums } = factorBytes(tracked, blocks)
  const sizes = [...model.weightShapes.values()].map((shape) => shape.reduce((product, d) => product * d, 1))
  return {
    checkpoint: {
      folder: checkpoint.folder, architecture: model.architecture, parameters: sizes.reduce((a, b) => a + b, 0),
      weightBytes: spanBytes(model, { from: 0, to: partsOf(model) }), stages: stages?.spans.length ?? 1,
    },
    tracked: { layers: tracked.length, parameters: tracked.reduce((sum, { inputs, outputs, bias }) => sum + outputs * (inputs + Number(bias)), 0) },
    gemmRate: rate, device, tokens: length * documents,
    fit: {
      documents: fitDocuments, covarianceTokensPerSecond: 1 / covariances, eigenvalueTokensPerSecond: 1 / eigenvalues, eigendecompositionSeconds,
      hours: (length * fitDocuments * (covariances + eigenvalues) + eigendecompositionSeconds) / 3600, diskBytes: disk, sumBytes: sums,
    },
    batchTokens: plan.batchTokens, joins, chosen, reason,
    logBytes: documents * (length * charactersOfToken + 2 * recordBytes + 4 * queries),
  }
}

/** What `score` would choose; where nothing fits, what there is in the smallest batches, and what would help. */
const choiceOf = (input: PlanInput, wanted: JoinKind | 'auto'): { readonly plan: Plan; readonly chosen: JoinKind | null; readonly reason: string } => {
  try {
    const plan = planJoin(input, wanted)
    const { chosen, reason } = plan
    return { plan, chosen: chosen.fits ? chosen.kind : null, reason: chosen.fits ? reason : `${reason}: more than --memory` }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    const plan = planJoin({ ...input, batchTokens: input.batchTokens ?? batchTokensLeast, memory: Infinity })
    const considered = plan.considered.map((join) => ({ ...join, fits: false }))
    const least = considered.reduce((a, b) => (a.bytesTotal <= b.bytesTotal ? a : b))
    return { plan: { ...plan, considered }, chosen: null, reason: `${error.message}. ${error.fix ?? ''}${least.bytesTotal > 2 * least.bytes ? '; or --stage-memory, which keeps part of the weights in memory at a time' : ''}` }
  }
}

const rateOf = async ({ gemmRate, device, threads }: PlanSettings): Promise<{ readonly rate: number; readonly device: string }> => {
  if (gemmRate !== null) return { rate: gemmRate * 1e9, device: 'as given' }
  const chosen = await chooseEngine({ engine: 'onnx', device, threads })
  const at = chosen.device === 'auto' ? 'cpu' : chosen.device
  const report = await probeDevice(at, { threads: threads ?? undefined })
  if (!report.usable) throw new UserError(`device ${at} is not usable here: ${report.problem}`, { fix: `${report.fix}; or --gemm-rate GFLOPS, to plan for another machine` })
  return { rate: report.gemmRate, device: at }
}
