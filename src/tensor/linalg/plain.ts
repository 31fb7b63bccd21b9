/**
 * @file The oracle: symmetric eigendecomposition by cyclic Jacobi rotations, written to be read.
 * Slow (a few n³·10 flops) and accurate; `eigh` has the same result up to rounding and the choice of a basis within
 * equal eigenvalues. Golub and Van Loan, Matrix Computations, §8.5.
 */
import { checked, symmetrised, type Eigen } from './eigen.js'

/** Sweeps over all pairs: convergence is quadratic, so a dozen is many. */
const sweepsMax = 60

/** Convergence is quadratic: a sweep that met nothing larger than this, relative to ‖A‖, has left only rounding. */
const nearlyDone = 2 ** -50

/**
 * The eigendecomposition A = V diag(values) Vᵀ.
 * @param matrix f64 [n, n], row-major; (A + Aᵀ)/2 is decomposed. Not changed.
 * @returns values f64 [n] ascending; vectors f64 [n, n] row-major, column j belongs to values[j]
 * @throws  UserError for a NaN or an infinity
 */
export const eighPlain = (matrix: Float64Array, n: number): Eigen => {
  checked(matrix, n)
  const a = symmetrised(matrix, n)
  const v = identity(n)
  const size = norm(a)
  for (let sweep = 0, most = size; most > nearlyDone * size; sweep++) {
    if (sweep === sweepsMax) throw new Error(`Jacobi did not converge in ${sweepsMax} sweeps of n = ${n}`)
    most = 0
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q]
        if (Math.abs(apq) <= size * 2 ** -100) continue
        most = Math.max(most, Math.abs(apq))
        const { c, s } = jacobi(a[p * n + p], apq, a[q * n + q])
        rotate(a, { from: p * n, to: q * n, step: 1, n, c, s }) // rows:    Jᵀ A
        rotate(a, { from: p, to: q, step: n, n, c, s }) // columns: (Jᵀ A) J
        rotate(v, { from: p, to: q, step: n, n, c, s }) // V J
      }
  }
  return ascending(
    Float64Array.from({ length: n }, (_, i) => a[i * n + i]),
    v,
    n,
  )
}

/** The rotation (c, s) that makes [c −s; s c] [app apq; apq aqq] [c s; −s c] diagonal, with the smaller angle. */
const jacobi = (app: number, apq: number, aqq: number): { c: number; s: number } => {
  const cot = (aqq / 2 - app / 2) / apq
  const t = (cot < 0 ? -1 : 1) / (Math.abs(cot) + Math.hypot(1, cot))
  const c = 1 / Math.hypot(1, t)
  return { c, s: t * c }
}

interface Pair {
  readonly from: number
  readonly to: number
  readonly step: number
  readonly n: number
  readonly c: number
  readonly s: number
}

/** (x, y) ← (c x − s y, s x + c y) for two rows (step 1) or two columns (step n). */
const rotate = (m: Float64Array, { from, to, step, n, c, s }: Pair): void => {
  for (let k = 0, i = from, j = to; k < n; k++, i += step, j += step) {
    const x = m[i]
    const y = m[j]
    m[i] = c * x - s * y
    m[j] = s * x + c * y
  }
}

const identity = (n: number): Float64Array => {
  const v = new Float64Array(n * n)
  for (let i = 0; i < n; i++) v[i * n + i] = 1
  return v
}

/** The Frobenius norm. */
const norm = (a: Float64Array): number => {
  let most = 0
  for (const x of a) most = Math.max(most, Math.abs(x))
  if (most === 0) return 0
  let sum = 0
  for (const x of a) sum += (x / most) ** 2
  return most * Math.sqrt(sum)
}

/** Values in ascending order, and the columns of v with them. */
const ascending = (values: Float64Array, v: Float64Array, n: number): Eigen => {
  const order = Array.from(values.keys()).sort((i, j) => values[i] - values[j])
  const vectors = new Float64Array(n * n)
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) vectors[i * n + j] = v[i * n + order[j]]
  return { values: Float64Array.from(order, (i) => values[i]), vectors }
}
