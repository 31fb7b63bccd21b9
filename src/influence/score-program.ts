/**
 * @file The program of the pass over the corpus: a batch of documents → for each its loss, the squared norm of its
 * gradient, and its influence on every query.
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, Precision, Program, ProgramSpec, StoredTensor, TensorData } from '../tensor/index.js'
import { batchTensors, paddedLength, sequenceInputs, type Sequence } from './batch.js'
import { documentGradient, squaredNorms, stageGradients, type LayerGradient } from './gradients.js'
import { joins, type JoinKind, type JoinShape } from './joins.js'
import { factorInputs, gradientScale } from './narrow.js'
import { stageInputs, type Stage } from './stages.js'

export interface ScoreProgramOptions {
  readonly tokensMax?: number
  readonly stage?: Stage
  /** With another one than f32, the program is bound to `scaledQueries`. */
  readonly precision?: Precision
}

export const scoreProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, tracked: readonly LinearLayer[], kind: JoinKind, shape: JoinShape,
  { tokensMax, stage, precision = 'f32' }: ScoreProgramOptions = {},
): ProgramSpec => {
  const isNarrow = precision !== 'f32'
  const scale = isNarrow ? gradientScale : 1
  const ofQueries = (layer: LinearLayer): ProgramSpec['inputs'] => ({ ...asOperands(joins[kind].inputs(layer, shape)), ...(isNarrow ? factorInputs(layer, shape) : {}) })
  return {
    name: `scoring (${kind} join)`,
    inputs: Object.assign({ ...stageInputs(model, sequenceInputs, stage) }, ...tracked.map(ofQueries)) as ProgramSpec['inputs'],
    weights,
    tokensMax,
    precision,
    build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
      let sums: { readonly scores?: T; readonly squares?: T } = {}
      // Joined layer by layer in the order of the backward pass: neither δ nor G is kept for later.
      const use = ({ layer, input, delta }: LayerGradient<T>): readonly T[] => {
        const gradient = documentGradient(ops, layer, { delta, input })
        const square = squaredNorms(ops, layer, gradient) // [B]
        const joined = joins[kind].dot(ops, layer, shape, { delta, input, gradient }, value) // [B, Q]
        const dot = isNarrow ? ops.mul(joined, value(`E/${layer.name}`)) : joined
        const scores = sums.scores === undefined ? dot : ops.add(sums.scores, dot)
        const squares = sums.squares === undefined ? square : ops.add(sums.squares, square)
        sums = { scores, squares }
        return [scores, squares]
      }
      const { ends } = stageGradients(ops, model, tracked, value, weight, { use, stage, scale })
      if (stage === undefined && tracked.length === 0) throw new RangeError('no layer is tracked')
      const { scores, squares } = sums
      if (scores === undefined || squares === undefined) return ends
      return isNarrow ? { ...ends, scores: ops.scale(scores, 1 / scale), squares: ops.scale(squares, 1 / scale ** 2) } : { ...ends, scores, squares }
    },
  }
}

/** Bound once, and read by products. */
const asOperands = (inputs: ProgramSpec['inputs']): ProgramSpec['inputs'] =>
  Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, { ...input, fixed: true, operand: true }]))

/** What one batch comes to. */
export interface BatchScores {
  /** L(z), nats: [B] */
  readonly losses: Float32Array
  /** ‖∇L(z)‖ over all tracked layers: [B] */
  readonly gradientNorms: Float32Array
  /** Influence, f32 [Q] for each document. */
  readonly influence: readonly Float32Array[]
}

/**
 * Runs one batch of documents, padded to the `paddedLength` of the longest. Where all have the same one and there are at
 * most `documentsAtOnceMax`, a document's results are the same bits as alone.
 * @param options.lengthMax positions that the model knows
 */
export const scoreBatch = async (
  program: Program, documents: readonly Sequence[], { lengthMax }: { readonly lengthMax: number },
): Promise<BatchScores> => {
  const length = paddedLength(Math.max(...documents.map(({ tokens }) => tokens.length)), lengthMax)
  const { tokens, rows, labels } = batchTensors(documents, { length })
  const { loss, squares, scores } = await program.run({ tokens, rows, labels })
  const Q = scores.shape[1]
  const data = floats(scores)
  return {
    losses: floats(loss),
    gradientNorms: floats(squares).map(Math.sqrt),
    influence: documents.map((_, b) => data.slice(b * Q, (b + 1) * Q)),
  }
}

const floats = ({ data, type }: TensorData): Float32Array => {
  if (!(data instanceof Float32Array)) throw new TypeError(`an output is ${type}, not float32`)
  return data
}
