/**
 * @file influence → analyses: the records of a run are read once, partition by partition, into a mergeable state
 * (src/analysis); while the run goes on or after. What is in is told as offsets. The states are kept in the home, so the
 * next call reads only what has come since.
 *
 *     influence ──read──▶ scored documents ──text and labels of documents──▶ state ──merge──▶ figures
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import {
  analyse, AnalysisState, answerRows, depthDefault, pairsToJudge, placeOf, TopTexts,
  type Analyses, type AnalysedDocument, type AnalysedQuery, type JudgedPair, type OwnScores, type StateOptions,
} from '../analysis/index.js'
import { documentId, runId, UserError } from '../base/index.js'
import type { InfluenceValue, Log, LogRecord } from '../log/index.js'
import type { RunRecord } from '../settings/index.js'
import { analysisCache, type AnalysisCache } from './analysis-cache.js'
import { silentProgress, type Progress } from './context.js'
import { documentsAt, fieldOf, namesIn } from './documents-at.js'
import { silentObserver, type Observer } from './observer.js'
import { Interrupted } from './outputs/index.js'
import { documentsIn } from './tally.js'

export interface AnalyseOptions {
  /** The home whose cache is used; null: none. */
  readonly home: string | null
  /** Rows of every deep table. */
  readonly depth?: number
  /** The field of documents and queries that says what they teach, or need. */
  readonly labelField?: string
  /** Scores of the queries' own texts, for the self-check (own-texts.ts). */
  readonly ownScores?: OwnScores
  /**
   * Rows of every query's tables of which the tokens are looked at (concentrations.ts): needs the home, checkpoint and
   * factors. Default 0: what was judged before is told, no more.
   */
  readonly spurious?: number
  readonly threads?: number | null
  readonly progress?: Progress
  readonly signal?: AbortSignal
  readonly observer?: Observer
}

/** Records of one partition of `influence` that are in: `[from, end)`, those of other runs counted in. */
export interface AnalysedOffsets {
  readonly partition: number
  readonly from: number
  readonly end: number
}

export interface RunAnalyses {
  readonly run: RunRecord
  readonly queries: readonly AnalysedQuery[]
  readonly analyses: Analyses
  readonly state: AnalysisState
  readonly texts: TopTexts
  readonly offsets: readonly AnalysedOffsets[]
  /** Documents that the run has not come to yet. */
  readonly lag: number
  /** Records that were read this time; the others were in the cache. */
  readonly recordsRead: number
}

/** The field that the demo, and corpora like it, label documents by. */
export const labelFieldDefault = 'teaches'
const BOUNDS = { recordsMax: 512, bytesMax: 8 << 20 }
/** Records between two savings. */
const SAVE_EVERY = 50_000

/**
 * Every figure of a run as of now.
 * @throws UserError for a record that cannot be read; Interrupted when the signal is aborted (what was read is kept)
 */
export const analyseRun = async (log: Log, run: RunRecord, options: AnalyseOptions): Promise<RunAnalyses> => {
  const { progress = silentProgress, signal = new AbortController().signal, labelField = labelFieldDefault, observer = silentObserver } = options
  const queries = await analysedQueries(log, run, labelField)
  const stateOptions: StateOptions = { queries, depth: options.depth ?? depthDefault }
  const cache = options.home === null ? undefined : analysisCache(join(options.home, 'analyses', run.run), cacheIdentity(run, labelField))
  const info = (await log.describe()).find(({ topic }) => topic === 'influence')
  const ends = info?.ends ?? []
  const total = new AnalysisState(stateOptions)
  const offsets: AnalysedOffsets[] = []
  let recordsRead = 0
  observer.ready()
  progress.start(ends.reduce((sum, end, at) => sum + end - (info?.starts[at] ?? 0), 0), 'records')
  try {
    let before = 0
    for (const [partition, end] of ends.entries()) {
      const start = info?.starts[partition] ?? 0
      const done = await readPartition(log, run, {
        partition, start, end, stateOptions, cache, labelField, signal, observer, onRead: (read, isNew) => {
          recordsRead += isNew
          progress.update(before + read)
        },
      })
      total.merge(done.state)
      offsets.push({ partition, from: done.from, end: done.end })
      before += end - start
    }
    const texts = new TopTexts(total, answerRows)
    progress.start(texts.wanted.length, 'texts')
    observer.quiet('read')
    let seen = 0
    for await (const { place, value } of documentsAt(log, texts.wanted)) {
      if (signal.aborted) throw new Interrupted('interrupted; what was read is kept')
      texts.add(place, { document: value.id, source: value.source, text: value.text, labels: namesIn(value.extra, labelField) })
      progress.update(++seen)
    }
    const judged = await judgedOf(log, run, total, options)
    return { run, queries, analyses: analyse(total, texts, { ownScores: options.ownScores, judged }), state: total, texts, offsets, lag: await lagOf(log, run), recordsRead }
  } finally {
    progress.stop()
  }
}

/** Explaining brings the engine: loaded only where it is asked for. */
const judgedOf = async (log: Log, run: RunRecord, state: AnalysisState, { home, spurious = 0, threads = null, progress, signal, observer }: AnalyseOptions): Promise<ReadonlyMap<string, JudgedPair>> => {
  if (home === null) return new Map()
  const { judge, judgedBefore } = await import('./concentrations.js')
  return spurious === 0 ? judgedBefore(home, run) : await judge(log, run, pairsToJudge(state, spurious), { home, threads, progress, signal, observer })
}

interface PartitionPart {
  readonly partition: number
  readonly start: number
  readonly end: number
  readonly stateOptions: StateOptions
  readonly cache: AnalysisCache | undefined
  readonly labelField: string
  readonly signal: AbortSignal
  readonly observer: Observer
  readonly onRead: (read: number, isNew: number) => void
}

const readPartition = async (
  log: Log, run: RunRecord, { partition, start, end, stateOptions, cache, labelField, signal, observer, onRead }: PartitionPart,
): Promise<{ readonly state: AnalysisState; readonly from: number; readonly end: number }> => {
  const cached = cache?.load(partition, stateOptions)
  // A cache that is ahead of the topic is of another log.
  const kept = cached !== undefined && cached.end <= end ? cached : { state: new AnalysisState(stateOptions), from: start, end: start }
  const { state, from } = kept
  let at = kept.end
  let saved = at
  const save = (): void => {
    if (at > saved) cache?.save(partition, { state, from, end: at })
    saved = at
  }
  onRead(at - start, 0)
  while (at < end) {
    if (signal.aborted) {
      save()
      throw new Interrupted('interrupted; what was read is kept')
    }
    const wasRead = observer.time('read')
    const records = (await log.read('influence', partition, at, BOUNDS)).filter(({ offset }) => offset < end)
    if (records.length === 0) break
    const values = records.flatMap((record) => scoredOf(record, run))
    const documents = await withTexts(log, values, labelField)
    wasRead()
    const inserted = observer.time('insert')
    state.insert(documents)
    inserted()
    observer.documents({ partition, documents: documentsIn(values), pieces: values.length, tokens: values.reduce((sum, { tokens }) => sum + tokens, 0) })
    const next = records[records.length - 1].offset + 1
    onRead(next - start, next - at)
    at = next
    if (at - saved >= SAVE_EVERY) save()
  }
  save()
  return { state, from, end: at }
}

/** The value of a record of this run; nothing for one of another. */
const scoredOf = ({ value, partition, offset, problem }: LogRecord<'influence'>, run: RunRecord): InfluenceValue[] => {
  if (value === undefined) throw new UserError(`record ${offset} of influence, partition ${partition}, cannot be read: ${problem ?? ''}`)
  if (value.run !== run.run) return []
  if (value.influence.length !== run.queries.length)
    throw new UserError(`document "${value.document}" of run "${run.run}" has ${value.influence.length} scores, the run ${run.queries.length} queries`)
  return [value]
}

const withTexts = async (log: Log, values: readonly InfluenceValue[], labelField: string): Promise<AnalysedDocument[]> => {
  const places = values.map(({ partition, offset }) => placeOf(partition, offset))
  const about = new Map<number, { readonly text: string | null; readonly labels: readonly string[] }>()
  for await (const { place, value } of documentsAt(log, [...new Set(places)].sort((a, b) => a - b)))
    about.set(place, { text: value.text, labels: namesIn(value.extra, labelField) })
  return values.map(({ document, source, piece, partition, offset, gradientNorm, influence }, i) => ({
    document: documentId(document), source, piece, partition, offset, gradientNorm, influence: Float32Array.from(influence),
    ...(about.get(places[i]) ?? { text: null, labels: [] }),
  }))
}

/**
 * The run's queries with what the topic `queries` says beside: whether the completion is right (`correct`), and labels.
 * Only of a query that asks the same still.
 */
export const analysedQueries = async (log: Log, run: RunRecord, labelField: string): Promise<AnalysedQuery[]> => {
  const known = new Map((await log.latest('queries')).flatMap(({ key, value }) => (value === undefined ? [] : [[key, value] as const])))
  return run.queries.map(({ id, prompt, completion, group, task, answer, steps, informationNats }) => {
    const value = known.get(id)
    const extra = value !== undefined && value.prompt === prompt && value.completion === completion ? value.extra : null
    const correct = fieldOf(extra, 'correct')
    return {
      id, prompt, completion, group: group ?? 'queries', task: task ?? '', answer, steps: steps ?? [], informationNats,
      correct: typeof correct === 'boolean' ? correct : null, labels: namesIn(extra, labelField),
    }
  })
}

/** A run of the same name that was begun again, or in another log, has another cache. */
const cacheIdentity = ({ run, createdMs, settings }: RunRecord, labelField: string): string =>
  createHash('sha256').update(JSON.stringify([run, createdMs, settings, labelField])).digest('hex')

const lagOf = async (log: Log, run: RunRecord): Promise<number> => {
  const ends = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends ?? []
  const positions = await log.positions(runId(run.run))
  return ends.reduce((sum, end, at) => sum + Math.max(0, end - (positions[at]?.offset ?? 0)), 0)
}
