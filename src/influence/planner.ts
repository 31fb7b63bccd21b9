/** @file Which join: the cheapest that fits in memory, for the model, the queries and the length of documents. */
import { UserError } from '../base/index.js'
import type { LinearLayer, Model, Span } from '../model/index.js'
import { joinCost, type JoinKind } from './joins.js'
import { trackedParameters } from './layers.js'
import type { Stages } from './staged-program.js'
import { endsModel, layersIn, spanBytes, wholeModel } from './stages.js'

export interface PlanInput {
  readonly model: Model
  readonly tracked: readonly LinearLayer[]
  readonly queries: number
  /** R of the low-rank and k of the shared join. */
  readonly rank: number
  readonly sharedRank: number
  /** T of a document. */
  readonly context: number
  /** Tokens of a batch; null: the most of `batchTokensChoice` that fit in memory. */
  readonly batchTokens: number | null
  /** Bytes that weights, queries and a batch may take together. */
  readonly memory: number
  /** How the model is cut, if it is. */
  readonly stages?: Stages
}

export interface PlannedJoin {
  readonly kind: JoinKind
  /** FLOP a token for the join alone, bytes of its queries, and bytes of everything. */
  readonly flop: number
  readonly bytes: number
  readonly bytesTotal: number
  readonly fits: boolean
}

export interface Plan {
  readonly chosen: PlannedJoin
  /** All three, cheapest first. */
  readonly considered: readonly PlannedJoin[]
  /** Tokens of a batch: those asked for, or those that fit. */
  readonly batchTokens: number
  /** A sentence: which and why. */
  readonly reason: string
}

/** Tokens of a batch where none are asked for, best first: longer ones read queries and weights less often (docs/performance.md). */
const batchTokensChoice = [2048, 1024, 512] as const
/** The least of them, by which the join is chosen: a cheaper join is worth more than a longer batch. */
export const batchTokensLeast = Math.min(...batchTokensChoice)

/**
 * FLOP a token of the model's forward and backward pass, attention and head included (the causal half of it), and of
 * forming each document's gradient.
 */
export const modelFlop = (model: Model, tracked: readonly LinearLayer[], context: number): number => {
  const lowest = Math.min(...tracked.map(({ block }) => block))
  const above = model.layers.filter(({ block }) => block >= lowest)
  const products = (layers: readonly LinearLayer[]): number => layers.reduce((sum, { inputs, outputs }) => sum + 2 * inputs * outputs, 0)
  const attention = (blocks: number, passes: number): number => passes * blocks * 2 * context * model.heads * model.headDim * 0.625
  return (
    products(model.layers) + products(above) + 4 * model.vocabulary * model.width +
    attention(model.blocks, 2) + attention(model.blocks - lowest, 4) + 2 * trackedParameters(tracked)
  )
}

/** The input of a plan whose batches are decided. */
type Batched = PlanInput & { readonly batchTokens: number }

/** The engine's own: its code, its threads, what it never gives back. */
const engineBytes = 100 * 2 ** 20

/**
 * Bytes of weights and of a batch. Weights are packed for the forward product, those above the lowest tracked layer for the
 * backward one as well; while they are packed, they are there as stored too, later a batch's activations are. These are kept
 * where the backward pass comes by; below, those of one block at a time. Measured on SmolLM2-135M, with all 30 blocks' MLP layers
 * tracked: 2.2 GiB resident at one document of 512 tokens, 5.4 at four; 1.9 at four with the top 5 blocks'. This says 2.2, 5.7 and 2.1.
 * Of a model in stages it is the largest, and the streams between them.
 */
const modelBytes = (input: Batched): number => {
  const spans = input.stages?.spans ?? [wholeModel(input.model)]
  return engineBytes + Math.max(...spans.map((span) => stageBytes(input, span))) + (spans.length === 1 ? 0 : (input.stages?.activationBytesMax ?? 0))
}

const stageBytes = ({ model, tracked, context, batchTokens }: Batched, span: Span): number => {
  const lowest = Math.min(...tracked.map(({ block }) => block))
  const above = layersIn(span, model.layers).filter(({ block }) => block >= lowest)
  const weights = spanBytes(model, span) / 4
  const backward = above.reduce((sum, { inputs, outputs }) => sum + inputs * outputs, 0)
  const blocksFrom = (first: number): number => Math.max(0, Math.min(span.to - 1, model.blocks) - Math.max(span.from - 1, first))
  const kept = Math.min(blocksFrom(0), blocksFrom(lowest) + 1)
  const widths = above.length === 0 ? 0 : (kept / blocksFrom(lowest)) * above.reduce((sum, { inputs, outputs }) => sum + inputs + outputs, 0)
  const probabilities = kept * model.heads * context * 0.625
  const logits = endsModel(span, model) ? 1.5 * model.vocabulary : 0
  const tokens = Math.max(batchTokens, context)
  return 4 * (weights + backward + Math.max(weights, tokens * (1.5 * widths + probabilities + logits)))
}

/** All joins at one size of batches, cheapest first. */
const considerJoins = (input: Batched): readonly PlannedJoin[] => {
  const { tracked, queries, rank, sharedRank, context, memory } = input
  const base = modelBytes(input)
  const kinds: readonly JoinKind[] = ['dense', 'low-rank', 'shared']
  return kinds
    .map((kind): PlannedJoin => {
      const cost = joinCost(kind, tracked, { queries, rank: kind === 'shared' ? sharedRank : rank }, context)
      return { kind, ...cost, bytesTotal: base + cost.bytes, fits: base + cost.bytes <= memory }
    })
    .sort((a, b) => a.flop - b.flop)
}

/** @throws UserError if `auto` is wanted and no join fits in memory, in the smallest batches either */
export const planJoin = (input: PlanInput, wanted: JoinKind | 'auto' = 'auto'): Plan => {
  const { tracked, context, memory, model } = input
  const least = considerJoins({ ...input, batchTokens: input.batchTokens ?? batchTokensLeast })
  const kind = wanted === 'auto' ? least.find(({ fits }) => fits)?.kind : wanted
  if (kind === undefined) {
    const smallest = least.reduce((a, b) => (a.bytesTotal <= b.bytesTotal ? a : b))
    throw new UserError(`no join fits in ${gib(memory)}: ${least.map(show).join('; ')}`, {
      fix: `--memory ${Math.ceil(smallest.bytesTotal / 2 ** 30)}GiB, a smaller --batch-tokens or --context, fewer queries, or --track fewer layers`,
    })
  }
  const isOf = (join: PlannedJoin): boolean => join.kind === kind
  const batchTokens = input.batchTokens ?? batchTokensChoice.find((tokens) => considerJoins({ ...input, batchTokens: tokens }).find(isOf)?.fits) ?? batchTokensLeast
  const considered = considerJoins({ ...input, batchTokens })
  const chosen = considered.find(isOf) ?? considered[0]
  const batches = `batches of ${batchTokens.toLocaleString('en-US')} tokens`
  if (wanted !== 'auto') return { chosen, considered, batchTokens, reason: `${wanted}, as asked for: ${show(chosen)}, in ${batches}` }
  const others = considered.filter((join) => join !== chosen)
  const reason =
    `${chosen.kind}: ${show(chosen)} in ${batches}, the cheapest of those that fit in ${gib(memory)} ` +
    `(${others.map((join) => `${show(join)}${join.fits ? '' : ', does not fit'}`).join('; ')}; the model itself ${(modelFlop(model, tracked, context) / 1e6).toPrecision(3)} MFLOP a token)`
  return { chosen, considered, batchTokens, reason }
}

const show = ({ kind, flop, bytesTotal }: PlannedJoin): string => `${kind} ${(flop / 1e6).toPrecision(3)} MFLOP a token, ${gib(bytesTotal)}`

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 ? 2 : 0)} GiB`
