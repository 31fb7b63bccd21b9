/**
 * @file The speed of fitting, preparing and scoring on a real checkpoint, against the machine's own GEMM rate measured
 * in the same run, and, given the peer's figures (bench/peer), as ratios to it.
 *
 *     node dist/bench/attribution.js --model DIR --documents documents.jsonl --queries queries.jsonl
 *         [--queries-counts 10,100] [--batch 4] [--batches 3] [--fit-documents 8] [--blocks 4,4]
 *         [--peer peer-10.json,peer-100.json] [--skip fit,prepare,score] [--out figures.json]
 *
 * Inputs are those of bench/peer/make-inputs. FLOP are counted as `modelFlop` and `joinCost` do: multiplications and
 * additions of the products that are made, nothing for elementwise work, so a fraction of the GEMM rate of 1 would mean
 * that nothing else takes time. Times are the medians of the batches; the first batch is left out.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  batchTensors, boundBases, covarianceFlop, covarianceOf, covarianceProgram, covarianceShapes, eigenvalueFlop, eigenvalueProgram, inputName, inputWidth, joinCost, joins, modelFlop,
  openFactors, planJoin, scoreBatch, scoreProgram, trackedLayers, writeBasis, writeEigenvalues, writeManifest, inputFile, layerFile, completed,
  type Basis, type FactorManifest, type FactorSet, type JoinKind,
} from '../src/influence/index.js'
import { silentProgress } from '../src/pipeline/context.js'
import { prepareGradients, prepareQueries, type PrepareParts, type RunQueryTokens } from '../src/pipeline/prepare.js'
import { queryCache } from '../src/pipeline/query-cache.js'
import { openModel, type Checkpoint, type LinearLayer } from '../src/model/index.js'
import { eighAll, onnxEngine, type Engine, type TensorData } from '../src/tensor/index.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' }, documents: { type: 'string' }, queries: { type: 'string' }, 'queries-counts': { type: 'string', default: '10,100' },
    batch: { type: 'string', default: '4' }, batches: { type: 'string', default: '3' }, 'fit-documents': { type: 'string', default: '8' },
    blocks: { type: 'string', default: '4,4' }, threads: { type: 'string', default: '2' }, peer: { type: 'string' }, skip: { type: 'string', default: '' },
    rank: { type: 'string', default: '32' }, 'shared-rank': { type: 'string', default: '384' }, memory: { type: 'string', default: '8' }, out: { type: 'string' },
    track: { type: 'string', default: 'mlp' }, join: { type: 'string' },
  },
})

type Figures = Record<string, number | string | null>

const seconds = async (work: () => Promise<unknown>): Promise<number> => {
  const began = performance.now()
  await work()
  return (performance.now() - began) / 1e3
}

const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]
const rows = (path: string): unknown[] => readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as unknown)
const required = (name: 'model' | 'documents' | 'queries'): string => {
  const value = values[name]
  if (value === undefined) throw new Error(`--${name} is missing`)
  return value
}
const peakRssGb = (): number => Number((process.resourceUsage().maxRSS / 1e6).toFixed(2))

/** GFLOP/s of a chain of products 2048×576×1536 and back, by the engine itself: the best of several runs. */
const gemmRate = async (engine: Engine): Promise<number> => {
  const [M, K, N, chain] = [2048, 576, 1536, 8]
  const noise = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => ((i * 2654435761) % 1000) / 1000 - 0.5)
  await using program = await engine.compile({
    name: 'GEMM', weights: new Map(),
    inputs: { x: { type: 'float32', shape: [M, K] }, a: { type: 'float32', shape: [K, N] }, b: { type: 'float32', shape: [N, K] } },
    build: (ops, value) => {
      let x = value('x')
      for (let i = 0; i < chain; i++) x = ops.matmul(ops.matmul(x, value('a')), value('b'), { alpha: 1e-3 })
      return { sum: ops.sum(x, { axes: [0, 1] }) }
    },
  })
  await program.bind({ a: { type: 'float32', shape: [K, N], data: noise(K * N) }, b: { type: 'float32', shape: [N, K], data: noise(N * K) } })
  const times: number[] = []
  for (let i = 0; i < 8; i++) times.push(await seconds(() => program.run({ x: { type: 'float32', shape: [M, K], data: noise(M * K) } })))
  return (2 * chain * 2 * M * K * N) / Math.min(...times) / 1e9
}

const main = async (): Promise<void> => {
  const skip = new Set(values.skip.split(','))
  const [attentionBlocks, headBlocks] = values.blocks.split(',').map(Number)
  const [B, batches] = [Number(values.batch), Number(values.batches)]
  const checkpoint = await openModel(required('model'), { positionsMax: 4096 })
  const { model, tensors } = checkpoint
  const tracked = trackedLayers(model, values.track)
  const documents = rows(required('documents')).map((row) => (row as { readonly tokens: readonly number[] }).tokens)
  const T = documents[0].length
  const batchesOf = function* (count: number): Generator<{ readonly tokens: readonly number[] }[]> {
    for (let i = 0; i < count; i++) yield Array.from({ length: B }, (_, b) => ({ tokens: documents[(i * B + b) % documents.length] }))
  }
  const figures: Figures = { model: required('model'), T, B, threads: Number(values.threads), trackedLayers: tracked.length }
  const report = (name: string, value: number | string | null): void => {
    figures[name] = typeof value === 'number' ? Number(value.toPrecision(4)) : value
    console.error(`${name}: ${figures[name]}`)
  }
  const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-'))
  try {
    await using engine = onnxEngine({ threads: Number(values.threads), attentionBlocks, headBlocks })
    report('gemmGflopsBefore', await gemmRate(engine))
    const factors = await fitFactors(engine, checkpoint, tracked, folder, { documents, B, T, batches, report, skip: skip.has('fit'), rate: () => Number(figures.gemmGflopsBefore) })
    for (const count of values['queries-counts'].split(',').map(Number)) {
      const queries = rows(required('queries')).slice(0, count) as { readonly id: string; readonly tokens: readonly number[]; readonly prompt: number }[]
      // Queries beyond those in the file are the same ones with another first token of the completion: all distinct.
      while (queries.length < count) {
        const base = queries[queries.length % Math.min(count, queries.length)]
        const tokens = [...base.tokens]
        tokens[base.prompt] = (tokens[base.prompt] + queries.length) % model.vocabulary
        queries.push({ ...base, id: `${base.id}-${queries.length}`, tokens })
      }
      const plan = planJoin(
        { model, tracked, queries: count, rank: Number(values.rank), sharedRank: Number(values['shared-rank']), context: T, batchTokens: B * T, memory: Number(values.memory) * 2 ** 30 },
        (values.join as JoinKind | undefined) ?? 'auto',
      )
      const { kind } = plan.chosen
      const rank = kind === 'shared' ? Number(values['shared-rank']) : Number(values.rank)
      report(`join at ${count} queries`, plan.reason)
      let bound: Readonly<Record<string, TensorData>> | undefined
      if (!skip.has('prepare')) {
        const parts: PrepareParts = {
          engine, cache: queryCache(join(folder, 'cache')), checkpoint: { ...checkpoint, hash: 'bench', tokenizer: { encodeDocument: () => [], encodeQuery: () => ({ ids: [], promptLength: 0 }), decode: () => '', decodeToken: () => '' } },
          factors, damping: { kind: 'relative', factor: 0.1 }, seed: 0, progress: silentProgress, signal: new AbortController().signal,
        }
        const tokenized: RunQueryTokens[] = queries.map(({ id, tokens, prompt }) => ({
          tokens, promptTokens: prompt, value: { id, prompt: '', completion: '', group: null, task: null, answer: null, steps: null, extra: null },
        }))
        const kinds = count <= 10 ? [...new Set<JoinKind>([kind, 'low-rank'])] : [kind]
        report(`secondsAQuery gradients, ${count} queries`, (await seconds(() => prepareGradients(tokenized, parts))) / count)
        for (const each of kinds) {
          const own = each === 'shared' ? Number(values['shared-rank']) : Number(values.rank)
          const time = await seconds(async () => {
            const prepared = await prepareQueries(tokenized, { kind: each, rank: own }, parts, { keep: each !== 'dense' })
            if (each === kind) bound = prepared.tensors
          })
          report(`secondsAQuery ${each}, ${count} queries`, time / count)
        }
      }
      if (!skip.has('score')) {
        const shape = { queries: count, rank }
        await using program = await engine.compile(scoreProgram(model, tensors, tracked, kind, shape))
        await program.bind(bound ?? zeros(kind, tracked, shape))
        const times: number[] = []
        for (const batch of batchesOf(batches + 1)) times.push(await seconds(() => scoreBatch(program, batch, { lengthMax: model.positionsMax })))
        const time = median(times.slice(1))
        const flop = modelFlop(model, tracked, T) + joinCost(kind, tracked, shape, T).flop
        const again = await gemmRate(engine)
        report(`scoreTokensPerSecond ${kind}, ${count} queries`, (B * T) / time)
        report(`score GFLOP a token, ${count} queries`, flop / 1e9)
        report(`gemmGflops beside, ${count} queries`, again)
        report(`score fraction of GEMM rate, ${count} queries`, (flop * B * T) / time / 1e9 / Math.max(again, Number(figures.gemmGflopsBefore)))
        report(`peakRssGb after ${count} queries`, peakRssGb())
      }
    }
    report('gemmGflopsAfter', await gemmRate(engine))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  for (const path of values.peer?.split(',') ?? []) compare(figures, JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)
  const text = JSON.stringify(figures, null, 2)
  console.log(text)
  if (values.out !== undefined) writeFileSync(values.out, `${text}\n`)
}

const zeros = (kind: JoinKind, tracked: readonly LinearLayer[], shape: { readonly queries: number; readonly rank: number }): Readonly<Record<string, TensorData>> =>
  Object.fromEntries(
    tracked.flatMap((layer) => Object.entries(joins[kind].inputs(layer, shape)).map(([name, { shape: dims }]) => {
      const known = dims.map(Number)
      return [name, { type: 'float32', shape: known, data: new Float32Array(known.reduce((a, b) => a * b, 1)).fill(1e-4) }] as const
    })),
  )

/** Both passes over a few batches and the decompositions between them, timed; a factor set for the queries. */
const fitFactors = async (
  engine: Engine, { model, tensors }: Checkpoint, tracked: readonly LinearLayer[], folder: string,
  { documents, B, T, batches, report, skip, rate }: {
    readonly documents: readonly (readonly number[])[]; readonly B: number; readonly T: number; readonly batches: number
    readonly report: (name: string, value: number) => void; readonly skip: boolean; readonly rate: () => number
  },
): Promise<FactorSet> => {
  const manifest: FactorManifest = {
    format: 1, model: 'bench', ends: [], stage: 'complete', sequences: B, tokens: B * T, unusable: 0, seals: null, hash: null,
    settings: { strategy: skip ? 'identity' : 'ekfac', empirical: false, blocks: 1, track: values.track, seed: 0, context: T, batchTokens: B * T, long: 'truncate', engine: 'onnx', documents: B, checkpoint: 'bench' },
    layers: tracked.map((layer) => ({ name: layer.name, outputs: layer.outputs, inputs: layer.inputs, bias: layer.bias, input: inputName(layer) })),
  }
  await writeManifest(folder, manifest)
  if (!skip) {
    const count = Math.max(2, batches) + 1
    const uniforms = Array.from({ length: T - 1 }, (_, t) => ((t + 1) * 0.618034) % 1)
    const batch = (i: number) => batchTensors(Array.from({ length: B }, (_, b) => ({ tokens: documents[(i * B + b) % documents.length], uniforms })))
    const bases = { inputs: new Map<string, Basis>(), outputs: new Map<string, Basis>() }
    {
      await using program = await engine.compile(covarianceProgram(model, tensors, tracked, { empirical: false }))
      const times: number[] = []
      for (let i = 0; i < count; i++) {
        const { tokens, rows: lossRows, uniforms: u, real } = batch(i)
        times.push(await seconds(() => program.run({ tokens, rows: lossRows, uniforms: u, real })))
      }
      const time = median(times.slice(1))
      const flop = covarianceFlop(model, tracked, T)
      report('covarianceTokensPerSecond', (B * T) / time)
      report('covariance GFLOP a token', flop / 1e9)
      report('covariance fraction of GEMM rate', (flop * B * T) / time / 1e9 / rate())
      const shapes = covarianceShapes(tracked)
      const began = performance.now()
      const jobs = shapes.map((shape) => ({ matrix: covarianceOf(program.sums, shape, count * B * T), n: shape.width }))
      let at = 0
      for await (const { values: spectrum, vectors } of eighAll(jobs, { threads: Number(values.threads) })) {
        const { name, width } = shapes[at++]
        const basis: Basis = { width, values: spectrum.map((v) => Math.max(v, 0)), blocks: [{ from: 0, size: width, vectors: Float32Array.from(vectors) }] }
        if (name.startsWith('A/')) bases.inputs.set(name.slice(2), basis)
        else bases.outputs.set(name.slice(2), basis)
      }
      report('eigendecompositionSeconds', (performance.now() - began) / 1e3)
      report('eigendecompositions', shapes.length)
    }
    await using program = await engine.compile(eigenvalueProgram(model, tensors, tracked, bases, { empirical: false, context: T }))
    await program.bind(boundBases(bases))
    const times: number[] = []
    for (let i = 0; i < count; i++) {
      const { tokens, rows: lossRows, uniforms: u } = batch(i)
      times.push(await seconds(() => program.run({ tokens, rows: lossRows, uniforms: u })))
    }
    const time = median(times.slice(1))
    const flop = eigenvalueFlop(model, tracked, T)
    report('lambdaTokensPerSecond', (B * T) / time)
    report('lambda GFLOP a token', flop / 1e9)
    report('lambda fraction of GEMM rate', (flop * B * T) / time / 1e9 / rate())
    for (const [name, basis] of bases.inputs) await writeBasis(inputFile(folder, manifest, name), basis)
    for (const [name, basis] of bases.outputs) await writeBasis(layerFile(folder, manifest, name, 'basis'), basis)
    for (const layer of tracked) {
      await writeEigenvalues(layerFile(folder, manifest, layer.name, 'eigenvalues'), Float32Array.from(program.sums[`L/${layer.name}`], (sum) => sum / (count * B)), [layer.outputs, inputWidth(layer)])
    }
  }
  await writeManifest(folder, await completed(folder, manifest))
  return openFactors(folder, 'bench', tracked)
}

/** The peer's figures, and ours over theirs. */
const compare = (figures: Figures, peer: Readonly<Record<string, unknown>>): void => {
  const count = Number(peer.queries)
  const ratio = (name: string, ours: number | string | null | undefined, theirs: unknown, faster: 'more' | 'less'): void => {
    if (typeof ours !== 'number' || typeof theirs !== 'number') return
    figures[`${name}: times the peer's speed`] = Number((faster === 'more' ? ours / theirs : theirs / ours).toPrecision(3))
  }
  ratio('covariances', figures.covarianceTokensPerSecond, peer.covarianceTokensPerSecond, 'more')
  ratio('eigenvalues', figures.lambdaTokensPerSecond, peer.lambdaTokensPerSecond, 'more')
  ratio('eigendecompositions', figures.eigendecompositionSeconds, peer.eigendecompositionSeconds, 'less')
  const scored = Object.entries(figures).find(([name]) => name.startsWith('scoreTokensPerSecond') && name.endsWith(`, ${count} queries`))
  ratio(`scoring, ${count} queries`, scored?.[1], peer.scoreTokensPerSecond, 'more')
  const gradients = Number(figures[`secondsAQuery gradients, ${count} queries`] ?? 0)
  for (const kind of ['low-rank', 'dense', 'shared']) {
    const own = figures[`secondsAQuery ${kind}, ${count} queries`]
    if (typeof own === 'number') ratio(`preparing a query (${kind}), ${count} queries`, own + gradients, kind === 'dense' ? peer.queryFullRankSeconds : peer.querySeconds, 'less')
  }
}

await main()
