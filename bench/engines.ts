/**
 * @file The speed of scoring on every engine, device and precision that is there: beside ONNX Runtime on the CPU in float32, beside
 * the engine's own rate of products (tensor/gemm-rate.ts), and, given the peer's figures (bench/peer), beside those.
 *
 *     node dist/bench/engines.js --model DIR [--tokens 512] [--documents 1] [--batches 3] [--queries 10] [--threads 2]
 *         [--only cpu-f32,cpu-f16,cpu-bf16,tfjs-native,tfjs-javascript,webgpu,cuda,...] [--peer peer-10.json] [--out figures.json]
 *
 * One program, the scoring of documents of random tokens against random queries of rank 32 in the low-rank join; all MLP
 * layers. The median of the batches, the first one left out; engines take turns, so that whatever else the machine does
 * hits all of them. Slow ones have a group of their own, of one document of --tiny-tokens (16), with ONNX Runtime beside them.
 * A fraction is the FLOP of the products that are made (bench/passes.ts) over those of the rate, in the same precision and run.
 *
 * GPUs, and the software driver of WebGPU (VK_DRIVER_FILES, see `tributary doctor`), are measured where they are named in --only.
 * Native TensorFlow.js is the one of test/tensor/install-tfjs-native.sh, where it was run. Results agree or the bench fails.
 */
import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { packageRoot, uniforms } from '../src/base/index.js'
import { scaledQueries, scoreBatch, scoreProgram, trackedLayers, type BatchScores } from '../src/influence/index.js'
import { openModel } from '../src/model/index.js'
import { gemmRate, gpuPresent, onnxEngine, tfjsEngine, type Engine, type Precision, type Program } from '../src/tensor/index.js'
import { madeQueries, median, scoreFlop, secondsOf } from './passes.js'
import { readPeer } from './peer/figures.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' }, tokens: { type: 'string', default: '512' }, documents: { type: 'string', default: '1' },
    'tiny-tokens': { type: 'string', default: '16' },
    batches: { type: 'string', default: '3' }, queries: { type: 'string', default: '10' }, threads: { type: 'string', default: '2' },
    only: { type: 'string', default: 'cpu-f32,cpu-f16,cpu-bf16,tfjs-native,tfjs-javascript' }, peer: { type: 'string' }, out: { type: 'string' },
  },
})
if (values.model === undefined) throw new Error('--model is missing')
const threads = Number(values.threads)
const native = join(packageRoot(), '.cache', 'tfjs-native')

interface Candidate {
  readonly says: string
  readonly open: () => Engine
  readonly precision: Precision
  /** Of the largest difference of scores from those in float32 on the CPU, relative to all of them. */
  readonly tolerance: number
  /** Too slow for whole documents. */
  readonly tiny?: boolean
}

/** bf16 rounds eight times as coarsely as f16. */
const tolerances: Readonly<Record<Precision, number>> = { f32: 1e-3, f16: 0.02, bf16: 0.16 }
const onnx = (device: 'cpu' | 'cuda' | 'webgpu', precision: Precision, says: string, tiny = false): Candidate =>
  ({ says, open: () => onnxEngine({ threads, device }), precision, tolerance: tolerances[precision], tiny })
const software = gpuPresent() ? '' : ', software driver'
const candidates: Readonly<Record<string, Candidate>> = {
  'cpu-f32': onnx('cpu', 'f32', 'onnx cpu f32'),
  'cpu-f16': onnx('cpu', 'f16', 'onnx cpu f16, rounded'),
  'cpu-bf16': onnx('cpu', 'bf16', 'onnx cpu bf16, rounded'),
  cuda: onnx('cuda', 'f32', 'onnx cuda f32'),
  'cuda-f16': onnx('cuda', 'f16', 'onnx cuda f16'),
  'cuda-bf16': onnx('cuda', 'bf16', 'onnx cuda bf16'),
  webgpu: onnx('webgpu', 'f32', `onnx webgpu f32${software}`, !gpuPresent()),
  'webgpu-f16': onnx('webgpu', 'f16', `onnx webgpu f16${software}`, !gpuPresent()),
  'tfjs-native': {
    says: 'tfjs native', precision: 'f32', tolerance: 1e-3,
    open: () => tfjsEngine({ threads, from: native, backend: '@tensorflow/tfjs-node' }),
  },
  'tfjs-javascript': {
    says: 'tfjs JavaScript', precision: 'f32', tolerance: 1e-3, tiny: true,
    open: () => tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu' }),
  },
}
const reference = candidates['cpu-f32']
const chosen = values.only.split(',').filter((name) => name !== 'tfjs-native' || existsSync(native)).map((name) => {
  if (candidates[name] === undefined) throw new Error(`--only ${name}: there are ${Object.keys(candidates).join(', ')}`)
  return candidates[name]
})

const checkpoint = await openModel(values.model)
const { model, tensors } = checkpoint
const tracked = trackedLayers(model, 'mlp')
const shape = { queries: Number(values.queries), rank: 32 }
const peer = values.peer === undefined ? undefined : readPeer(values.peer)

interface Row {
  readonly engine: string
  readonly tokens: number
  readonly ofOnnx: number
  /** GFLOP/s of products, in the row's precision. */
  readonly gemmGflops: number
  readonly fractionOfGemm: number
  /** Of the peer's speed at as many tokens, queries and threads. */
  readonly ofPeer: number | undefined
  readonly scoresDiffer: number
  readonly tolerance: number
}

interface Open {
  readonly candidate: Candidate
  readonly engine: Engine
  readonly program: Program
  readonly seconds: number[]
  rate: number
  scores?: BatchScores
}

/** B documents of T tokens by each of the group; the first is what the others are held against. */
const measured = async (group: readonly Candidate[], T: number, B: number): Promise<readonly Row[]> => {
  const next = uniforms(1)
  const documents = Array.from({ length: B }, () => ({ tokens: Array.from({ length: T }, () => Math.floor(next() * model.vocabulary)) }))
  const open: Open[] = []
  const rates = async (): Promise<void> => {
    for (const one of open) one.rate = Math.max(one.rate, await gemmRate(one.engine, { precision: one.candidate.precision }))
  }
  for (const candidate of group) {
    const { precision } = candidate
    const engine = candidate.open()
    const noise = uniforms(2)
    const queries = madeQueries('low-rank', tracked, shape, () => noise() - 0.5)
    const program = await engine.compile(scoreProgram(model, tensors, tracked, 'low-rank', shape, { tokensMax: T, precision }))
    await program.bind(precision === 'f32' ? queries : scaledQueries('low-rank', tracked, shape, queries))
    open.push({ candidate, engine, program, seconds: [], rate: 0 })
  }
  await rates()
  for (let batch = 0; batch <= Number(values.batches); batch++) {
    for (const one of open) {
      const seconds = await secondsOf(async () => (one.scores = await scoreBatch(one.program, documents, { lengthMax: model.positionsMax })))
      if (batch > 0) one.seconds.push(seconds)
    }
  }
  await rates()
  const [first] = open
  const flop = scoreFlop(checkpoint, tracked, 'low-rank', shape, T)
  const numbers = (scores: BatchScores | undefined): readonly number[] => scores?.influence.flatMap((row) => [...row]) ?? []
  const wanted = numbers(first.scores)
  const rows: Row[] = []
  for (const { candidate: { says, tolerance }, program, engine, seconds, rate, scores } of open) {
    const scoresDiffer = Math.hypot(...numbers(scores).map((score, i) => score - wanted[i])) / Math.hypot(...wanted)
    const speed = (B * T) / median(seconds)
    const { tokens, queries, threads: peerThreads } = peer?.settings ?? {}
    const isComparable = tokens === T && queries === shape.queries && peerThreads === threads
    rows.push({
      engine: says, tokens: T, ofOnnx: median(first.seconds) / median(seconds), gemmGflops: rate / 1e9, fractionOfGemm: (speed * flop) / rate,
      ofPeer: isComparable && peer?.scoreTokensPerSecond !== undefined ? speed / peer.scoreTokensPerSecond : undefined, scoresDiffer, tolerance,
    })
    await program[Symbol.asyncDispose]()
    await engine[Symbol.asyncDispose]()
  }
  return rows
}

const rows: Row[] = []
for (const tiny of [false, true]) {
  const group = chosen.filter((candidate) => (candidate.tiny ?? false) === tiny && candidate !== reference)
  if (group.length === 0 && (tiny || !chosen.includes(reference))) continue
  const [T, B] = tiny ? [Number(values['tiny-tokens']), 1] : [Number(values.tokens), Number(values.documents)]
  rows.push(...(await measured([reference, ...group], T, B)))
}

const figure = (value: number | undefined): string => (value === undefined ? '' : value.toLocaleString('en-US', { maximumSignificantDigits: 2 }))
const table = new Table({ head: ['', 'tokens', 'of onnx cpu f32', 'GEMM GFLOP/s', 'fraction of it', 'of kronfluence', 'scores differ'], style: { head: [], border: [] } })
for (const { engine, tokens, ofOnnx, gemmGflops, fractionOfGemm, ofPeer, scoresDiffer } of rows)
  table.push([engine, tokens, figure(ofOnnx), figure(gemmGflops), figure(fractionOfGemm), figure(ofPeer), scoresDiffer.toExponential(1)])
console.log(table.toString())
if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify({ ...values, rows }, null, 2)}\n`)
for (const { engine, scoresDiffer, tolerance } of rows) assert.ok(scoresDiffer < tolerance, `${engine} is ${scoresDiffer} away from ${rows[0].engine}: more than ${tolerance}`)
