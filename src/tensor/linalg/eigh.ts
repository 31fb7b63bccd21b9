/**
 * @file Symmetric eigendecompositions on worker threads: one, or a stream of many.
 */
import { availableParallelism } from 'node:os'
import { checked, type Eigen, type Symmetric } from './eigen.js'
import { EighPool } from './pool.js'
import { decompose } from './solve.js'

/** Up to here a thread costs more to start than the work takes. */
const inlineMax = 128

export interface EighOptions {
  /** Stops the work; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

export interface EighAllOptions extends EighOptions {
  /** Worker threads, one matrix each at a time (default: the cores). */
  readonly threads?: number
}

/**
 * The eigendecomposition A = V diag(values) Vᵀ in float64, off the calling thread if n is more than 128.
 * Backward stable: ‖AV − V diag‖ and ‖VᵀV − I‖ are a small multiple of n·ε·‖A‖ and n·ε. Small eigenvalues are exact
 * to ε·‖A‖, not to their own size. Deterministic. For many matrices use `eighAll`.
 * @param matrix f64 [n, n], row-major; (A + Aᵀ)/2 is decomposed. Not changed.
 * @returns values f64 [n] ascending; vectors f64 [n, n] row-major, column j belongs to values[j]
 * @throws  UserError for a NaN or an infinity; RangeError if the length is not n²; the signal's reason
 */
export const eigh = async (matrix: Float64Array, n: number, { signal }: EighOptions = {}): Promise<Eigen> => {
  signal?.throwIfAborted()
  checked(matrix, n)
  if (n <= inlineMax) return decompose(matrix, n)
  for await (const eigen of eighAll([{ matrix, n }], { threads: 1, signal })) return eigen
  throw new Error('eigh: no result')
}

/**
 * Decomposes many matrices, each on one of `threads` worker threads, and yields the results in the order of the jobs.
 * Holds at most 2·threads matrices and results: the next job is only asked for when the oldest result is.
 * The threads end with the iteration, however it ends.
 * @throws as `eigh`, after the results of the jobs before it; and what `jobs` throws, at once
 */
export async function* eighAll(
  jobs: AsyncIterable<Symmetric> | Iterable<Symmetric>,
  { threads = availableParallelism(), signal }: EighAllOptions = {},
): AsyncGenerator<Eigen, void, undefined> {
  signal?.throwIfAborted()
  await using pool = new EighPool(threads)
  const abort = (): void => void pool.close(signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })
  try {
    const running: Promise<Eigen>[] = []
    for await (const { matrix, n } of jobs) {
      signal?.throwIfAborted()
      const result = runChecked(pool, { matrix, n })
      result.catch(() => undefined) // reported when it is its turn
      running.push(result)
      if (running.length >= 2 * threads) yield await next(running)
    }
    while (running.length > 0) yield await next(running)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

const runChecked = async (pool: EighPool, { matrix, n }: Symmetric): Promise<Eigen> => {
  checked(matrix, n)
  return pool.run({ matrix, n })
}

const next = (running: Promise<Eigen>[]): Promise<Eigen> => {
  const oldest = running.shift()
  if (!oldest) throw new Error('eighAll: nothing is running')
  return oldest
}
