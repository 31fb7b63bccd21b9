/**
 * @file The speed of scoring on each engine that is installed, as a fraction of ONNX Runtime's on the same machine.
 *
 *     node dist/bench/engines.js --model DIR [--tokens 256] [--documents 2] [--batches 3] [--queries 10] [--threads 2]
 *         [--only onnx,native,javascript]
 *
 * One program, the scoring of documents of random tokens against random queries of rank 32 in the low-rank join; all MLP
 * layers. The median of the batches, the first one left out; engines take turns, so that whatever else the machine does
 * hits all of them. Native TensorFlow.js is the one of test/tensor/install-tfjs-native.sh, where it was run. Results
 * agree or the bench fails.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { packageRoot, uniforms } from '../src/base/index.js'
import { joins, scoreBatch, scoreProgram, trackedLayers, type BatchScores } from '../src/influence/index.js'
import { openModel } from '../src/model/index.js'
import { onnxEngine, tfjsEngine, type Engine, type Program, type TensorData } from '../src/tensor/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' }, tokens: { type: 'string', default: '256' }, documents: { type: 'string', default: '2' }, batches: { type: 'string', default: '3' },
    queries: { type: 'string', default: '10' }, threads: { type: 'string', default: '2' }, only: { type: 'string', default: 'onnx,native,javascript' },
  },
})
if (values.model === undefined) throw new Error('--model is missing')
const threads = Number(values.threads)
const native = join(packageRoot(), '.cache', 'tfjs-native')

const engines: Readonly<Record<string, () => Engine>> = {
  onnx: () => onnxEngine({ threads }),
  native: () => tfjsEngine({ threads, from: native, backend: '@tensorflow/tfjs-node' }),
  javascript: () => tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu' }),
}
const names = values.only.split(',').filter((name) => name !== 'native' || existsSync(native))

const { model, tensors } = await openModel(values.model)
const tracked = trackedLayers(model, 'mlp')
const shape = { queries: Number(values.queries), rank: 32 }
const [T, B] = [Number(values.tokens), Number(values.documents)]
const next = uniforms(1)
const documents = Array.from({ length: B }, () => ({ tokens: Array.from({ length: T }, () => Math.floor(next() * model.vocabulary)) }))
const queryTensors = (): Readonly<Record<string, TensorData>> => {
  const noise = uniforms(2)
  return Object.fromEntries(tracked.flatMap((layer) => Object.entries(joins['low-rank'].inputs(layer, shape)).map(([input, spec]): [string, TensorData] => {
    const dimensions = spec.shape.map(Number)
    return [input, { type: 'float32', shape: dimensions, data: Float32Array.from({ length: dimensions.reduce((product, d) => product * d, 1) }, () => noise() - 0.5) }]
  })))
}

const open: { readonly name: string; readonly engine: Engine; readonly program: Program; readonly seconds: number[]; scores?: BatchScores }[] = []
for (const name of names) {
  const engine = engines[name]()
  const program = await engine.compile(scoreProgram(model, tensors, tracked, 'low-rank', shape, { tokensMax: T }))
  await program.bind(queryTensors())
  open.push({ name, engine, program, seconds: [] })
}
for (let batch = 0; batch <= Number(values.batches); batch++)
  for (const one of open) {
    const began = performance.now()
    one.scores = await scoreBatch(one.program, documents, { lengthMax: model.positionsMax })
    if (batch > 0) one.seconds.push((performance.now() - began) / 1e3)
  }

const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]
const [first] = open
const wanted = first.scores?.influence.flatMap((row) => [...row]) ?? []
for (const { name, engine, program, seconds, scores } of open) {
  const found = scores?.influence.flatMap((row) => [...row]) ?? []
  const error = Math.hypot(...found.map((score, i) => score - wanted[i])) / Math.hypot(...wanted)
  assert.ok(error < 1e-3, `${name} is ${error} away from ${first.name}`)
  console.log(`${name.padEnd(12)} ${(median(first.seconds) / median(seconds)).toPrecision(2)} of ${first.name}   scores differ by ${error.toExponential(1)}   ${engine.name}`)
  await program[Symbol.asyncDispose]()
  await engine[Symbol.asyncDispose]()
}
