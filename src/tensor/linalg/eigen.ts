/**
 * @file What every eigensolver here takes and gives.
 */
import { UserError } from '../../base/index.js'

/** A = V diag(values) Vᵀ. */
export interface Eigen {
  /** f64 [n], ascending. */
  readonly values: Float64Array
  /** f64 [n, n], row-major, orthogonal; column j is the eigenvector of values[j]. */
  readonly vectors: Float64Array
}

/** A symmetric matrix to decompose: f64 [n, n], row-major. */
export interface Symmetric {
  readonly matrix: Float64Array
  readonly n: number
}

/**
 * Refuses what has no eigendecomposition.
 * @throws UserError naming the first NaN or infinity; RangeError if the length isn't n²
 */
export const checked = (matrix: Float64Array, n: number): void => {
  if (!Number.isInteger(n) || n < 0 || matrix.length !== n * n)
    throw new RangeError(`eigh: a matrix of ${matrix.length} numbers is not ${n} × ${n}`)
  for (let i = 0; i < matrix.length; i++)
    if (!Number.isFinite(matrix[i]))
      throw new UserError(`eigh: ${matrix[i]} in row ${Math.floor(i / n)}, column ${i % n} of the ${n} × ${n} matrix`, {
        fix: 'look for NaN or overflow in what the matrix was accumulated from (activations, gradients)',
      })
}

/** (A + Aᵀ)/2, without overflow: f64 [n, n] → f64 [n, n]. */
export const symmetrised = (matrix: Float64Array, n: number): Float64Array => {
  const a = new Float64Array(n * n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = matrix[i * n + j] / 2 + matrix[j * n + i] / 2
  return a
}
