/** @file The child of `probeDevice`: `node probe-child.js DEVICE THREADS WIDTH` prints one line of JSON, a rate or a problem. */
import { availableParallelism } from 'node:os'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { NarrowType } from '../narrow.js'
import { GraphBuilder } from './graph.js'
import { productsOf } from './products.js'

const layers = 4
/** Of square products. A larger one is tried where the one before took less than this. */
const widths = [64, 256, 1024]
const slowMs = 50
const measureMs = 500

/** FLOP/s of a chain of products with weights in the session, of the largest matrices that are no long wait. */
const measure = async (device: string, threads: number, narrow: NarrowType | undefined): Promise<number> => {
  let rate = 0
  for (const width of widths) {
    const seconds = await secondsOf(device, threads, width, narrow)
    rate = (2 * width ** 3 * layers) / seconds
    if (seconds * 1000 > slowMs) break
  }
  return rate
}

/** The least of several runs. W is a rotation by one column, so each product is known, in 16 bits too. */
const secondsOf = async (device: string, threads: number, K: number, narrow: NarrowType | undefined): Promise<number> => {
  const graph = new GraphBuilder()
  const products = productsOf(graph, narrow === undefined ? undefined : { type: narrow, native: true })
  const weight = new Float32Array(K * K)
  for (let n = 0; n < K; n++) weight[n * K + ((n + 1) % K)] = 1
  const w = graph.constant('float32', weight, [K, K])
  let y = graph.input('x', 'float32', ['M', K])
  for (let layer = 0; layer < layers; layer++) y = products.matmul(y, w)
  const session = await InferenceSession.create(graph.build({ y }), { executionProviders: [device], intraOpNumThreads: threads, logSeverityLevel: 3 })
  const x = Float32Array.from({ length: K * K }, (_, i) => (i % 251) - 125)
  let least = Infinity
  for (let spent = 0, runs = 0; runs < 2 || (spent < measureMs && runs < 50); runs++) {
    const began = performance.now()
    const { y: result } = await session.run({ x: new Tensor('float32', x, [K, K]) })
    const data = result.data as Float32Array
    const ms = performance.now() - began
    for (let i = 0; i < data.length; i += 97) {
      const [row, column] = [Math.floor(i / K), i % K]
      if (data[i] !== x[row * K + ((column - layers + K) % K)]) throw new Error('it computes wrongly: a product of small integers is not exact')
    }
    spent += ms
    least = Math.min(least, ms / 1000)
  }
  await session.release()
  return least
}

try {
  const [device, threads, width] = process.argv.slice(2)
  process.stdout.write(`${JSON.stringify({ gemmRate: await measure(device, Number(threads) || availableParallelism(), width === 'float16' || width === 'bfloat16' ? width : undefined) })}\n`)
} catch (error) {
  process.stdout.write(`${JSON.stringify({ problem: (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ').trim() })}\n`)
}
