/**
 * @file Symmetric matrices with known trouble, and the residuals that a decomposition is judged by.
 */
import { normals } from '../../../src/base/index.js'
import type { Eigen } from '../../../src/tensor/linalg/index.js'

export interface Named {
  readonly name: string
  readonly n: number
  readonly matrix: Float64Array
}

/** f64 [m, n] of standard normals. */
export const gaussian = (m: number, n: number, seed: number): Float64Array => {
  const next = normals(seed)
  return Float64Array.from({ length: m * n }, next)
}

/** A symmetric matrix of standard normals. */
export const random = (n: number, seed = n): Float64Array => {
  const a = gaussian(n, n, seed)
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) a[i * n + j] = a[j * n + i]
  return a
}

/** Q diag(values) Qᵀ with Q a product of three random reflections: dense, and its spectrum is known. */
export const withSpectrum = (values: ArrayLike<number>, seed = 1): Float64Array => {
  const n = values.length
  const a = new Float64Array(n * n)
  for (let i = 0; i < n; i++) a[i * n + i] = values[i]
  for (const k of [0, 1, 2]) {
    const v = gaussian(n, 1, seed * 8 + k)
    const square = v.reduce((sum, x) => sum + x * x, 0)
    for (const [row, step] of [
      [n, 1],
      [1, n],
    ])
      for (let i = 0; i < n; i++) {
        let dot = 0
        for (let j = 0; j < n; j++) dot += v[j] * a[i * row + j * step]
        for (let j = 0; j < n; j++) a[i * row + j * step] -= ((2 * dot) / square) * v[j]
      }
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) a[i * n + j] = a[j * n + i]
  return a
}

/** XᵀX/m of m rows: a covariance, rank-deficient if m < n; columns in `dead` are zero. */
export const covariance = (m: number, n: number, { seed = 1, grade = 0, dead = [] as readonly number[] } = {}) => {
  const x = gaussian(m, n, seed)
  for (let t = 0; t < m; t++)
    for (let i = 0; i < n; i++) x[t * n + i] *= dead.includes(i) ? 0 : 10 ** ((-grade * i) / Math.max(n - 1, 1))
  const a = new Float64Array(n * n)
  for (let t = 0; t < m; t++)
    for (let i = 0; i < n; i++) {
      const xi = x[t * n + i] / m
      for (let j = 0; j < n; j++) a[i * n + j] += xi * x[t * n + j]
    }
  return a
}

export const tridiagonal = (d: ArrayLike<number>, e: ArrayLike<number>): Float64Array => {
  const n = d.length
  const a = new Float64Array(n * n)
  for (let i = 0; i < n; i++) a[i * n + i] = d[i]
  for (let i = 0; i + 1 < n; i++) a[i * n + i + 1] = a[(i + 1) * n + i] = e[i]
  return a
}

/** W⁺ of Wilkinson: pairs of eigenvalues that agree to many digits. */
export const wilkinson = (n: number): Float64Array =>
  tridiagonal(
    Float64Array.from({ length: n }, (_, i) => Math.abs(i - (n - 1) / 2)),
    new Float64Array(n).fill(1),
  )

/** Copies of W⁺₂₁ joined by a weak link: eigenvalues in clusters of the number of copies. */
export const gluedWilkinson = (copies: number, glue: number): Float64Array => {
  const n = 21 * copies
  return tridiagonal(
    Float64Array.from({ length: n }, (_, i) => Math.abs((i % 21) - 10)),
    Float64Array.from({ length: n }, (_, i) => (i % 21 === 20 ? glue : 1)),
  )
}

export const blockDiagonal = (blocks: readonly Named[]): Float64Array => {
  const n = blocks.reduce((sum, block) => sum + block.n, 0)
  const a = new Float64Array(n * n)
  let at = 0
  for (const block of blocks) {
    for (let i = 0; i < block.n; i++)
      for (let j = 0; j < block.n; j++) a[(at + i) * n + at + j] = block.matrix[i * block.n + j]
    at += block.n
  }
  return a
}

const range = (n: number, value: (i: number) => number): Float64Array =>
  Float64Array.from({ length: n }, (_, i) => value(i))

/** The gallery: every kind at sizes that cross the solver's block borders. */
export const gallery = (): readonly Named[] => {
  const named = (name: string, matrix: Float64Array): Named => {
    const n = Math.round(Math.sqrt(matrix.length))
    return { name: `${name}, n = ${n}`, n, matrix }
  }
  return [
    ...[1, 2, 3, 4, 5, 31, 32, 33, 64, 65, 127, 128, 200].map((n) => named('random', random(n))),
    ...[1, 2, 5, 33, 100].flatMap((n) => [
      named('zero', new Float64Array(n * n)),
      named('identity', withDiagonal(n, () => 1)),
      named('diagonal', withDiagonal(n, (i) => ((i * 7919) % 31) - 15)),
    ]),
    ...[65, 130].flatMap((n) => [
      named('rank-deficient covariance', covariance(n >> 2, n)),
      named('graded covariance with dead units', covariance(2 * n, n, { grade: 9, dead: [0, 5, 6, n - 1] })),
      named('graded 1e-12 .. 1e6', withSpectrum(range(n, (i) => 10 ** (6 - (18 * i) / (n - 1))))),
      named('one large eigenvalue', withSpectrum(range(n, (i) => (i === 0 ? 1e8 : 1)))),
      named('clustered', withSpectrum(range(n, (i) => (i % 4) + 1e-13 * i))),
      named('repeated', withSpectrum(range(n, (i) => i % 3))),
      named('rank one', withSpectrum(range(n, (i) => (i === 3 ? 2 : 0)))),
      named('all but equal', withSpectrum(range(n, (i) => 1 + i * 1e-16))),
      named('tridiagonal Toeplitz', tridiagonal(new Float64Array(n).fill(2), new Float64Array(n).fill(-1))),
      named('graded tridiagonal', tridiagonal(range(n, (i) => 2 ** -i), range(n, (i) => 2 ** (-i - 1)))),
      named('growing tridiagonal', tridiagonal(range(n, (i) => 2 ** (i - n)), range(n, (i) => 2 ** (i - n)))),
    ]),
    named('wilkinson', wilkinson(21)),
    named('wilkinson', wilkinson(101)),
    named('wilkinson', wilkinson(200)),
    ...[0, 1e-14, 1e-8, 1e-4].map((glue) => named(`wilkinson glued by ${glue}`, gluedWilkinson(9, glue))),
    named(
      'block diagonal',
      blockDiagonal([random(50, 1), new Float64Array(400), random(50, 1), wilkinson(41)].map((block) => named('', block))),
    ),
    named('arrow', arrow(120)),
    named('ones', new Float64Array(90 * 90).fill(1)),
    named('huge', scaledBy(random(70), 1e300)),
    named('largest', scaledBy(random(70), 1e308 / 200)),
    named('tiny', scaledBy(random(70), 1e-300)),
    named('smallest', scaledBy(random(70), 2 ** -1018)),
    named('mixed with denormals', range(70 * 70, (i) => (i % 71 === 0 ? 1 : (i % 13) * 1e-310))),
    named('not symmetric', gaussian(66, 66, 3)),
  ]
}

const withDiagonal = (n: number, value: (i: number) => number): Float64Array =>
  tridiagonal(range(n, value), new Float64Array(n))

const arrow = (n: number): Float64Array =>
  range(n * n, (k) => {
    const [i, j] = [Math.floor(k / n), k % n]
    return i === j ? i : i === n - 1 || j === n - 1 ? 1 : 0
  })

export const scaledBy = (a: Float64Array, factor: number): Float64Array => a.map((x) => x * factor)

export interface Residuals {
  /** max|AV − V diag| / (n ε ‖A‖), of the symmetrised A. */
  readonly product: number
  /** max|VᵀV − I| / (n ε). */
  readonly orthogonality: number
  readonly ascending: boolean
}

export const residuals = (matrix: Float64Array, n: number, { values, vectors }: Eigen): Residuals => {
  const size = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0) // ‖A‖
  const factor = size === 0 ? 1 : 1 / size
  const t = new Float64Array(n * n) // rows are eigenvectors
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) t[j * n + i] = vectors[i * n + j]
  const a = matrix.map((x) => x * factor)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) a[i * n + j] = a[j * n + i] = (a[i * n + j] + a[j * n + i]) / 2
  let product = 0
  let orthogonality = 0
  for (let j = 0; j < n; j++) {
    const value = values[j] * factor
    for (let i = 0; i < n; i++) {
      let av = 0
      let vv = i === j ? -1 : 0
      for (let k = 0; k < n; k++) {
        av += a[i * n + k] * t[j * n + k]
        vv += t[i * n + k] * t[j * n + k]
      }
      product = worst(product, av - value * t[j * n + i])
      orthogonality = worst(orthogonality, vv)
    }
  }
  const unitRoundoffs = n * Number.EPSILON
  return {
    product: product / unitRoundoffs,
    orthogonality: orthogonality / unitRoundoffs,
    ascending: values.every((value, i) => i === 0 || values[i - 1] <= value),
  }
}

/** The larger of the two in size; NaN is the worst. */
const worst = (most: number, x: number): number => (Number.isNaN(x) ? Infinity : Math.max(most, Math.abs(x)))
