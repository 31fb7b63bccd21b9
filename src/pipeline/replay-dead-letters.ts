/**
 * @file Dead letters → another try.
 *
 * - Of ingest: the line is read again from its original bytes, by the same or other names of fields, and appended as
 *   ingest would. The document's identity makes that safe to repeat.
 * - Of a run: a retry is asked for, which a worker of the run carries out, exactly once (retries.ts says how and why).
 *   Nothing is scored here: the worker has the model, the factors and the partition.
 * - Of a fit: nothing. Factors are of a sample, and what was fitted is not fitted again.
 *
 * May be interrupted anywhere and called again.
 */
import type { DeadLetterValue, DocumentValue, Log, NewRecord, RetryValue } from '../log/index.js'
import { findDeadLetter, idOf, isReadable, matcher, readDeadLetters, type DeadLetterFilter, type DeadLetterRecord } from './dead-letters.js'
import { isTextShard, ORIGINAL_BYTES_MAX, toRecord, type DocumentOptions } from './ingest.js'
import { readRetries, retryRecord, type Retries } from './retries.js'
import { bytesField, rereadLine } from './shards/index.js'

/** Letters and bytes of originals that are held before they are appended. */
const batchMax = 1000
const batchBytesMax = 4 << 20
/** Letters that are told one by one. */
const toldMax = 1000

export interface ReplayOptions {
  /** How a line becomes a document, as `ingest` has it. */
  readonly document: DocumentOptions
  /** Nothing is written. */
  readonly dryRun?: boolean
  /** Aborted: what is in hand is appended, then it returns. */
  readonly signal?: AbortSignal
  /** After every batch: letters looked at so far. */
  readonly onProgress?: (done: number) => void
}

/** A dead letter and why nothing came of it. */
export interface NotReplayed {
  readonly id: string
  readonly cause: string
}

export interface ReplayResult {
  /** Dead letters that were meant. */
  readonly matched: number
  /** Of ingest: documents that are in now, and those that were. */
  readonly appended: number
  readonly alreadyThere: number
  /** Of ingest: lines that are no documents this time either. The first 1,000. */
  readonly failedAgain: readonly NotReplayed[]
  readonly failedAgainCount: number
  /** Of runs: retries asked for now, those that had been and wait for a worker, and those that have been done. */
  readonly wanted: number
  readonly alreadyWanted: number
  readonly alreadyDone: number
  /** Runs with retries that wait for a worker. */
  readonly runs: readonly string[]
  /** What cannot be replayed at all. The first 1,000. */
  readonly refused: readonly NotReplayed[]
  readonly refusedCount: number
  /** False when the signal ended it. */
  readonly finished: boolean
}

/** @throws UserError for an id that is none */
export const replayDeadLetters = async (
  log: Log, filter: DeadLetterFilter, { document, dryRun = false, signal, onProgress }: ReplayOptions,
): Promise<ReplayResult> => {
  const retries = await readRetries(log)
  const runs = new Set((await log.describe()).some(({ topic }) => topic === 'runs') ? (await log.latest('runs')).map(({ key }) => key) : [])
  const total = { matched: 0, appended: 0, alreadyThere: 0, wanted: 0, alreadyWanted: 0, alreadyDone: 0 }
  const [failedAgain, refused] = [told(), told()]
  const waiting = new Set<string>()
  let documents: { readonly record: NewRecord<'documents'>; readonly mark: RetryValue }[] = []
  let wanted: RetryValue[] = []
  let bytes = 0

  const write = async (): Promise<void> => {
    if (dryRun) total.appended += documents.length
    else {
      const { appended, duplicates } = await log.append(documents.map(({ record }) => record), { unique: true })
      total.appended += appended
      total.alreadyThere += duplicates
      // Marks come last: whoever is killed between the two appends the documents again, which adds nothing.
      await log.append([...documents.map(({ mark }) => mark), ...wanted].map(retryRecord))
    }
    total.wanted += wanted.length
    documents = []
    wanted = []
    bytes = 0
    onProgress?.(total.matched)
  }

  let finished = true
  for await (const record of meant(log, filter)) {
    if (signal?.aborted === true) {
      finished = false
      break
    }
    total.matched++
    const id = idOf(record)
    const tried = record.value.stage === 'ingest' ? again(record, document, retries) : retryOf(record, runs, retries)
    if (tried.kind === 'refused') refused.add({ id, cause: tried.cause })
    else if (tried.kind === 'failed') failedAgain.add({ id, cause: tried.cause })
    else if (tried.kind === 'document') documents.push(tried)
    else {
      if (tried.kind === 'wanted') wanted.push(tried.retry)
      else if (tried.state === 'done') total.alreadyDone++
      else total.alreadyWanted++
      if (record.value.run !== null && (tried.kind === 'wanted' || tried.state === 'wanted')) waiting.add(record.value.run)
    }
    bytes += record.value.original.length
    if (documents.length + wanted.length >= batchMax || bytes >= batchBytesMax) await write()
  }
  await write()
  return {
    ...total, failedAgain: failedAgain.all, failedAgainCount: failedAgain.count, refused: refused.all, refusedCount: refused.count,
    runs: [...waiting].sort(), finished,
  }
}

/** The letters of a filter: by id where ids are given, else through the topic. */
async function* meant(log: Log, filter: DeadLetterFilter): AsyncGenerator<DeadLetterRecord, void, undefined> {
  const isMeant = matcher(filter)
  if (filter.ids === undefined) {
    for await (const record of readDeadLetters(log)) if (isReadable(record) && isMeant(record)) yield record
    return
  }
  for (const id of new Set(filter.ids)) {
    const record = await findDeadLetter(log, id)
    if (matcher({ ...filter, ids: undefined })(record)) yield record
  }
}

const told = () => {
  const all: NotReplayed[] = []
  return {
    all,
    count: 0,
    add(letter: NotReplayed): void {
      this.count++
      if (all.length < toldMax) all.push(letter)
    },
  }
}

type Refused = { readonly kind: 'refused'; readonly cause: string }
type Failed = { readonly kind: 'failed'; readonly cause: string }
type Document = { readonly kind: 'document'; readonly record: NewRecord<'documents'>; readonly mark: RetryValue }

const refusal = (cause: string): Refused => ({ kind: 'refused', cause })

/** A dead letter of ingest as the document that its line is now. */
const again = (record: DeadLetterRecord, options: DocumentOptions, retries: Retries): Refused | Failed | Document => {
  const { value, partition, offset } = record
  const shard = value.shard ?? ''
  if (value.original.length >= ORIGINAL_BYTES_MAX) return refusal('its original is longer than what a dead letter keeps: mend the shard and ingest it again')
  if (isTextShard(shard) && options.source === null)
    return refusal('the source of a .txt file is the name of its folder, which a dead letter does not keep: --as-source NAME')
  if (isUnmarkedRow(shard, value)) return refusal('an earlier version kept its bytes in a form that cannot be told from text: ingest the shard again')
  const line = rereadLine(value.original, { shard, index: value.index ?? 0 }, { textField: options.textField, idField: options.idField })
  const made = toRecord(line, shard, options)
  if (made.topic !== 'documents') return { kind: 'failed', cause: (made.value as DeadLetterValue).cause }
  const mark: RetryValue = { run: null, partition, offset, attempt: retries.of(record).attempt + 1, state: 'done', cause: null, document: null }
  return { kind: 'document', record: { topic: 'documents', key: made.key, value: made.value as DocumentValue }, mark }
}

/** A row of Parquet whose bytes are not UTF-8 is JSON in which they are marked (shards/reread.ts). */
const isUnmarkedRow = (shard: string, { cause, original }: DeadLetterValue): boolean =>
  /\.parquet$/i.test(shard) && /is not UTF-8$/.test(cause) && !Buffer.from(original).includes(bytesField)

/** A dead letter of a run as the request to try it again. */
const retryOf = (
  record: DeadLetterRecord, runs: ReadonlySet<string>, retries: Retries,
): Refused | { readonly kind: 'wanted'; readonly retry: RetryValue } | { readonly kind: 'known'; readonly state: 'wanted' | 'done' } => {
  const { value: { run, stage, offset: document }, partition, offset } = record
  if (run === null || stage === 'fit' || run.startsWith('factors '))
    return refusal('factors are fitted on a sample as it was: fit others under another name (tributary fit --factors NAME)')
  if (!runs.has(run)) return refusal(`there is no run "${run}" (any more)`)
  const { state, attempt } = retries.of(record)
  if (state === 'done' || state === 'wanted') return { kind: 'known', state }
  return { kind: 'wanted', retry: { run, partition, offset, attempt: attempt + 1, state: 'wanted', cause: null, document } }
}
