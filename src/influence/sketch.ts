/**
 * @file Low-rank truncation on the engine: a randomised SVD (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1)
 * whose every large product runs in a program and whose ℓ×ℓ rest is done here in float64.
 *
 * With Y [M, ℓ] spanning the leading left space of M [m, n], and B = Yᵀ M: the best approximation of M within that space
 * is Y G⁻¹ B, G = Yᵀ Y. With N = G^−½ B and the eigenvectors E of N Nᵀ = G^−½ (B Bᵀ) G^−½, its rank-r truncation is
 * (Y C)(Bᵀ C)ᵀ with C = G^−½ E_r, where Y C is orthonormal and column j of Bᵀ C has the norm of singular value j.
 */
import { normals } from '../base/index.js'
import { eigh, type Ops } from '../tensor/index.js'

/** Columns of a sketch beyond the rank that is kept. */
const oversampling = 10
/** Each step makes a singular value that is far below the largest 1.5 times larger; 1.5²⁰ = 3,325. */
const orthonormalizingSteps = 20

/** ℓ, the width of the sketch of an m×n matrix that is to be truncated to rank r. */
export const sketchWidth = (rank: number, m: number, n: number): number => Math.min(rank + oversampling, m, n)

/** Ω f32 [n, ℓ], standard normal. */
export const sketchMatrix = (n: number, width: number, seed: number): Float32Array => {
  const next = normals(seed)
  return Float32Array.from({ length: n * width }, next)
}

/** matrix [B, m, n], Ω [n, ℓ] → `Y` [B, m, ℓ], `B` [B, ℓ, n], `GY` = YᵀY and `GB` = BBᵀ [B, ℓ, ℓ]; one power iteration. */
export const sketch = <T>(ops: Ops<T>, matrix: T, omega: T, width: number): Readonly<Record<'Y' | 'B' | 'GY' | 'GB', T>> => {
  const onto = (y: T): T => orthonormalized(ops, ops.matmul(matrix, y), width)
  // (yᵀ M)ᵀ: of Mᵀ y, a product would have to turn M, which is much larger.
  const back = (y: T): T => orthonormalized(ops, ops.transpose(ops.matmul(y, matrix, { transA: true }), [0, 2, 1]), width)
  const Y = onto(back(onto(omega))) // [B, m, ℓ]
  const B = ops.matmul(Y, matrix, { transA: true }) // [B, ℓ, n]
  return { Y, B, GY: ops.matmul(Y, Y, { transA: true }), GB: ops.matmul(B, B, { transB: true }) }
}

/**
 * Columns of about length one and about orthogonal, of the same span: Newton–Schulz steps towards the polar factor, on
 * the ℓ×ℓ Gram matrix. Only the span matters, and that no direction is lost to rounding. x [B, m, ℓ]
 */
const orthonormalized = <T>(ops: Ops<T>, x: T, width: number): T => {
  const size = ops.rsqrt(ops.shift(ops.sumSquares(x, { axes: [1, 2], keep: true }), 1e-30))
  const y = ops.mul(x, size)
  const identity = Array.from({ length: width * width }, (_, n) => (n % (width + 1) === 0 ? 1.5 : 0))
  const shifted = ops.constant(identity, [width, width])
  let gram = ops.matmul(y, y, { transA: true }) // eigenvalues in [0, 1]
  let transform: T | undefined
  for (let step = 0; step < orthonormalizingSteps; step++) {
    const factor = ops.sub(shifted, ops.scale(gram, 0.5)) // (3 − G)/2, of G's own eigenvectors
    transform = transform === undefined ? factor : ops.matmul(transform, factor)
    gram = ops.matmul(ops.matmul(factor, gram), factor)
  }
  return transform === undefined ? y : ops.matmul(y, transform)
}

export interface Truncation {
  /** C f32 [ℓ, r]; columns beyond the matrix's own rank are zero. */
  readonly coefficients: Float32Array
  /** The singular values of the truncated matrix, descending: [r] */
  readonly values: Float64Array
}

/** @param gy f32 [ℓ, ℓ], YᵀY  @param gb f32 [ℓ, ℓ], BBᵀ */
export const truncate = async (gy: Float32Array, gb: Float32Array, width: number, rank: number): Promise<Truncation> => {
  const inverse = await inverseRoot(Float64Array.from(gy), width)
  const { values, vectors } = await eigh(multiply(multiply(inverse, Float64Array.from(gb), width), inverse, width), width)
  const coefficients = new Float32Array(width * rank)
  const singular = new Float64Array(rank)
  for (let r = 0; r < Math.min(rank, width); r++) {
    const column = width - 1 - r // eigenvalues ascend
    singular[r] = Math.sqrt(Math.max(values[column], 0))
    for (let i = 0; i < width; i++) {
      let sum = 0
      for (let j = 0; j < width; j++) sum += inverse[i * width + j] * vectors[j * width + column]
      coefficients[i * rank + r] = sum
    }
  }
  return { coefficients, values: singular }
}

/** G^−½ of a positive semidefinite matrix; directions below f32's rounding of it are left out. */
const inverseRoot = async (gram: Float64Array, n: number): Promise<Float64Array> => {
  const { values, vectors } = await eigh(gram, n)
  const least = 1e-6 * Math.max(values[n - 1], 0)
  const root = new Float64Array(n * n)
  for (let k = 0; k < n; k++) {
    if (!(values[k] > least)) continue
    const scale = 1 / Math.sqrt(values[k])
    for (let i = 0; i < n; i++) {
      const left = vectors[i * n + k] * scale
      for (let j = 0; j < n; j++) root[i * n + j] += left * vectors[j * n + k]
    }
  }
  return root
}

const multiply = (a: Float64Array, b: Float64Array, n: number): Float64Array => {
  const product = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const left = a[i * n + k]
      for (let j = 0; j < n; j++) product[i * n + j] += left * b[k * n + j]
    }
  }
  return product
}
