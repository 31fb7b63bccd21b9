/**
 * @file The speed of fitting, preparing and scoring on a real checkpoint, against the machine's own GEMM rate measured
 * in the same run, and, given the peer's figures (bench/peer), as ratios to it.
 *
 *     node dist/bench/attribution.js --model DIR --documents documents.jsonl --queries queries.jsonl
 *         [--queries-counts 10,100] [--batch 4] [--batches 3]
 *         [--factors DIR] [--peer peer-10.json,peer-100.json] [--skip fit,prepare,score] [--out figures.json]
 *
 * --factors keeps what was fitted, and takes it where it is there already: queries are then prepared in a process that fitted
 * nothing before, as `tributary score` does.
 *
 * Inputs are those of bench/peer/make-inputs. FLOP are counted as `modelFlop` and `joinCost` do: multiplications and
 * additions of the products that are made, nothing for elementwise work, so a fraction of the GEMM rate of 1 would mean
 * that nothing else takes time. Times are the medians of the batches; the first batch is left out.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openFactors, planJoin, readManifest, trackedLayers, type JoinKind } from '../src/influence/index.js'
import { silentProgress } from '../src/pipeline/context.js'
import { prepareGradients, prepareQueries, type PrepareParts, type RunQueryTokens } from '../src/pipeline/prepare.js'
import { queryCache } from '../src/pipeline/query-cache.js'
import { openModel } from '../src/model/index.js'
import { gemmRate, onnxEngine, type TensorData } from '../src/tensor/index.js'
import { identityFactors, jsonLines, madeQueries, peakBytes, secondsOf, shareOf, timeFit, timeScoring, type Speed, type Tokens } from './passes.js'
import { readPeer, type Peer } from './peer/figures.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' }, documents: { type: 'string' }, queries: { type: 'string' }, 'queries-counts': { type: 'string', default: '10,100' },
    batch: { type: 'string', default: '4' }, batches: { type: 'string', default: '3' },
    threads: { type: 'string', default: '2' }, peer: { type: 'string' }, skip: { type: 'string', default: '' },
    rank: { type: 'string', default: '32' }, 'shared-rank': { type: 'string', default: '384' }, memory: { type: 'string', default: '8' }, out: { type: 'string' },
    track: { type: 'string', default: 'mlp' }, join: { type: 'string' }, factors: { type: 'string' },
  },
})

type Figures = Record<string, number | string | null>

const required = (name: 'model' | 'documents' | 'queries'): string => {
  const value = values[name]
  if (value === undefined) throw new Error(`--${name} is missing`)
  return value
}

const main = async (): Promise<void> => {
  const skip = new Set(values.skip.split(','))
  const [batch, batches] = [Number(values.batch), Number(values.batches)]
  const { track } = values
  const checkpoint = await openModel(required('model'), { positionsMax: 4096 })
  const { model } = checkpoint
  const tracked = trackedLayers(model, track)
  const documents = jsonLines<{ readonly tokens: Tokens }>(required('documents')).map(({ tokens }) => tokens)
  const context = documents[0].length
  const amount = { documents, batch, batches }
  const figures: Figures = { model: required('model'), T: context, B: batch, threads: Number(values.threads), trackedLayers: tracked.length }
  const report = (name: string, value: number | string | null): void => {
    figures[name] = typeof value === 'number' ? Number(value.toPrecision(4)) : value
    console.error(`${name}: ${figures[name]}`)
  }
  const reportShare = (name: string, speed: Speed, suffix = ''): void => {
    report(`${name} GFLOP a token${suffix}`, speed.flopAToken / 1e9)
    report(`gemmGflops beside ${name}${suffix}`, speed.gemmRate / 1e9)
    report(`${name} fraction of GEMM rate${suffix}`, shareOf(speed))
  }
  const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-'))
  try {
    await using engine = onnxEngine({ threads: Number(values.threads) })
    report('gemmGflopsBefore', (await gemmRate(engine)) / 1e9)
    const kept = values.factors ?? folder
    const isThere = (await readManifest(kept)) !== undefined
    const fit = skip.has('fit') || isThere ? undefined : await timeFit(engine, checkpoint, tracked, kept, { ...amount, track })
    if (fit !== undefined) {
      report('covarianceTokensPerSecond', fit.covariances.tokensPerSecond)
      reportShare('covariance', fit.covariances)
      report('eigendecompositionSeconds', fit.eigendecompositionSeconds)
      report('eigendecompositions', fit.eigendecompositions)
      report('lambdaTokensPerSecond', fit.eigenvalues.tokensPerSecond)
      reportShare('lambda', fit.eigenvalues)
    }
    const factors = fit?.factors ?? (isThere ? await openFactors(kept, 'bench', tracked) : await identityFactors(tracked, folder, { track, context, batch }))
    for (const count of values['queries-counts'].split(',').map(Number)) {
      const queries = [...jsonLines<QueryTokens>(required('queries')).slice(0, count)]
      // Queries beyond those in the file are the same ones with another first token of the completion: all distinct.
      while (queries.length < count) {
        const base = queries[queries.length % Math.min(count, queries.length)]
        const tokens = [...base.tokens]
        tokens[base.prompt] = (tokens[base.prompt] + queries.length) % model.vocabulary
        queries.push({ ...base, id: `${base.id}-${queries.length}`, tokens })
      }
      const plan = planJoin(
        { model, tracked, queries: count, rank: Number(values.rank), sharedRank: Number(values['shared-rank']), context, batchTokens: batch * context, memory: Number(values.memory) * 2 ** 30 },
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
        report(`secondsAQuery gradients, ${count} queries`, (await secondsOf(() => prepareGradients(tokenized, parts))) / count)
        for (const each of kinds) {
          const own = each === 'shared' ? Number(values['shared-rank']) : Number(values.rank)
          const time = await secondsOf(async () => {
            const prepared = await prepareQueries(tokenized, { kind: each, rank: own }, parts, { keep: each !== 'dense' })
            if (each === kind) bound = prepared.tensors
          })
          report(`secondsAQuery ${each}, ${count} queries`, time / count)
        }
      }
      if (!skip.has('score')) {
        const shape = { queries: count, rank }
        const speed = await timeScoring(engine, checkpoint, tracked, { ...amount, kind, shape, queries: bound ?? madeQueries(kind, tracked, shape) })
        report(`scoreTokensPerSecond ${kind}, ${count} queries`, speed.tokensPerSecond)
        reportShare('score', speed, `, ${count} queries`)
        report(`peakRssGb after ${count} queries`, peakBytes() / 1e9)
      }
    }
    report('gemmGflopsAfter', (await gemmRate(engine)) / 1e9)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  for (const path of values.peer?.split(',') ?? []) compare(figures, readPeer(path))
  const text = JSON.stringify(figures, null, 2)
  console.log(text)
  if (values.out !== undefined) writeFileSync(values.out, `${text}\n`)
}

interface QueryTokens {
  readonly id: string
  readonly tokens: Tokens
  readonly prompt: number
}

/** The peer's figures, and ours over theirs. */
const compare = (figures: Figures, peer: Peer): void => {
  const count = peer.settings.queries
  const ratio = (name: string, ours: number | string | null | undefined, theirs: number | undefined, faster: 'more' | 'less'): void => {
    if (typeof ours !== 'number' || theirs === undefined) return
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
