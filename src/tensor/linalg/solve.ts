/**
 * @file The symmetric eigenproblem of one matrix on one thread: tridiagonalise, solve, transform back.
 */
import { implicitQl } from './ql.js'
import { symmetrised, type Eigen } from './eigen.js'

/**
 * A = V diag(values) Vᵀ.
 * @param matrix f64 [n, n], row-major, finite; (A + Aᵀ)/2 is decomposed. Not changed.
 */
export const decompose = (matrix: Float64Array, n: number): Eigen => {
  const a = symmetrised(matrix, n)
  const scale = scaleToOne(a)
  const d = new Float64Array(n)
  const e = new Float64Array(n)
  const tau = new Float64Array(n)
  tridiagonalise(a, n, { d, e, tau })
  const z = new Float64Array(n * n)
  for (let i = 0; i < n; i++) z[i * n + i] = 1
  implicitQl(d, e, z, { at: 0, n, stride: n })
  transformBack(z, a, n, tau)
  const order = Array.from(d.keys()).sort((i, j) => d[i] - d[j])
  const vectors = new Float64Array(n * n)
  for (let j = 0; j < n; j++) for (let i = 0; i < n; i++) vectors[i * n + j] = z[order[j] * n + i]
  return { values: Float64Array.from(order, (i) => d[i] * scale), vectors }
}

/** Scales by a power of two to a largest entry in [½, 1); entries that are negligible beside it become zero. */
const scaleToOne = (a: Float64Array): number => {
  let most = 0
  for (const x of a) most = Math.max(most, Math.abs(x))
  if (most === 0) return 1
  const exponent = Math.max(-1022, Math.min(1023, Math.floor(Math.log2(most)) + 1))
  const down = 2 ** -Math.floor(exponent / 2)
  const down2 = 2 ** -Math.ceil(exponent / 2)
  for (let i = 0; i < a.length; i++) {
    const x = a[i] * down * down2
    a[i] = Math.abs(x) < 2 ** -400 ? 0 : x
  }
  return 2 ** exponent
}

const tridiagonalise = (
  a: Float64Array,
  n: number,
  { d, e, tau }: { d: Float64Array; e: Float64Array; tau: Float64Array },
): void => {
  const w = new Float64Array(n)
  for (let k = 0; k < n; k++) {
    d[k] = a[k * n + k]
    if (k === n - 1) break
    const row = k * n
    let square = 0
    for (let j = k + 2; j < n; j++) square += a[row + j] ** 2
    const alpha = a[row + k + 1]
    if (square === 0) {
      e[k] = alpha
      continue
    }
    const beta = alpha < 0 ? Math.sqrt(alpha * alpha + square) : -Math.sqrt(alpha * alpha + square)
    e[k] = beta
    tau[k] = (beta - alpha) / beta
    a[row + k + 1] = 1
    for (let j = k + 2; j < n; j++) {
      const x = a[row + j] / (alpha - beta)
      a[row + j] = Math.abs(x) < 2 ** -100 ? 0 : x
    }
    let dot = 0
    for (let i = k + 1; i < n; i++) {
      let sum = 0
      for (let j = k + 1; j < n; j++) sum += a[i * n + j] * a[row + j]
      w[i] = tau[k] * sum
      dot += w[i] * a[row + i]
    }
    for (let i = k + 1; i < n; i++) w[i] -= 0.5 * tau[k] * dot * a[row + i]
    for (let i = k + 1; i < n; i++)
      for (let j = k + 1; j < n; j++) a[i * n + j] -= a[row + i] * w[j] + w[i] * a[row + j]
  }
}

const transformBack = (z: Float64Array, a: Float64Array, n: number, tau: Float64Array): void => {
  for (let k = n - 2; k >= 0; k--) {
    if (tau[k] === 0) continue
    for (let r = 0; r < n; r++) {
      let dot = 0
      for (let j = k + 1; j < n; j++) dot += z[r * n + j] * a[k * n + j]
      dot *= tau[k]
      for (let j = k + 1; j < n; j++) z[r * n + j] -= dot * a[k * n + j]
    }
  }
}
