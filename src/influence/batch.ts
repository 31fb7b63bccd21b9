/** @file Token sequences → the tensors of one batch. */
import { lengthMin } from '../model/index.js'
import type { InputSpec, TensorData } from '../tensor/index.js'

export { paddedLength } from '../model/index.js'

/** One sequence of a batch. */
export interface Sequence {
  readonly tokens: ArrayLike<number>
  /** Positions before this one carry no loss of their own: a query's prompt. 1 or more; documents have 1. */
  readonly lossFrom?: number
  /** Uniform numbers in [0, 1), one for each predicted token: from them labels are sampled in place of the real ones. */
  readonly uniforms?: ArrayLike<number>
}

/** The inputs that every program over sequences has. N is the number of predicted tokens in the batch. */
export const sequenceInputs = {
  tokens: { type: 'int64', shape: ['B', 'T'] },
  rows: { type: 'int64', shape: ['N'] },
  labels: { type: 'int64', shape: ['N'] },
} as const satisfies Readonly<Record<string, InputSpec>>

/** The same with the labels of a fit: the real ones, or uniform numbers to sample them by. */
export const fitInputs = (empirical: boolean): Readonly<Record<string, InputSpec>> =>
  empirical ? sequenceInputs : { tokens: sequenceInputs.tokens, rows: sequenceInputs.rows, uniforms: { type: 'float32', shape: ['N', 1] } }

/** For programs that average over tokens (M real tokens). */
export const realInputs = { real: { type: 'int64', shape: ['M'] } } as const satisfies Readonly<Record<string, InputSpec>>


const int64 = (values: readonly number[], shape: readonly number[]): TensorData => ({ type: 'int64', shape, data: BigInt64Array.from(values, BigInt) })

/**
 * Right-padded tokens [B, T] (padding is id 0: nothing sees it), and flat positions b·T + t: `rows` that predict, with
 * their `labels`; `real`, those that are not padding. `length` is T; absent, that of the longest.
 */
export const batchTensors = (
  sequences: readonly Sequence[], { length = Math.max(lengthMin, ...sequences.map(({ tokens }) => tokens.length)) }: { readonly length?: number } = {},
): Readonly<Record<'tokens' | 'rows' | 'labels' | 'uniforms' | 'real', TensorData>> => {
  const tokens = new BigInt64Array(sequences.length * length)
  const rows: number[] = []
  const labels: number[] = []
  const uniforms: number[] = []
  const real: number[] = []
  sequences.forEach((sequence, b) => {
    const from = sequence.lossFrom ?? 1
    for (let t = 0; t < sequence.tokens.length; t++) {
      tokens[b * length + t] = BigInt(sequence.tokens[t])
      real.push(b * length + t)
      if (t < from) continue
      rows.push(b * length + t - 1)
      labels.push(sequence.tokens[t])
      uniforms.push(sequence.uniforms?.[t - from] ?? 0)
    }
  })
  return {
    tokens: { type: 'int64', shape: [sequences.length, length], data: tokens },
    rows: int64(rows, [rows.length]),
    labels: int64(labels, [labels.length]),
    uniforms: { type: 'float32', shape: [uniforms.length, 1], data: Float32Array.from(uniforms) },
    real: int64(real, [real.length]),
  }
}
