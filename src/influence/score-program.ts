/**
 * @file The program of the pass over the corpus: a batch of documents → for each its loss, the squared norm of its
 * gradient, and its influence on every query.
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, Program, ProgramSpec, StoredTensor, TensorData } from '../tensor/index.js'
import { batchTensors, paddedLength, sequenceInputs, type Sequence } from './batch.js'
import { stageGradients, type LayerGradient } from './gradients.js'
import { joins, type JoinKind, type JoinShape } from './joins.js'
import { stageInputs, type Stage } from './stages.js'

export const scoreProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, tracked: readonly LinearLayer[], kind: JoinKind, shape: JoinShape,
  { tokensMax, stage }: { readonly tokensMax?: number; readonly stage?: Stage } = {},
): ProgramSpec => ({
  name: `scoring (${kind} join)`,
  inputs: Object.assign({ ...stageInputs(model, sequenceInputs, stage) }, ...tracked.map((layer) => joins[kind].inputs(layer, shape))) as ProgramSpec['inputs'],
  weights,
  tokensMax,
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
    let sums: Readonly<Record<string, T>> = {} // `scores`, `squares`
    // Joined layer by layer in the order of the backward pass: neither δ nor G is kept for later.
    const use = ({ layer, input, delta }: LayerGradient<T>): readonly T[] => {
      const gradient = ops.matmul(delta, input, { transA: true }) // [B, O, I']
      const square = ops.sumSquares(gradient, { axes: [1, 2] }) // [B]
      const dot = joins[kind].dot(ops, layer, shape, { delta, input, gradient }, value) // [B, Q]
      const scores = sums.scores === undefined ? dot : ops.add(sums.scores, dot)
      const squares = sums.squares === undefined ? square : ops.add(sums.squares, square)
      sums = { scores, squares }
      return [scores, squares]
    }
    const { ends } = stageGradients(ops, model, tracked, value, weight, { use, stage })
    if (stage === undefined && tracked.length === 0) throw new RangeError('no layer is tracked')
    return { ...ends, ...sums }
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
