/**
 * @file A = Q T Qᵀ with T tridiagonal and Q a product of Householder reflections; and from eigenvectors of T to those
 * of A. Blocked as in LAPACK's dsytrd and dormtr (Dongarra, Sorensen, Hammarling 1989; Schreiber, Van Loan 1989):
 * half of the reduction is a symmetric matrix times a vector, for which each number of one triangle is read once; all
 * else is matrix products.
 *
 * Row k of A, right of the diagonal, ends as the reflection H_k = I − τ_k v_k v_kᵀ:
 *
 *       k   k+1
 *   k  [d_k  1   v_k ..]     columns ≤ k of row k: junk
 */
import type { Kernels, Operand } from './kernels.js'

/** Reflections that are gathered before the rest of the matrix is updated. */
const panelMax = 32
/** Reflections that are applied to eigenvectors at once. */
const backMax = 64
/** Relative to a vector of size 1, or a matrix of norm 1, numbers below are set to zero, lest products be denormal. */
const tiny = 2 ** -100
const tinyProduct = 2 ** -300

export interface Tridiagonal {
  /** f64 [n] */
  readonly diagonal: Float64Array
  /** f64 [n], the last is not part of T. */
  readonly off: Float64Array
  /** f64 [n], the factors of the reflections. */
  readonly tau: Float64Array
}

/** Numbers of work space for n. */
export const tridiagonaliseRoom = (stride: number): number => (panelMax + 6) * stride + 4 * panelMax + 64

/**
 * Reduces A [n, n], of which the upper triangle is read, in place.
 * The stride has room for 4 columns more, all zero, and stays so.
 */
export const tridiagonalise = (kernels: Kernels, n: number, a: Operand, goOn: () => void): Tridiagonal => {
  const { at, stride } = a
  const x = kernels.numbers
  const t: Tridiagonal = {
    diagonal: new Float64Array(n),
    off: new Float64Array(n),
    tau: new Float64Array(n),
  }
  const w: Operand = { at: kernels.take((panelMax + 4) * stride), stride }
  const coefficients = kernels.take(panelMax + 4)
  const coefficients2 = kernels.take(panelMax + 4)

  for (let k0 = 0; k0 < n; k0 += panelMax) {
    goOn()
    const panel = Math.min(panelMax, n - k0)
    for (let i = 0; i < panel; i++) {
      const k = k0 + i
      const row = at + k * stride
      const done = { rows: i, length: n - k } // the reflections of the panel so far
      // Row k is behind by those: A[k] −= Σ_j v_j[k] w_j + w_j[k] v_j.
      if (i > 0) {
        for (let j = 0; j < i; j++) x[coefficients + j] = -x[w.at + j * stride + k]
        for (let j = 0; j < i; j++) x[coefficients2 + j] = -x[at + (k0 + j) * stride + k]
        x.fill(0, coefficients + i, coefficients + i + 4)
        x.fill(0, coefficients2 + i, coefficients2 + i + 4)
        kernels.addRows(done, { at: at + k0 * stride + k, stride }, coefficients, row + k)
        kernels.addRows(done, { at: w.at + k, stride }, coefficients2, row + k)
      }
      t.diagonal[k] = x[row + k]
      if (k === n - 1) break
      const v = row + k + 1
      const left = n - k - 1
      const { beta, tau } = reflection(x, v, left)
      t.off[k] = beta
      t.tau[k] = tau
      // w = τ (A − V Wᵀ − W Vᵀ) v, less the half of its part along v.
      const wi = w.at + i * stride + k + 1
      x.fill(0, w.at + i * stride, w.at + (i + 1) * stride)
      if (tau === 0) continue
      kernels.symmetricTimes(left, { at: at + (k + 1) * stride + k + 1, stride }, v, wi)
      x.fill(0, wi + left, w.at + (i + 1) * stride)
      if (i > 0) {
        const vs: Operand = { at: at + k0 * stride + k + 1, stride }
        const ws: Operand = { at: w.at + k + 1, stride }
        const rest = { rows: i, length: left }
        kernels.dotRows(rest, ws, v, coefficients)
        kernels.dotRows(rest, vs, v, coefficients2)
        for (let j = 0; j < i; j++) {
          x[coefficients + j] = -x[coefficients + j]
          x[coefficients2 + j] = -x[coefficients2 + j]
        }
        x.fill(0, coefficients + i, coefficients + i + 4)
        x.fill(0, coefficients2 + i, coefficients2 + i + 4)
        kernels.addRows(rest, vs, coefficients, wi)
        kernels.addRows(rest, ws, coefficients2, wi)
      }
      balance(x, { v, w: wi, length: left, tau })
    }
    const k1 = k0 + panel
    if (k1 >= n) break
    kernels.subtractSymmetric(
      { n: n - k1, k: panel },
      { at: at + k0 * stride + k1, stride },
      { at: w.at + k1, stride },
      { at: at + k1 * stride + k1, stride },
    )
  }
  return t
}

/** x [length] becomes v with v₁ = 1, and H x = β e₁ for H = I − τ v vᵀ. */
const reflection = (x: Float64Array, at: number, length: number): { beta: number; tau: number } => {
  const alpha = x[at]
  let square = 0
  for (let j = 1; j < length; j++) square += x[at + j] * x[at + j]
  x[at] = 1
  const size = Math.sqrt(alpha * alpha + square)
  if (square === 0 || size < tinyProduct) {
    x.fill(0, at + 1, at + length)
    return { beta: alpha, tau: 0 }
  }
  const beta = alpha < 0 ? size : -size
  const scale = 1 / (alpha - beta)
  for (let j = 1; j < length; j++) {
    const value = x[at + j] * scale
    x[at + j] = Math.abs(value) < tiny ? 0 : value
  }
  return { beta, tau: (beta - alpha) / beta }
}

/** w ← τ w − ½ τ (τ wᵀv) v */
const balance = (
  x: Float64Array,
  { v, w, length, tau }: { v: number; w: number; length: number; tau: number },
): void => {
  let dot = 0
  for (let j = 0; j < length; j++) dot += x[w + j] * x[v + j]
  const half = 0.5 * tau * tau * dot
  for (let j = 0; j < length; j++) {
    const value = tau * x[w + j] - half * x[v + j]
    x[w + j] = Math.abs(value) < tinyProduct ? 0 : value
  }
}

/** Numbers of work space for n. */
export const transformBackRoom = (n: number, stride: number): number =>
  2 * (backMax + 4) * stride + (n + 4) * (backMax + 8) + 2 * (backMax + 4) * (backMax + 8) + 64

/** Rows of Z [n, n] are eigenvectors of T, and become eigenvectors of A: z ← Q z. */
export const transformBack = (kernels: Kernels, n: number, z: Operand, a: Operand, tau: Float64Array, goOn: () => void): void => {
  const x = kernels.numbers
  const v: Operand = { at: kernels.take((backMax + 4) * a.stride), stride: a.stride } // [b, m] the reflections
  const tv: Operand = { at: kernels.take((backMax + 4) * a.stride), stride: a.stride } // [b, m] Tᵀ V
  const s = backMax + 8
  const zv: Operand = { at: kernels.take((n + 4) * s), stride: s } // [n, b]
  const gram: Operand = { at: kernels.take((backMax + 4) * s), stride: s } // [b, b]
  const t: Operand = { at: kernels.take((backMax + 4) * s), stride: s } // [b, b] Tᵀ

  // H_0 H_1 .. z: the last block first.
  for (let k0 = Math.floor((n - 2) / backMax) * backMax; k0 >= 0; k0 -= backMax) {
    goOn()
    const b = Math.min(backMax, n - 1 - k0)
    const m = n - k0 - 1 // columns from k0 + 1
    for (let j = 0; j < b; j++) {
      const to = v.at + j * v.stride
      x.fill(0, to, to + v.stride)
      x.copyWithin(to + j, a.at + (k0 + j) * a.stride + k0 + j + 1, a.at + (k0 + j) * a.stride + n)
    }
    clear(x, gram, b, s)
    kernels.multiply({ m: b, n: b, k: m }, v, { ...v, transposed: true }, gram)
    compact(x, b, { t, gram, tau, k0 })
    clear(x, tv, b, v.stride)
    kernels.multiply({ m: b, n: m, k: b }, t, v, tv)
    // z ← z − (z V) (Tᵀ Vᵀ), with V by columns.
    const part: Operand = { at: z.at + k0 + 1, stride: z.stride }
    clear(x, zv, n, s)
    kernels.multiply({ m: n, n: b, k: m }, part, { ...v, transposed: true }, zv)
    kernels.multiply({ m: n, n: m, k: b, alpha: -1 }, zv, tv, part)
  }
}

/** Tᵀ for H_0 .. H_{b−1} = I − V T Vᵀ: lower triangular, Tᵀ[j, 0..j] = −τ_j (Vᵀ v_j)[0..j]ᵀ Tᵀ[0..j, 0..j]. */
const compact = (
  x: Float64Array,
  b: number,
  { t, gram, tau, k0 }: { t: Operand; gram: Operand; tau: Float64Array; k0: number },
): void => {
  clear(x, t, b, t.stride)
  for (let j = 0; j < b; j++) {
    const row = t.at + j * t.stride
    for (let l = 0; l < j; l++) {
      const factor = -tau[k0 + j] * x[gram.at + j * gram.stride + l]
      const from = t.at + l * t.stride
      for (let i = 0; i <= l; i++) x[row + i] += factor * x[from + i]
    }
    x[row + j] = tau[k0 + j]
  }
}

const clear = (x: Float64Array, { at, stride }: Operand, rows: number, columns: number): void => {
  for (let i = 0; i < rows; i++) x.fill(0, at + i * stride, at + i * stride + columns)
}
