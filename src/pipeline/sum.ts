/**
 * @file Sum: the scores of several runs over the same documents and queries, weighted → one run, with tables and moments of
 * its own. What TracIn does with the checkpoints of a training (Pruthi et al. 2020, arXiv 2002.08484: Σ η_i ⟨g_q, g_z⟩,
 * weights η_i and the identity for factors), an average over the checkpoints of a segment of training, and the sum over
 * segments that SOURCE is (Bae et al. 2024, arXiv 2405.12186; influence/segments.ts).
 *
 *     influence of RUN 1 ─┐
 *     influence of RUN 2 ─┼─byDocument──▶ all parts of a document ──sum──▶ influence, tables, moments of the sum
 *     influence of RUN n ─┘
 *
 * I = Σ w_i I_i, and ‖∇L‖ = √(Σ w_i ‖∇L_i‖²): the norm of the gradients side by side, each times √w_i, whose product with
 * the queries' is I. The loss is the weighted mean.
 */
import { documentId, runId, TransientError, UserError, type RunId } from '../base/index.js'
import { keyOf, type Assignment, type InfluenceValue, type Log, type NewRecord, type Position } from '../log/index.js'
import { assertSameSettings, canonicalJson, parseRunRecord, type Json, type RunRecord, type SumSettings } from '../settings/index.js'
import { problemOf, type Scored } from '../table/index.js'
import type { PipelineContext, WorkResult } from './context.js'
import { silentObserver } from './observer.js'
import { restoreState } from './partition-state.js'
import { readRetries } from './retries.js'
import { readRun } from './runs.js'
import type { Pipeline } from './steps.js'
import { documentsIn } from './tally.js'

export const steps: Pipeline = {
  name: 'sum',
  about: '`influence` of several runs → the weighted sum, a run of its own',
  steps: [
    { name: 'byDocument', in: 'topic influence', out: 'parts', note: 'the records of a document in every run; one that a run has none of is left out' },
    { name: 'sum', in: 'parts', out: 'scores', note: 'Σ w·influence; the norm √(Σ w·norm²)' },
    { name: 'insert', in: 'scores', out: 'tables and moments', note: 'as in score' },
    { name: 'commit', in: ['scores', 'tables and moments'], out: ['topic influence', 'topic tables', 'topic moments'], note: 'records, state and position in one transaction' },
  ],
}

/** One run of a sum. */
export interface SumPart {
  readonly run: RunId
  readonly weight: number
}

/** `RUN=WEIGHT`, or `RUN` for the weight 1. @throws UserError for a weight that is no positive number, a run named twice */
export const sumParts = (given: readonly string[]): readonly SumPart[] => {
  const parts = given.map((text): SumPart => {
    const [name, weight] = splitWeight(text)
    return { run: runId(name), weight }
  })
  const twice = parts.find(({ run }, at) => parts.findIndex((other) => other.run === run) < at)
  if (twice !== undefined) throw new UserError(`run "${twice.run}" is named twice`, { fix: 'name each run once, with the sum of its weights' })
  return parts
}

/** What is before the last `=`, and the number behind it; 1 without one. */
export const splitWeight = (text: string): readonly [name: string, weight: number] => {
  const at = text.lastIndexOf('=')
  if (at < 0) return [text, 1]
  const weight = Number(text.slice(at + 1))
  if (text.slice(at + 1).trim() === '' || !(weight > 0) || !Number.isFinite(weight))
    throw new UserError(`"${text}" gives the weight ${JSON.stringify(text.slice(at + 1))}`, { fix: 'give a positive number behind the "=": NAME=0.1' })
  return [text.slice(0, at), weight]
}

/** Documents summed at a time. */
const chunkDocuments = 512
/**
 * A scoring writes its chunks in order, and the documents of one chunk (512 at most) in any: what is so far behind the
 * newest has all been seen. Only what a retry scored comes later (retries.ts): such documents are looked for before.
 */
const outOfOrderMax = 4096
const pendingRecordsMax = 16_384
const readBounds = { recordsMax: 512, bytesMax: 8 << 20 } as const
/** How often is looked whether others have done their share, where several workers sum. */
const waitMs = 500

/** Sums as far as all runs have come. @throws UserError for runs that do not belong together */
export const sum = async (settings: SumSettings, context: PipelineContext): Promise<WorkResult> => {
  const { log, progress, signal, now, observer = silentObserver } = context
  const startedMs = now()
  const run = runId(settings.run)
  const parts = sumParts(settings.of)
  if (parts.some((part) => part.run === run)) throw new UserError(`run "${run}" cannot be a part of itself`, { fix: 'give another --run name' })
  const records: RunRecord[] = []
  for (const part of parts) records.push(await readRun(log, part.run))
  const { record, goesOn } = await begin(settings, parts, records, context)

  const tally = { documents: 0, pieces: 0, tokens: 0, deadLetters: 0 }
  const release = new AbortController()
  const leftNow = async (): Promise<number> => {
    const targets = await reachedByAll(log, parts)
    const own = await log.positions(run)
    return targets.reduce((left, target, at) => left + Math.max(0, target - (own[at]?.offset ?? 0)), 0)
  }
  try {
    progress.start(await leftNow(), 'documents')
    observer.ready()
    const working = new Set<Promise<void>>()
    let failure: { readonly error: unknown } | undefined
    let isOver = false
    const sumOne = async (assignment: Assignment): Promise<void> => {
      try {
        await sumPartition(assignment, {
          log, run, parts, queries: record.queries.map(({ id }) => id), k: settings.k, commitEveryMs: settings.commitEveryMs, signal, now,
          onDone: (done) => {
            tally.documents += done.documents
            tally.pieces += done.pieces
            tally.tokens += done.tokens
            observer.documents({ partition: assignment.partition, ...done })
            progress.update(tally.documents)
          },
          onCommit: (committed) => observer.committed({ partition: assignment.partition, appendedMs: [], ...committed }),
        })
      } catch (error) {
        if (!(error instanceof TransientError && assignment.lost.aborted)) failure ??= { error } // a lost partition comes again
      }
    }
    const collecting = (async () => {
      for await (const assignment of log.assignments(run, { signal: release.signal })) {
        const work = sumOne(assignment)
        working.add(work)
        void work.then(() => working.delete(work))
      }
      isOver = true
    })().catch((error: unknown) => {
      failure ??= { error }
    })
    // Partitions may come one by one, be taken away, or be another worker's: done is what the positions say.
    for (;;) {
      await Promise.race([Promise.all(working), Promise.all([collecting, wait(waitMs)])])
      await wait(0)
      if (failure !== undefined || signal.aborted) break
      if (working.size === 0 && ((await leftNow()) === 0 || isOver)) break
      if (working.size === 0) await wait(waitMs)
    }
    await Promise.all(working)
    release.abort()
    await collecting
    if (failure !== undefined) throw failure.error
  } finally {
    release.abort()
    progress.stop()
  }
  const left = await leftNow()
  const behind = await documentsBehind(log, parts)
  const retried = goesOn ? await documentsRetried(log, parts) : 0
  return {
    ...tally, documentsLeft: left, finished: !signal.aborted, seconds: (now() - startedMs) / 1000,
    notes: [
      goesOn ? `run "${run}" goes on` : record.joinReason,
      ...(behind > 0 ? [`${behind} documents are not scored by all of the runs yet: score, and sum again`] : []),
      ...(retried > 0 ? [`dead letters of ${retried} documents were tried again: what was scored after this sum had passed it is not in it (tributary reset --run ${run} --yes, and sum again)`] : []),
    ],
  }
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** The run's record: written by the first worker, the same for all. */
const begin = async (
  settings: SumSettings, parts: readonly SumPart[], records: readonly RunRecord[], { log, now }: PipelineContext,
): Promise<{ readonly record: RunRecord; readonly goesOn: boolean }> => {
  const last = records.at(-1)
  if (last === undefined) throw new UserError('there is nothing to sum', { fix: 'tributary sum RUN=WEIGHT... --run NAME' })
  for (const key of ['queries', 'long', 'context'] as const)
    for (const other of records)
      if (canonicalJson(other.settings[key] ?? null) !== canonicalJson(last.settings[key] ?? null))
        throw new UserError(`runs "${other.run}" and "${last.run}" have other ${key === 'queries' ? 'queries' : `settings of --${key}`}`, {
          fix: 'score both with the same, and sum those',
        })
  const identity = canonicalJson({
    ...last.settings, k: settings.k,
    sum: parts.map(({ run, weight }, at): Json => ({ run, weight, settings: records[at].settings })),
  })
  const total = parts.reduce((sum, { weight }) => sum + weight, 0)
  const record: RunRecord = {
    ...last,
    run: settings.run,
    settings: JSON.parse(identity) as RunRecord['settings'],
    joinReason: `the sum of ${parts.map(({ run, weight }) => `${weight} × ${run}`).join(' + ')}`,
    queries: last.queries.map((query, q) => ({
      ...query, informationNats: parts.reduce((sum, { weight }, at) => sum + (weight / total) * records[at].queries[q].informationNats, 0),
    })),
    accuracy: undefined,
    createdMs: now(),
  }
  const known = async (): Promise<RunRecord | undefined> => {
    const found = (await log.latest('runs', settings.run)).find(({ key }) => key === settings.run)?.value
    return found === undefined ? undefined : parseRunRecord(settings.run, found.settings)
  }
  const before = await known()
  if (before === undefined)
    await log.append([{ topic: 'runs', key: settings.run, value: { run: settings.run, createdMs: record.createdMs, settings: JSON.stringify(record) } }], { unique: true })
  const begun = before ?? (await known()) ?? record
  assertSameSettings(settings.run, JSON.stringify(begun.settings), identity)
  return { record: begun, goesOn: before !== undefined }
}

/** For each partition up to which document all runs have come. */
const reachedByAll = async (log: Log, parts: readonly SumPart[]): Promise<readonly number[]> => {
  const all = await Promise.all(parts.map(({ run }) => log.positions(run)))
  return all[0].map((_, partition) => Math.min(...all.map((positions) => positions[partition]?.offset ?? 0)))
}

/** Documents that not all runs have come to. */
const documentsBehind = async (log: Log, parts: readonly SumPart[]): Promise<number> => {
  const ends = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends ?? []
  const reached = await reachedByAll(log, parts)
  return ends.reduce((sum, end, at) => sum + Math.max(0, end - (reached[at] ?? 0)), 0)
}

interface SumPartitionOptions {
  readonly log: Log
  readonly run: RunId
  readonly parts: readonly SumPart[]
  readonly queries: readonly string[]
  readonly k: number
  readonly commitEveryMs: number
  readonly signal: AbortSignal
  readonly now: () => number
  readonly onDone: (done: Pick<WorkResult, 'documents' | 'pieces' | 'tokens'>) => void
  readonly onCommit: (committed: { readonly records: number; readonly offset: number }) => void
}

/** What a position keeps beside the next document: for each run from where its records are still wanted. */
interface Detail {
  readonly influence: readonly number[]
}

/** Sums a partition up to where all runs have come, or the signal. */
const sumPartition = async (
  assignment: Assignment, { log, run, parts, queries, k, commitEveryMs, signal, now, onDone, onCommit }: SumPartitionOptions,
): Promise<void> => {
  const { partition, lost } = assignment
  const restored = await assignment.restore()
  const state = restoreState({ run, partition, queries, k }, restored.state)
  const begun = restored.position.detail as Detail | undefined
  let offset = restored.position.offset
  const readers: PartReader[] = []
  for (const [at, part] of parts.entries()) readers.push(await partReader(log, part.run, { partition, from: begun?.influence[at] ?? 0, document: offset }))
  let pending: NewRecord[] = []
  let committedAt = offset
  let committedMs = now()
  const commit = async (): Promise<void> => {
    if (offset === committedAt) return
    const append = [...pending, ...state.takeChanges()]
    const position: Position = { offset, detail: { influence: readers.map((reader) => reader.from) } satisfies Detail }
    await assignment.commit({ append, position })
    onCommit({ records: append.length, offset })
    pending = []
    committedAt = offset
    committedMs = now()
  }
  while (!signal.aborted && !lost.aborted) {
    const target = (await reachedByAll(log, parts))[partition] ?? 0
    if (offset >= target) break
    const to = Math.min(target, offset + chunkDocuments)
    // The end of the records is asked for after the positions: what the runs had done by then is before it.
    const end = (await log.describe()).find(({ topic }) => topic === 'influence')?.ends[partition] ?? 0
    const found: (readonly PartRecord[])[] = []
    for (const reader of readers) found.push(await reader.before(to, end))
    const sums = summed(run, parts, found)
    state.insert(sums.map(({ scored }) => scored))
    pending.push(...sums.map(({ record }) => record))
    offset = to
    onDone({
      documents: documentsIn(sums.map(({ scored }) => scored)), pieces: sums.length,
      tokens: sums.reduce((tokens, { record }) => tokens + record.value.tokens, 0),
    })
    if (now() - committedMs >= commitEveryMs || pending.length >= pendingRecordsMax) await commit()
  }
  if (!lost.aborted) await commit()
}

/** A record of one run. `key`: of the document (and piece), without the run. */
interface PartRecord {
  readonly key: string
  readonly value: InfluenceValue
}

interface PartReader {
  /** The first record of `influence` that is still wanted. */
  readonly from: number
  /** The records of the documents before `to` that were not given yet; `end`: before which all of them lie. */
  before(to: number, end: number): Promise<readonly PartRecord[]>
}

/** Reads one run's records of a partition, each once, in the order of documents. */
const partReader = async (
  log: Log, run: RunId, { partition, from, document }: { readonly partition: number; readonly from: number; readonly document: number },
): Promise<PartReader> => {
  const prefix = keyOf(run, '')
  const retried = new Set([...(await readRetries(log, run)).documentsDone(partition)].filter((offset) => offset >= document))
  let late = await recordsOf(log, run, partition, retried)
  let at = from
  let newest = -1
  let given = document
  const held: { readonly offset: number; readonly record: PartRecord }[] = []
  return {
    get from() {
      return held.reduce((least, { offset }) => Math.min(least, offset), at)
    },
    before: async (to, end) => {
      while (at < end && newest < to + outOfOrderMax) {
        const records = await log.read('influence', partition, at, readBounds)
        if (records.length === 0) break
        for (const { key, offset, value, problem } of records) {
          if (value === undefined) throw new UserError(`record ${offset} of influence, partition ${partition}, cannot be read: ${problem ?? ''}`)
          if (value.run !== run || value.offset < document || retried.has(value.offset)) continue
          if (value.offset < given) {
            // Of a retry since this sum began, which a sum that begins anew has.
            if ((await readRetries(log, run)).documentsDone(partition).has(value.offset)) continue
            throw new Error(`run "${run}" has document ${value.offset} of partition ${partition} behind document ${newest}`)
          }
          newest = Math.max(newest, value.offset)
          held.push({ offset, record: { key: key.slice(prefix.length), value } })
        }
        at = records[records.length - 1].offset + 1
      }
      const wanted = [...held.map(({ record }) => record), ...late].filter(({ value }) => value.offset < to)
      held.splice(0, held.length, ...held.filter(({ record }) => record.value.offset >= to))
      late = late.filter(({ value }) => value.offset >= to)
      given = to
      return wanted
    },
  }
}

/** A run's records of some documents, wherever in the partition they lie: those of a retry lie behind all others. */
const recordsOf = async (log: Log, run: RunId, partition: number, documents: ReadonlySet<number>): Promise<readonly PartRecord[]> => {
  const found: PartRecord[] = []
  const prefix = keyOf(run, '')
  for (let at = 0; documents.size > 0; ) {
    const records = await log.read('influence', partition, at, readBounds)
    if (records.length === 0) break
    for (const { key, value } of records) if (value?.run === run && documents.has(value.offset)) found.push({ key: key.slice(prefix.length), value })
    at = records[records.length - 1].offset + 1
  }
  return found
}

/** Documents of the runs that were scored by a retry. */
const documentsRetried = async (log: Log, parts: readonly SumPart[]): Promise<number> => {
  const documents = new Set<string>()
  for (const { run } of parts) {
    const retries = await readRetries(log, run)
    for (const [partition] of (await log.positions(run)).entries()) for (const offset of retries.documentsDone(partition)) documents.add(`${partition}:${offset}`)
  }
  return documents.size
}

/** The sums of the documents that every run has, in the order of documents. What comes to no number is left out. */
const summed = (
  run: RunId, parts: readonly SumPart[], found: readonly (readonly PartRecord[])[],
): readonly { readonly scored: Scored; readonly record: NewRecord<'influence'> & { readonly value: InfluenceValue } }[] => {
  const byKey = found.map((records) => new Map(records.map(({ key, value }) => [key, value])))
  const total = parts.reduce((sum, { weight }) => sum + weight, 0)
  const ordered = [...(byKey[0] ?? new Map<string, InfluenceValue>())].sort(([, a], [, b]) => a.offset - b.offset || a.piece - b.piece)
  return ordered.flatMap(([key, first]) => {
    const values = byKey.flatMap((records) => records.get(key) ?? [])
    if (values.length < parts.length) return [] // a dead letter of one of the runs
    const over = (of: (value: InfluenceValue) => number): number => values.reduce((sum, value, at) => sum + parts[at].weight * of(value), 0)
    const influence = Float32Array.from(first.influence, (_, q) => over((value) => value.influence[q]))
    const gradientNorm = Math.fround(Math.sqrt(over((value) => value.gradientNorm ** 2)))
    const { document, source, piece, partition, offset } = first
    const scored: Scored = { document: documentId(document), source, piece, partition, offset, gradientNorm, influence }
    if (problemOf(scored) !== undefined) return []
    const value: InfluenceValue = { ...first, run, gradientNorm, influence: [...influence], loss: Math.fround(over(({ loss }) => loss) / total) }
    return [{ scored, record: { topic: 'influence' as const, key: keyOf(run, key), value } }]
  })
}
