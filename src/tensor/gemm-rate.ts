/**
 * @file The rate of an engine's matrix products: what `doctor` shows, `plan` divides its counts by, and benches take fractions
 * of. One definition for all: a share that was taken of another rate says nothing beside this one.
 *
 *     x [2048, 576] · a [576, 1536] · b [1536, 576] · a · b · ...      sixteen products, then a sum
 *
 * These are the products of SmolLM2-135M's MLPs over 2,048 tokens. They go through the engine as a program's do; x is made on
 * the device, and one number comes back.
 */
import { uniforms } from '../base/index.js'
import type { Engine, Precision, TensorData } from './engine.js'

const [inner, outer] = [576, 1536]

interface Chain {
  readonly rows: number
  /** Of products, by a and by b. */
  readonly pairs: number
}

/**
 * Longer and longer. The rate is that of the last one that is no long wait: of 2,048 rows and 8 pairs on a CPU; of fewer rows on
 * engines a hundred times slower; of the longest chain where starting it takes about as long as sixteen products.
 */
const chains: readonly Chain[] = [
  { rows: 16, pairs: 1 }, { rows: 16, pairs: 8 }, { rows: 64, pairs: 8 },
  { rows: 256, pairs: 8 }, { rows: 2048, pairs: 8 }, { rows: 2048, pairs: 128 },
]
/** Seconds that one run may take by the rate of the chain before; and all runs of a chain, of which there are at least two. */
const [waitMax, spentMax] = [4, 4]
const runsMax = 8

export interface GemmRateOptions {
  /** Of the products; default: f32. */
  readonly precision?: Precision
  /** Milliseconds; another clock in tests. */
  readonly now?: () => number
}

/**
 * FLOP/s of the engine's products, multiplications and additions counted: the best of several runs. Takes some seconds, and less
 * than a minute on engines of 0.1 GFLOP/s.
 */
export const gemmRate = async (engine: Engine, { precision = 'f32', now = () => performance.now() }: GemmRateOptions = {}): Promise<number> => {
  let rate = 0
  for (const chain of chains) {
    const flop = 2 * chain.pairs * 2 * chain.rows * inner * outer
    if (rate > 0 && flop / rate > waitMax) break
    rate = flop / (await secondsOf(engine, chain, precision, now))
  }
  return rate
}

const secondsOf = async (engine: Engine, { rows, pairs }: Chain, precision: Precision, now: () => number): Promise<number> => {
  const kept = { type: 'float32', fixed: true, operand: true } as const
  await using program = await engine.compile({
    name: 'the rate of products', weights: new Map(), precision,
    inputs: {
      rows: { type: 'float32', shape: [rows, 1] }, columns: { type: 'float32', shape: [1, inner], fixed: true },
      a: { ...kept, shape: [inner, outer] }, b: { ...kept, shape: [outer, inner] },
    },
    build: (ops, value) => {
      let x = ops.mul(value('rows'), value('columns')) // [rows, inner]
      for (let pair = 0; pair < pairs; pair++) x = ops.matmul(ops.matmul(x, value('a')), value('b'))
      return { sum: ops.sum(x, { axes: [0, 1] }) }
    },
  })
  await program.bind({ columns: noise(1, inner), a: noise(inner, outer), b: noise(outer, inner) })
  let least = Infinity
  for (let runs = 0, spent = 0; runs < 2 || (runs < runsMax && spent < spentMax); runs++) {
    const input = noise(rows, 1)
    const began = now()
    await program.run({ rows: input })
    const seconds = (now() - began) / 1e3
    spent += seconds
    least = Math.min(least, seconds)
  }
  return least
}

/** Of mean 0 and variance 1/K: products by it neither grow nor fade, in 16 bits either. */
const noise = (K: number, N: number): TensorData => {
  const next = uniforms(K)
  return { type: 'float32', shape: [K, N], data: Float32Array.from({ length: K * N }, () => (next() - 0.5) * Math.sqrt(12 / K)) }
}
