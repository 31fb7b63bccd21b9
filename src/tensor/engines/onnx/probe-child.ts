/**
 * @file The child of `probeDevice`: `node probe-child.js DEVICE THREADS WIDTH` prints one line of JSON, a rate or a problem. It
 * computes by the engine that a run would open, products whose results are known first.
 */
import { availableParallelism } from 'node:os'
import type { Engine, Precision } from '../../engine.js'
import { gemmRate } from '../../gemm-rate.js'
import { narrowTypes } from '../narrow.js'
import { onnxEngine, type Device } from './engine.js'

const layers = 4
/** Of square products. A larger one is tried where the one before took less than this. */
const widths = [64, 256, 1024]
const slowMs = 50

/** @throws Error if a product is not exact that has to be: the weight is a rotation by one column, in 16 bits too */
const checkProducts = async (engine: Engine, precision: Precision): Promise<void> => {
  for (const K of widths) {
    await using program = await engine.compile({
      name: 'products', weights: new Map(), precision,
      inputs: { x: { type: 'float32', shape: ['M', K] }, w: { type: 'float32', shape: [K, K], fixed: true, operand: true } },
      build: (ops, value) => {
        let y = value('x')
        for (let layer = 0; layer < layers; layer++) y = ops.matmul(y, value('w'))
        return { y }
      },
    })
    const weight = new Float32Array(K * K)
    for (let n = 0; n < K; n++) weight[n * K + ((n + 1) % K)] = 1
    await program.bind({ w: { type: 'float32', shape: [K, K], data: weight } })
    const numberAt = (i: number): number => (i % 251) - 125
    let least = Infinity
    for (let run = 0; run < 2; run++) {
      const began = performance.now()
      const { y } = await program.run({ x: { type: 'float32', shape: [K, K], data: Float32Array.from({ length: K * K }, (_, i) => numberAt(i)) } })
      least = Math.min(least, performance.now() - began)
      for (let i = 0; i < K * K; i++) {
        const [row, column] = [Math.floor(i / K), i % K]
        if (y.data[i] !== numberAt(row * K + ((column - layers + K) % K))) throw new Error('it computes wrongly: a product of small integers is not exact')
      }
    }
    if (least > slowMs) return
  }
}

const [device, threads, width] = process.argv.slice(2)
try {
  const precision = (Object.keys(narrowTypes) as Precision[]).find((name) => narrowTypes[name] === width) ?? 'f32'
  await using engine = onnxEngine({ device: device as Device, threads: Number(threads) || availableParallelism() })
  await checkProducts(engine, precision)
  process.stdout.write(`${JSON.stringify({ gemmRate: await gemmRate(engine, { precision }) })}\n`)
} catch (error) {
  const said = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ').trim()
  // Who asked knows which device it is.
  process.stdout.write(`${JSON.stringify({ problem: said.replace(`device ${device} refuses the work: `, '') })}\n`)
}
