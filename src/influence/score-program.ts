/**
 * @file The program of the pass over the corpus: a batch of documents → for each its loss, the squared norm of its
 * gradient, and its influence on every query.
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, Program, ProgramSpec, StoredTensor, TensorData } from '../tensor/index.js'
import { batchTensors, sequenceInputs, type Sequence } from './batch.js'
import { batchGradients } from './gradients.js'
import { joins, type JoinKind, type JoinShape } from './joins.js'

export const scoreProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, tracked: readonly LinearLayer[], kind: JoinKind, shape: JoinShape,
): ProgramSpec => ({
  name: `scoring (${kind} join)`,
  inputs: Object.assign({ ...sequenceInputs }, ...tracked.map((layer) => joins[kind].inputs(layer, shape))) as ProgramSpec['inputs'],
  weights,
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
    const { loss, layers } = batchGradients(ops, model, tracked, value, weight)
    // Summed in the order of the backward pass, so that no layer's δ has to wait for another's.
    const sums = layers.reduce<{ scores?: T; squares?: T }>(({ scores, squares }, { layer, input, delta }) => {
      const gradient = ops.matmul(delta, input, { transA: true }) // [B, O, I']
      const square = ops.sumSquares(gradient, { axes: [1, 2] }) // [B]
      const dot = joins[kind].dot(ops, layer, shape, { delta, input, gradient }, value) // [B, Q]
      return { scores: scores === undefined ? dot : ops.add(scores, dot), squares: squares === undefined ? square : ops.add(squares, square) }
    }, {})
    if (sums.scores === undefined || sums.squares === undefined) throw new RangeError('no layer is tracked')
    return { loss, scores: sums.scores, squares: sums.squares }
  },
})

/** What one batch comes to. */
export interface BatchScores {
  /** L(z), nats: [B] */
  readonly losses: Float32Array
  /** ‖∇L(z)‖ over all tracked layers: [B] */
  readonly gradientNorms: Float32Array
  /** Influence, f32 [Q] for each document. */
  readonly influence: readonly Float32Array[]
}

/** Runs one batch of documents. */
export const scoreBatch = async (program: Program, documents: readonly Sequence[]): Promise<BatchScores> => {
  const { tokens, rows, labels } = batchTensors(documents)
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
