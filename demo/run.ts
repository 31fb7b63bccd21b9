/**
 * @file The demo, `npm start`: a corpus with planted facts and procedures streams in, factors are fitted, every document
 * is scored against facts, worked problems and controls, and the tables are held against what was planted.
 *
 * --serve shows it all on the live page while it happens, and stays up when it is done.
 *
 * Options: --home DIR (default .tributary/demo), --log ADDRESS (embedded, or kafka://host:port), --documents N (fewer, for
 * a quick look), --fresh (start anew), --serve, --listen HOST:PORT (where the live page is; default 127.0.0.1:8080).
 */
import { existsSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { packageRoot, UserError } from '../src/base/index.js'
import { reportOf } from '../src/cli/report.js'
import { servePage } from '../src/cli/page.js'
import { interruptible, progressFor } from '../src/cli/shell.js'
import { fit } from '../src/pipeline/fit.js'
import { openLog } from '../src/pipeline/home.js'
import { ingest } from '../src/pipeline/ingest.js'
import { Interrupted } from '../src/pipeline/outputs/index.js'
import { addQueries, readQueries } from '../src/pipeline/queries.js'
import { score } from '../src/pipeline/score.js'
import { readRun } from '../src/pipeline/runs.js'
import { readTopK, type TopKTable } from '../src/pipeline/top-k.js'
import type { Log } from '../src/log/index.js'
import { pageAddressDefault, parseAddress, resolveSettings } from '../src/settings/index.js'
import { demoSeed, documents, writeCorpus } from './corpus.js'
import { queries as demoQueries, type DemoQuery } from './queries.js'
import { found, teaches, teachingsOf, type Found } from './truth.js'

const run = 'demo'
const factors = 'demo'
/** Documents that the factors are fitted on. */
const fitDocuments = 2_000
/** Rows shown of a table, and the rank up to which planted documents count as found. */
const rowsShown = 4
const foundWithin = 20

const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text)

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      home: { type: 'string' }, log: { type: 'string' }, documents: { type: 'string' }, fresh: { type: 'boolean', default: false },
      serve: { type: 'boolean', default: false }, listen: { type: 'string', default: pageAddressDefault },
    },
  })
  const home = values.home ?? join('.tributary', 'demo')
  const limit = values.documents === undefined ? undefined : Number(values.documents)
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0)) throw new UserError(`--documents ${values.documents ?? ''} is not a positive whole number`)
  if (values.fresh) rmSync(home, { recursive: true, force: true })
  const model = join(packageRoot(), 'demo', 'model')
  const corpus = join(home, 'corpus')
  const { log: address } = values
  const common = { home, log: address, model, batchTokens: '4096' }
  const settings = {
    ingest: resolveSettings('ingest', { flags: { home, log: address, paths: [corpus] }, env: {} }),
    fit: resolveSettings('fit', { flags: { ...common, factors, documents: String(fitDocuments) }, env: {} }),
    score: resolveSettings('score', { flags: { ...common, run, factors }, env: {} }),
  }
  const shown = (command: string): void => console.log(`\n${bold(`$ tributary ${command} --home ${home}${address === undefined ? '' : ` --log ${address}`}`)}`)
  const progress = progressFor(settings.score)
  using interruption = interruptible((line) => progress.log(line))
  const { signal } = interruption
  const startedMs = Date.now()

  console.log('Which documents make a language model say what it says? A small model was trained on about ten thousand documents:')
  console.log('an encyclopedia of invented places, code, threads, lessons that work out slopes, sums and equations, and fiction.')
  if (!existsSync(corpus)) {
    const { documents: written } = writeCorpus(corpus, limit === undefined ? {} : { documents: limit })
    console.log(`The corpus, made from seed ${demoSeed}: ${written.toLocaleString('en-US')} documents in ${corpus}`)
  }
  await using log = await openLog(settings.score)
  const context = { log, progress, signal, now: () => Date.now() }
  await using page = values.serve ? await servePage(settings.score, { address: parseAddress(values.listen), run }) : null
  if (page !== null) console.log(`The live page: ${bold(page.url)}`)
  const stopped = (what: string): boolean => {
    if (!signal.aborted) return false
    console.log(`\nStopped while ${what}. "npm start" goes on from there.`)
    process.exitCode = interruption.exitCode ?? 130
    return true
  }

  shown(`ingest ${corpus}`)
  const ingested = await ingest(settings.ingest, context)
  console.log(`${ingested.appended.toLocaleString('en-US')} documents appended, ${ingested.alreadyThere.toLocaleString('en-US')} were there already`)
  if (stopped('ingesting')) return

  shown(`queries add ${relative('.', join(packageRoot(), 'demo', 'queries.jsonl'))}`)
  const { added, alreadyThere } = await addQueries(log, readQueries(join(packageRoot(), 'demo', 'queries.jsonl')))
  console.log(`${added} queries added, ${alreadyThere} were there already`)

  shown(`fit --model ${relative('.', model)} --factors ${factors} --documents ${fitDocuments} --batch-tokens 4096`)
  const fitted = await fit(settings.fit, context)
  for (const note of fitted.notes) console.log(note)
  if (stopped('fitting')) return

  shown(`score --run ${run} --model ${relative('.', model)} --factors ${factors} --batch-tokens 4096`)
  const scored = await score(settings.score, context)
  for (const note of scored.notes) console.log(note)
  console.log(`${scored.documents.toLocaleString('en-US')} documents and ${scored.tokens.toLocaleString('en-US')} tokens scored in ${scored.seconds.toFixed(0)} s`)
  if (stopped('scoring')) return

  await report(log)
  const reportFile = join(home, 'report.html')
  shown(`report --run ${run} --out ${reportFile} --force`)
  try {
    await reportOf(log, await readRun(log, run), { home, out: reportFile, progress, signal })
  } catch (error) {
    if (error instanceof Interrupted && stopped('writing the report')) return
    throw error
  }
  console.log(`
Done in ${((Date.now() - startedMs) / 1000).toFixed(0)} s. Everything lies in ${home}: the log (log/), the factors (factors/${factors}/), the
cached query gradients (query-cache/) and the corpus (corpus/). Try next:
  open ${reportFile} (every figure of the paper beside this run's; \`npx tributary analyses --home ${home} --run ${run}\` prints them)
${page === null ? `  npx tributary serve --home ${home}   (the live page)\n` : ''}  npx tributary topk --home ${home} --run ${run} --query slope-1 -k 10 --normed
  npx tributary topk --home ${home} --run ${run} --query slope-1 --bottom
  npx tributary scores --home ${home} --run ${run} --format npy --out scores
  npx tributary status --home ${home}`.replaceAll('slope-1', exampleQuery()))
  if (page === null) return
  console.log(`\nThe live page stays at ${bold(page.url)}; Ctrl-C ends it.`)
  if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
}

const exampleQuery = (): string => demoQueries().find(({ task }) => task === 'slope')?.id ?? ''

/** The tables of one query of each kind, then how much of the planted truth all tables found. */
const report = async (log: Log): Promise<void> => {
  const record = await readRun(log, run)
  const byId = new Map(demoQueries().map((query) => [query.id, query]))
  const tables = await readTopK(log, record, { query: [], rows: foundWithin, bottom: false, normed: true })
  const extras = new Map(Array.from(documents(), ({ id, source, teaches: taught }) => [`${source}/${id}`, taught]))

  console.log('\nThe first documents of four queries, by influence / gradient norm (* teaches what the query needs):')
  const kinds = ['facts', 'slope', 'arithmetic', 'linear']
  for (const kind of kinds) {
    const table = tables.find(({ query }) => query.task === kind && byId.get(query.id)?.group !== 'control')
    if (table !== undefined) show(table, byId.get(table.query.id), extras)
  }
  summary(tables, byId)
}

const oneLine = (text: string, width: number): string => {
  const flat = text.replaceAll(/\s+/g, ' ').trim()
  return flat.length <= width ? flat : `${flat.slice(0, width - 1)}…`
}

const show = ({ query, rows }: TopKTable, demo: DemoQuery | undefined, extras: ReadonlyMap<string, readonly string[]>): void => {
  const answer = oneLine(query.completion, 70)
  console.log(`\n${bold(oneLine(query.prompt, 60))} ${answer}   (${query.id}, ${query.group ?? ''})`)
  const width = Math.max(40, Math.min(process.stdout.columns ?? 120, 160) - 48)
  const table = new Table({ head: ['', 'score', 'source', 'document', 'text'], style: { head: [], border: [], compact: true }, chars: plainLines })
  for (const { rank, score: value, source, document, text } of rows.slice(0, rowsShown)) {
    const isPlanted = demo !== undefined && teaches(demo, { teaches: extras.get(`${source}/${document}`) ?? [] })
    table.push([`${isPlanted ? '*' : ' '}${rank}`, value.toPrecision(3), source, document, oneLine(text ?? '', width)])
  }
  console.log(table.toString())
}

const plainLines = {
  top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '',
  left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: ' ',
}

/** By task: how many of the documents that teach what a query needs stand in its first rows, against chance. */
const summary = (tables: readonly TopKTable[], byId: ReadonlyMap<string, DemoQuery>): void => {
  const teachings = teachingsOf(documents())
  const rows = new Map<string, Found[]>()
  for (const { query, rows: ranking } of tables) {
    const demo = byId.get(query.id)
    if (demo === undefined || demo.teaches.length === 0) continue
    const task = query.task ?? ''
    rows.set(task, [...(rows.get(task) ?? []), found(demo, { ranking: ranking.map(({ document }) => document), k: foundWithin, teachings })])
  }
  console.log(`\nHow much of the planted truth stands in the first ${foundWithin} of each table (of ${teachings.size.toLocaleString('en-US')} documents):`)
  const table = new Table({
    head: ['task', 'queries', 'planted a query', 'found', 'of at most', 'by chance', 'queries with one first', 'with one at all'],
    style: { head: [], border: [], compact: true }, chars: plainLines, colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
  })
  const mean = (values: readonly number[]): string => (values.reduce((a, b) => a + b, 0) / values.length).toFixed(1)
  for (const [task, results] of rows) {
    table.push([
      task, results.length, mean(results.map(({ planted }) => planted)), mean(results.map((r) => r.found)), mean(results.map(({ foundMax }) => foundMax)),
      mean(results.map(({ foundByChance }) => foundByChance)), results.filter(({ firstRank }) => firstRank === 0).length, results.filter(({ firstRank }) => firstRank !== null).length,
    ])
  }
  console.log(table.toString())
}

main().catch((error: unknown) => {
  if (error instanceof UserError) {
    console.error(`error: ${error.message}${error.fix === undefined ? '' : `\nfix: ${error.fix}`}`)
    process.exitCode = 1
  } else throw error
})
