/**
 * @file What the benches of fitting and scoring share: inputs as bench/peer/make-inputs writes them, the passes of a fit and of a
 * scoring over a few batches, and the rate of products beside each. Times are medians of the batches, the first one left out.
 */
import { readFileSync } from 'node:fs'
import { quantile } from '../src/analysis/statistics.js'
import {
  batchTensors, boundBases, completed, covarianceFlop, covarianceOf, covarianceProgram, covarianceShapes, eigenvalueFlop, eigenvalueProgram, inputFile, inputName, inputWidth,
  joinCost, joins, layerFile, modelFlop, openFactors, scoreBatch, scoreProgram, writeBasis, writeEigenvalues, writeManifest,
  type Basis, type FactorManifest, type FactorSet, type JoinKind, type JoinShape,
} from '../src/influence/index.js'
import type { Checkpoint, LinearLayer } from '../src/model/index.js'
import { eighAll, gemmRate, type Engine, type Program, type TensorData } from '../src/tensor/index.js'

/** Of a pass. */
export interface Speed {
  readonly tokensPerSecond: number
  readonly flopAToken: number
  /** FLOP/s of products: the better of before and after. */
  readonly gemmRate: number
}

/** Of the rate of products beside it. */
export const shareOf = ({ tokensPerSecond, flopAToken, gemmRate: rate }: Speed): number => (tokensPerSecond * flopAToken) / rate

export const secondsOf = async (work: () => Promise<unknown>): Promise<number> => {
  const began = performance.now()
  await work()
  return (performance.now() - began) / 1e3
}

export const median = (numbers: readonly number[]): number => quantile(numbers, 0.5)

export const jsonLines = <Row>(path: string): readonly Row[] => readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Row)

export type Tokens = readonly number[]

/** The highest resident memory of this process so far. */
export const peakBytes = (): number => process.resourceUsage().maxRSS * 1024

/** Batch i of the documents, which come again when all were taken. */
export const batchAt = (documents: readonly Tokens[], i: number, { batch }: { readonly batch: number }): readonly Tokens[] =>
  Array.from({ length: batch }, (_, b) => documents[(i * batch + b) % documents.length])

/** FLOP a token of scoring in a join. */
export const scoreFlop = (
  { model }: Pick<Checkpoint, 'model'>, tracked: readonly LinearLayer[], kind: JoinKind, shape: JoinShape, context: number,
): number =>
  modelFlop(model, tracked, context) + joinCost(kind, tracked, shape, context).flop

/** Tensors of no meaning in the place of prepared queries: of the numbers that `next` gives, else all the same. */
export const madeQueries = (kind: JoinKind, tracked: readonly LinearLayer[], shape: JoinShape, next?: () => number): Readonly<Record<string, TensorData>> =>
  Object.fromEntries(
    tracked.flatMap((layer) => Object.entries(joins[kind].inputs(layer, shape)).map(([name, spec]): [string, TensorData] => {
      const known = spec.shape.map(Number)
      const data = new Float32Array(known.reduce((product, d) => product * d, 1))
      if (next === undefined) data.fill(1e-4)
      else for (let i = 0; i < data.length; i++) data[i] = next()
      return [name, { type: 'float32', shape: known, data }]
    })),
  )

export interface Amount {
  /** All of one length. */
  readonly documents: readonly Tokens[]
  /** Documents of a batch. */
  readonly batch: number
  /** Timed ones; one more is computed. */
  readonly batches: number
}

/** Scoring with prepared or made queries, whose buffers it takes. */
export const timeScoring = async (
  engine: Engine, { model, tensors }: Pick<Checkpoint, 'model' | 'tensors'>, tracked: readonly LinearLayer[],
  { kind, shape, queries, documents, batch, batches }: Amount & { readonly kind: JoinKind; readonly shape: JoinShape; readonly queries: Readonly<Record<string, TensorData>> },
): Promise<Speed> => {
  const context = documents[0].length
  const before = await gemmRate(engine)
  await using program = await engine.compile(scoreProgram(model, tensors, tracked, kind, shape, { tokensMax: context }))
  await program.bind(queries)
  const times: number[] = []
  for (let i = 0; i <= batches; i++)
    times.push(await secondsOf(() => scoreBatch(program, batchAt(documents, i, { batch }).map((tokens) => ({ tokens })), { lengthMax: model.positionsMax })))
  return {
    tokensPerSecond: (batch * context) / median(times.slice(1)), flopAToken: scoreFlop({ model }, tracked, kind, shape, context),
    gemmRate: Math.max(before, await gemmRate(engine)),
  }
}

export interface TimedFit {
  readonly covariances: Speed
  readonly eigenvalues: Speed
  readonly eigendecompositions: number
  readonly eigendecompositionSeconds: number
  /** Of the pass that has more. */
  readonly sumBytes: number
  readonly factors: FactorSet
}

/** Both passes over a few batches and the decompositions between them; writes the factor set to `folder`. */
export const timeFit = async (
  engine: Engine, { model, tensors }: Checkpoint, tracked: readonly LinearLayer[], folder: string,
  { documents, batch, batches, track }: Amount & { readonly track: string },
): Promise<TimedFit> => {
  const context = documents[0].length
  const count = Math.max(2, batches) + 1
  const tokensOf = (times: readonly number[]): number => (batch * context) / median(times.slice(1))
  const uniforms = Array.from({ length: context - 1 }, (_, t) => ((t + 1) * 0.618034) % 1)
  const inputsAt = (i: number) => batchTensors(batchAt(documents, i, { batch }).map((tokens) => ({ tokens, uniforms })))
  const rates = [await gemmRate(engine)]

  const first = await firstPass(engine, { model, tensors }, tracked, { count, batch, context, inputsAt, tokensOf })
  rates.push(first.gemmRate)
  const { bases } = first

  const manifest = manifestOf(tracked, { strategy: 'ekfac', track, context, batch })
  await writeManifest(folder, manifest)
  for (const [name, basis] of bases.inputs) await writeBasis(inputFile(folder, manifest, name), basis)
  for (const [name, basis] of bases.outputs) await writeBasis(layerFile(folder, manifest, name, 'basis'), basis)

  rates.push(await gemmRate(engine))
  await using program = await engine.compile(eigenvalueProgram(model, tensors, tracked, bases, { empirical: false, context }))
  await program.bind(boundBases(bases))
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const { tokens, rows, uniforms: u } = inputsAt(i)
    times.push(await secondsOf(() => program.run({ tokens, rows, uniforms: u })))
  }
  rates.push(await gemmRate(engine))
  for (const layer of tracked) {
    const means = Float32Array.from(program.sums[`L/${layer.name}`], (sum) => sum / (count * batch))
    await writeEigenvalues(layerFile(folder, manifest, layer.name, 'eigenvalues'), means, [layer.outputs, inputWidth(layer)])
  }
  await writeManifest(folder, await completed(folder, manifest))
  return {
    covariances: {
      tokensPerSecond: first.tokensPerSecond, flopAToken: covarianceFlop(model, tracked, context), gemmRate: Math.max(rates[0], rates[1]),
    },
    eigenvalues: { tokensPerSecond: tokensOf(times), flopAToken: eigenvalueFlop(model, tracked, context), gemmRate: Math.max(rates[2], rates[3]) },
    eigendecompositions: first.eigendecompositions, eigendecompositionSeconds: first.eigendecompositionSeconds,
    sumBytes: Math.max(first.sumBytes, bytesOf(program.sums)),
    factors: await openFactors(folder, 'bench', tracked),
  }
}

/** Covariances and their eigenbases; the sums are let go of. */
const firstPass = async (
  engine: Engine, { model, tensors }: Pick<Checkpoint, 'model' | 'tensors'>, tracked: readonly LinearLayer[],
  { count, batch, context, inputsAt, tokensOf }: {
    readonly count: number; readonly batch: number; readonly context: number
    readonly inputsAt: (i: number) => ReturnType<typeof batchTensors>; readonly tokensOf: (times: readonly number[]) => number
  },
) => {
  await using program = await engine.compile(covarianceProgram(model, tensors, tracked, { empirical: false, context }))
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const { tokens, rows, uniforms, real } = inputsAt(i)
    times.push(await secondsOf(() => program.run({ tokens, rows, uniforms, real })))
  }
  const rate = await gemmRate(engine)
  const bases = { inputs: new Map<string, Basis>(), outputs: new Map<string, Basis>() }
  const shapes = covarianceShapes(tracked)
  const eigendecompositionSeconds = await secondsOf(async () => {
    const jobs = shapes.map((shape) => ({ matrix: covarianceOf(program.sums, shape, count * batch * context), n: shape.width }))
    let at = 0
    for await (const { values, vectors } of eighAll(jobs, { threads: engine.threads })) {
      const { name, width } = shapes[at++]
      const basis: Basis = { width, values: values.map((v) => Math.max(v, 0)), blocks: [{ from: 0, size: width, vectors: Float32Array.from(vectors) }] }
      if (name.startsWith('A/')) bases.inputs.set(name.slice(2), basis)
      else bases.outputs.set(name.slice(2), basis)
    }
  })
  return {
    bases, tokensPerSecond: tokensOf(times), gemmRate: rate, eigendecompositions: shapes.length, eigendecompositionSeconds,
    sumBytes: bytesOf(program.sums),
  }
}

/** A factor set that leaves gradients as they are. */
export const identityFactors = async (
  tracked: readonly LinearLayer[], folder: string, settings: Omit<FitOf, 'strategy'>,
): Promise<FactorSet> => {
  const manifest = manifestOf(tracked, { strategy: 'identity', ...settings })
  await writeManifest(folder, manifest)
  await writeManifest(folder, await completed(folder, manifest))
  return openFactors(folder, 'bench', tracked)
}

const bytesOf = (sums: Program['sums']): number => Object.values(sums).reduce((bytes, { byteLength }) => bytes + byteLength, 0)

interface FitOf {
  readonly strategy: 'ekfac' | 'identity'
  readonly track: string
  readonly context: number
  readonly batch: number
}

const manifestOf = (tracked: readonly LinearLayer[], { strategy, track, context, batch }: FitOf): FactorManifest => ({
  format: 1, model: 'bench', ends: [], stage: 'complete', sequences: batch, tokens: batch * context, unusable: 0, seals: null, hash: null,
  settings: {
    strategy, empirical: false, blocks: 1, track, seed: 0, context, batchTokens: batch * context, long: 'truncate', engine: 'onnx', documents: batch, checkpoint: 'bench',
  },
  layers: tracked.map((layer) => ({ name: layer.name, outputs: layer.outputs, inputs: layer.inputs, bias: layer.bias, input: inputName(layer) })),
})
