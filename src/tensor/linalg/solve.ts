/**
 * @file The symmetric eigenproblem of one matrix on one thread: reduce to tridiagonal form, solve that by divide and
 * conquer, transform the eigenvectors back. `eighPlain` is the oracle.
 *
 * CPU seconds of one warm thread, on 2 cores of an EPYC (Zen 3) that were busy with other work, beside LAPACK's in numpy
 * (OpenBLAS, AVX2 with FMA, one thread): n = 576: 0.10 and 0.06; n = 1536: 1.8 and 0.93. `bench/eigh.ts` measures both.
 * The first matrix of a thread takes 0.3 s more: memory that is touched for the first time, code that is still cold.
 */
import { divideAndConquer, divideRoom } from './divide.js'
import type { Eigen } from './eigen.js'
import { Kernels, type Operand } from './kernels.js'
import { transformBack, transformBackRoom, tridiagonalise, tridiagonaliseRoom } from './tridiagonal.js'

/** One per thread: its memory stays for the next matrix. */
let kernels: Kernels | undefined

const tinyEntry = 2 ** -400

/**
 * A = V diag(values) Vᵀ.
 * @param matrix f64 [n, n], row-major, finite; (A + Aᵀ)/2 is decomposed. Not changed.
 * @param goOn   called every some milliseconds of work; what it throws ends it
 */
export const decompose = (matrix: Float64Array, n: number, goOn: () => void = () => {}): Eigen => {
  if (n === 0) return { values: new Float64Array(0), vectors: new Float64Array(0) }
  const memory = (kernels ??= new Kernels())
  try {
    return decomposeIn(memory, matrix, n, goOn)
  } catch (error) {
    kernels = undefined // a failure may have left NaN behind, and junk in the memory must be finite
    throw error
  }
}

const decomposeIn = (kernels: Kernels, matrix: Float64Array, n: number, goOn: () => void): Eigen => {
  const stride = strideFor(n)
  const square = (n + 8) * stride
  kernels.reserve(
    2 * square + tridiagonaliseRoom(stride) + divideRoom(n, stride) + transformBackRoom(n, stride),
  )
  const a: Operand = { at: kernels.take(square), stride }
  const z: Operand = { at: kernels.take(square), stride }
  for (const { at } of [a, z]) kernels.numbers.fill(0, at, at + square)

  const scale = load(matrix, n, kernels.numbers, a)
  const { diagonal, off, tau } = tridiagonalise(kernels, n, a, goOn)
  const order = divideAndConquer(kernels, { d: diagonal, e: off }, z, goOn)
  transformBack(kernels, n, z, a, tau, goOn)
  return { values: Float64Array.from(order, (i) => diagonal[i] * scale), vectors: columns(kernels.numbers, z, order) }
}

/**
 * An odd number of cache lines, with room for 4 numbers more: rows are aligned, and rows of large matrices don't fall
 * on the same sets of the cache.
 */
const strideFor = (n: number): number => 8 * (Math.ceil((n + 4) / 8) | 1)

/**
 * Puts (A + Aᵀ)/2 into the memory, scaled by a power of two to a largest entry in [½, 1); entries that are negligible
 * beside it become zero, lest products be denormal. Returns what the eigenvalues are to be multiplied with.
 */
const load = (matrix: Float64Array, n: number, x: Float64Array, { at, stride }: Operand): number => {
  let most = 0
  for (let i = 0; i < matrix.length; i++) most = Math.max(most, Math.abs(matrix[i]))
  if (most === 0) return 1
  const exponent = Math.max(-1022, Math.min(1023, Math.floor(Math.log2(most)) + 1))
  const down = 2 ** -Math.floor(exponent / 2) // in two factors: one could overflow
  const down2 = 2 ** -Math.ceil(exponent / 2)
  const block = 32 // whose columns stay in the cache while its rows are read
  for (let i0 = 0; i0 < n; i0 += block)
    for (let j0 = i0; j0 < n; j0 += block)
      for (let i = i0; i < Math.min(i0 + block, n); i++)
        for (let j = Math.max(i, j0); j < Math.min(j0 + block, n); j++) {
          const sum = matrix[i * n + j] * down * down2 + matrix[j * n + i] * down * down2
          x[at + i * stride + j] = Math.abs(sum) < tinyEntry ? 0 : sum / 2
        }
  return 2 ** exponent
}

/** Rows of Z in the given order as columns: [n, n]. */
const columns = (x: Float64Array, z: Operand, order: Int32Array): Float64Array => {
  const n = order.length
  const vectors = new Float64Array(n * n)
  const block = 16 // rows of Z whose lines stay in the cache while columns are written
  for (let j0 = 0; j0 < n; j0 += block) {
    const j1 = Math.min(j0 + block, n)
    for (let i = 0; i < n; i++)
      for (let j = j0; j < j1; j++) vectors[i * n + j] = x[z.at + order[j] * z.stride + i]
  }
  return vectors
}
