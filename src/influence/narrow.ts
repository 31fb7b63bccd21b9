/**
 * @file Scoring with products of 16 bits. float16 ends at 65,504 and is inexact below 6·10⁻⁵, and both queries (their size
 * goes with 1/λ) and gradients have sizes of their own. Scores are linear in either, so both are brought to sizes that
 * float16 is good at, by powers of two, which round nothing; in float32 the scores get the factors back.
 *
 *     E[q] of a layer    2^e: what the query's tensors in that layer were divided by, all together
 *     gradientScale      of every δ: the seed of the backward pass
 */
import type { LinearLayer } from '../model/index.js'
import type { InputSpec, TensorData } from '../tensor/index.js'
import type { JoinKind, JoinShape } from './joins.js'
import { lowRankOf, sharedWidths } from './precondition.js'

/** With room on both sides; not tuned. How near scores come with it: docs/engines.md. */
export const gradientScale = 2 ** 6

/** The norm that a query gets in a layer, within a factor of 2: its numbers are then about this over √(their count). */
const queryNorm = 32

/** What brings the factors back: `E/<layer>` [Q]. */
export const factorInputs = (layer: LinearLayer, { queries }: Pick<JoinShape, 'queries'>): Readonly<Record<string, InputSpec>> => ({
  [`E/${layer.name}`]: { type: 'float32', shape: [queries], fixed: true },
})

/** The queries' tensors of a join, f32, each divided by a power of two, with the factors `E/<layer>`; in place, as they are moved anyway. */
export const scaledQueries = (
  kind: JoinKind, layers: readonly LinearLayer[], { queries, rank }: JoinShape, tensors: Readonly<Record<string, TensorData>>,
): Readonly<Record<string, TensorData>> => {
  const factors: Record<string, TensorData> = {}
  const dataOf = (name: string): Float32Array => {
    const { data } = tensors[name]
    if (!(data instanceof Float32Array)) throw new TypeError(`"${name}" is not float32`)
    return data
  }
  for (const layer of layers) {
    const exponents = new Array<number>(queries).fill(0)
    const scale = (name: string, norm: number, parts: (data: Float32Array, q: number) => Part): void => {
      const data = dataOf(name)
      for (let q = 0; q < queries; q++) exponents[q] += divided(data, parts(data, q), norm)
    }
    /** All queries have it in common. */
    const scaleAll = (name: string, norm: number): void => {
      const data = dataOf(name)
      const exponent = divided(data, { from: 0, width: data.length, stride: data.length }, norm)
      for (let q = 0; q < queries; q++) exponents[q] += exponent
    }
    const ofRow = (data: Float32Array, q: number): Part => ({ from: q * (data.length / queries), width: data.length / queries, stride: data.length })
    if (kind === 'dense') scale(`Q/${layer.name}`, queryNorm, ofRow)
    else if (kind === 'low-rank') {
      const R = lowRankOf(layer, rank)
      const ofColumns = (_data: Float32Array, q: number): Part => ({ from: q * R, width: R, stride: queries * R })
      scale(`U/${layer.name}`, queryNorm, ofColumns)
      scale(`V/${layer.name}`, 1, ofColumns)
    } else {
      const [kO, kI] = sharedWidths(layer, rank)
      // As bases: columns of about length 1.
      scaleAll(`P/${layer.name}`, Math.sqrt(kO))
      scaleAll(`R/${layer.name}`, Math.sqrt(kI))
      scale(`C/${layer.name}`, queryNorm, ofRow)
    }
    factors[`E/${layer.name}`] = { type: 'float32', shape: [queries], data: Float32Array.from(exponents, (e) => 2 ** e) }
  }
  return { ...tensors, ...factors }
}

/** Runs of `width` numbers from `from` on, every `stride`, to the end. */
interface Part {
  readonly from: number
  readonly width: number
  readonly stride: number
}

/** Divides by the power of two that leaves a norm of `norm` to twice that; gives the exponent. */
const divided = (data: Float32Array, { from, width, stride }: Part, norm: number): number => {
  let squares = 0
  for (let row = from; row < data.length; row += stride) for (let i = row; i < row + width; i++) squares += data[i] * data[i]
  if (squares === 0 || !Number.isFinite(squares)) return 0
  const exponent = Math.floor(Math.log2(Math.sqrt(squares) / norm))
  const factor = 2 ** -exponent
  for (let row = from; row < data.length; row += stride) for (let i = row; i < row + width; i++) data[i] *= factor
  return exponent
}
