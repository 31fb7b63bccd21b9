/**
 * @file How near scores with products of 16 bits come to those with float32: correlation and overlap of the tables, over a
 * real checkpoint, its EK-FAC factors and its documents.
 *
 *     node dist/bench/precision.js --model DIR --documents FILE --queries FILE
 *         [--track mlp] [--context 64] [--number 256] [--fit-documents N] [--queries-max 10] [--join low-rank] [--device cpu] [--threads 2]
 *         [--precisions f16,bf16] [--home DIR]
 *
 * Documents are JSON lines with "text" or "tokens" (ids); queries with "prompt" and "completion", or "tokens" and in
 * "prompt" how many of them are the prompt's. Documents are cut into pieces of --context tokens, and each is a document.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  fit, fitSettings, ingest, ingestSettings, openCheckpoint, openLog, pipelineContext, prepareScoring, scoreDocuments, scoreSettings, silentProgress, toQuery, type QueryValue,
} from '../src/index.js'
import { spearman } from '../src/pipeline/rank-correlation.js'
import { tokenTexts } from '../src/pipeline/token-texts.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' }, documents: { type: 'string' }, queries: { type: 'string' }, track: { type: 'string', default: 'mlp' }, context: { type: 'string', default: '64' },
    number: { type: 'string', default: '256' }, 'fit-documents': { type: 'string' }, 'queries-max': { type: 'string', default: '10' }, join: { type: 'string', default: 'low-rank' },
    device: { type: 'string', default: 'cpu' }, threads: { type: 'string', default: '2' }, precisions: { type: 'string', default: 'f16,bf16' }, home: { type: 'string' },
  },
})
const { model, documents: documentsFile, queries: queriesFile } = values
if (model === undefined || documentsFile === undefined || queriesFile === undefined) throw new Error('--model, --documents and --queries are needed')
const [context, threads] = [Number(values.context), Number(values.threads)]

interface Line {
  readonly id?: string
  readonly text?: string
  readonly tokens?: readonly number[]
  readonly prompt?: string | number
  readonly completion?: string
}
const lines = (path: string): readonly Line[] => readFileSync(path, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Line)

const home = values.home ?? mkdtempSync(join(tmpdir(), 'tributary-precision-'))
const { tokenizer } = await openCheckpoint(model, { home, context: null })
const textOf = (tokens: readonly number[]): string => tokenTexts(tokens, tokenizer).join('')
const pieces = lines(documentsFile).flatMap(({ text, tokens }) => {
  const ids = tokens ?? tokenizer.encodeDocument(text ?? '')
  return Array.from({ length: Math.floor(ids.length / context) }, (_, i) => textOf(ids.slice(i * context, (i + 1) * context)))
}).slice(0, Number(values.number)).map((text, i) => ({ id: String(i), text }))
const queries = lines(queriesFile).slice(0, Number(values['queries-max'])).map((line, i): QueryValue => {
  const { id = String(i), prompt, completion, tokens } = line
  if (typeof prompt === 'string' && completion !== undefined) return toQuery({ id, prompt, completion })
  const ids = tokens ?? []
  return toQuery({ id, prompt: textOf(ids.slice(0, Number(prompt))), completion: textOf(ids.slice(Number(prompt))) })
})

try {
  const common = { home, model, threads, factors: 'f', context, batchTokens: 512, device: values.device as 'cpu' }
  {
    await using log = await openLog({ home })
    const shard = join(home, 'pieces.jsonl')
    writeFileSync(shard, pieces.map((piece) => `${JSON.stringify(piece)}\n`).join(''))
    await ingest(ingestSettings({ home, paths: [shard] }), pipelineContext(log))
    const began = performance.now()
    const { notes } = await fit(fitSettings({ ...common, documents: Number(values['fit-documents'] ?? pieces.length), track: values.track }), pipelineContext(log))
    console.log(`${notes.join('. ')}; ${((performance.now() - began) / 1e3).toFixed(0)} s`)
  }
  const scored = async (precision: 'f32' | 'f16' | 'bf16'): Promise<{ readonly seconds: number; readonly losses: readonly number[]; readonly norms: readonly number[]; readonly scores: readonly (readonly number[])[]; readonly rejected: number }> => {
    const settings = scoreSettings({ ...common, run: precision, precision, join: values.join as 'low-rank' })
    await using scoring = await prepareScoring(settings, queries, { progress: { ...silentProgress, log: (line) => console.log(line) } })
    const rows = new Array<{ loss: number; gradientNorm: number; influence: Float32Array } | undefined>(pieces.length)
    let rejected = 0
    const began = performance.now()
    for await (const score of scoreDocuments(scoring, pieces, { onRejected: () => void rejected++ })) rows[score.index] = score
    const seconds = (performance.now() - began) / 1e3
    return {
      seconds, rejected, losses: rows.map((row) => row?.loss ?? NaN), norms: rows.map((row) => row?.gradientNorm ?? NaN),
      scores: queries.map((_, q) => rows.map((row) => row?.influence[q] ?? NaN)),
    }
  }
  const exact = await scored('f32')
  console.log(`f32: ${pieces.length} documents of ${context} tokens, ${queries.length} queries, ${exact.seconds.toFixed(1)} s, ${exact.rejected} rejected`)
  for (const precision of values.precisions.split(',') as ('f16' | 'bf16')[]) {
    const found = await scored(precision)
    const each = queries.map((_, q) => {
      const [x, y] = [exact.scores[q], found.scores[q]]
      return { pearson: pearson(x, y), spearman: spearman(x, y) ?? NaN, error: error(x, y), top10: overlap(x, y, 10), top50: overlap(x, y, 50), bottom10: overlap(x, y, -10) }
    })
    const summary = (key: keyof (typeof each)[number], worst: (...numbers: number[]) => number): string =>
      `${(each.reduce((sum, one) => sum + one[key], 0) / each.length).toPrecision(5)} (worst ${worst(...each.map((one) => one[key])).toPrecision(4)})`
    console.log([
      `${precision}: ${(exact.seconds / found.seconds).toPrecision(2)} of the speed of f32, ${found.rejected} rejected`,
      `  Pearson ${summary('pearson', Math.min)}, Spearman ${summary('spearman', Math.min)}, relative error ${summary('error', Math.max)}`,
      `  overlap: top 10 ${summary('top10', Math.min)}, bottom 10 ${summary('bottom10', Math.min)}, top 50 ${summary('top50', Math.min)}`,
      `  relative error of losses ${error(exact.losses, found.losses).toExponential(1)}, of gradient norms ${error(exact.norms, found.norms).toExponential(1)}`,
    ].join('\n'))
  }
} finally {
  if (values.home === undefined) rmSync(home, { recursive: true })
}

function pearson(x: readonly number[], y: readonly number[]): number {
  const mean = (v: readonly number[]): number => v.reduce((sum, a) => sum + a, 0) / v.length
  const [mx, my] = [mean(x), mean(y)]
  const dot = (a: readonly number[], ma: number, b: readonly number[], mb: number): number => a.reduce((sum, v, i) => sum + (v - ma) * (b[i] - mb), 0)
  return dot(x, mx, y, my) / Math.sqrt(dot(x, mx, x, mx) * dot(y, my, y, my))
}

/** ‖y − x‖ / ‖x‖ */
function error(x: readonly number[], y: readonly number[]): number {
  return Math.hypot(...x.map((a, i) => y[i] - a)) / Math.hypot(...x)
}

/** The share of the first (of a negative count: the last) rows that both have. */
function overlap(x: readonly number[], y: readonly number[], count: number): number {
  const first = (v: readonly number[]): readonly number[] => [...v.keys()].sort((i, j) => Math.sign(count) * (v[j] - v[i])).slice(0, Math.abs(count))
  const own = new Set(first(x))
  return first(y).filter((i) => own.has(i)).length / Math.abs(count)
}
