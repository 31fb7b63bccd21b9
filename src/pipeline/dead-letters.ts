/**
 * @file Dead letters as they lie in their topic, for whoever lists, shows or replays them. Read as a stream, a block of
 * one partition at a time; what is kept of them is bounded.
 *
 * A dead letter's id is its place: PARTITION:OFFSET in `dead-letters`. It stays there for ever, replayed or not.
 */
import { UserError } from '../base/index.js'
import type { DeadLetterValue, Log, LogRecord } from '../log/index.js'
import { isTextShard, sourceOf } from './ingest.js'
import { readRetries, type RetryStatus } from './retries.js'

/** One read of a partition. */
export const blockBounds = { recordsMax: 256, bytesMax: 4 << 20 } as const
/** Triples of run, stage and class of cause that are counted apart; what is beyond is counted under run null and no class. */
const countsMax = 10_000
/** Characters of the original and of the cause that an excerpt has. */
const originalMax = 2_000
const causeMax = 2_000

/** A dead letter with an excerpt of its original. */
export interface DeadLetter extends Omit<DeadLetterValue, 'original'> {
  /** PARTITION:OFFSET in `dead-letters`. */
  readonly id: string
  readonly timestampMs: number
  /** The original as text, cut. */
  readonly original: string
  readonly originalBytes: number
}

export interface DeadLetterCount {
  readonly run: string | null
  readonly stage: string
  readonly count: number
  /** Of the newest one that was counted. */
  readonly lastCause: string
}

/** A dead letter that could be decoded. */
export type DeadLetterRecord = LogRecord<'dead-letters'> & { readonly value: DeadLetterValue }

export const isReadable = (record: LogRecord<'dead-letters'>): record is DeadLetterRecord => record.value !== undefined

export const idOf = ({ partition, offset }: { readonly partition: number; readonly offset: number }): string => `${partition}:${offset}`

/** The excerpt of a dead letter. */
export const excerptOfLetter = ({ value: { original, cause, ...about }, partition, offset, timestampMs }: DeadLetterRecord): DeadLetter => ({
  ...about,
  id: idOf({ partition, offset }),
  cause: cause.slice(0, causeMax),
  timestampMs,
  // A copy: a view would keep the whole record in memory.
  original: Buffer.from(original.subarray(0, originalMax)).toString('utf8'),
  originalBytes: original.length,
})

/** Counts by run and stage, and by a class of the cause where one is given. Holds `countsMax` of them. */
export class DeadLetterCounts<Class extends string = never> {
  readonly #counts = new Map<string, { run: string | null; stage: string; count: number; lastCause: string; class?: Class }>()

  /** @param causeClass of the letter's cause; absent: causes are not told apart */
  add({ value }: LogRecord<'dead-letters'>, causeClass?: Class): void {
    this.#count(value?.run ?? null, value?.stage ?? 'unreadable', value?.cause.slice(0, causeMax) ?? '', causeClass)
  }

  /** Those of a run (of ingest: null); undefined: all. */
  of(run?: string | null): readonly (DeadLetterCount & { readonly class?: Class })[] {
    return [...this.#counts.values()].filter((count) => run === undefined || count.run === run).map((count) => ({ ...count }))
  }

  #count(run: string | null, stage: string, lastCause: string, causeClass: Class | undefined): void {
    const key = JSON.stringify([run, stage, causeClass])
    const known = this.#counts.get(key)
    if (known !== undefined) {
      known.count++
      known.lastCause = lastCause
    } else if (this.#counts.size < countsMax || (run === null && causeClass === undefined))
      this.#counts.set(key, { run, stage, count: 1, lastCause, ...(causeClass === undefined ? {} : { class: causeClass }) })
    else this.#count(null, stage, lastCause, undefined)
  }
}

/** All dead letters there are at the call, by partition and offset. Holds a block. */
export async function* readDeadLetters(log: Log): AsyncGenerator<LogRecord<'dead-letters'>, void, undefined> {
  const info = (await log.describe()).find(({ topic }) => topic === 'dead-letters')
  for (const [partition, end] of (info?.ends ?? []).entries())
    for (let offset = info?.starts[partition] ?? 0; offset < end; ) {
      const records = await log.read('dead-letters', partition, offset, blockBounds)
      const last = records.at(-1)
      if (last === undefined) break
      for (const record of records) if (record.offset < end) yield record
      offset = last.offset + 1
    }
}

/** Which dead letters are meant; what is absent, does not matter. */
export interface DeadLetterFilter {
  /** Ids. */
  readonly ids?: readonly string[]
  /** A run, or `factors NAME`. Null: those of ingest. */
  readonly run?: string | null
  readonly stage?: string
  /** A part of the cause, in letters of either case. */
  readonly cause?: string
  /** The document's source. */
  readonly source?: string
  /** Written at this time or later, milliseconds since the epoch. */
  readonly sinceMs?: number
}

/** Whether a dead letter is meant. */
export const matcher = ({ ids, run, stage, cause, source, sinceMs = -Infinity }: DeadLetterFilter): ((record: DeadLetterRecord) => boolean) => {
  const wanted = ids === undefined ? undefined : new Set(ids)
  const part = cause?.toLowerCase()
  return (record) => {
    const { value, timestampMs } = record
    return (wanted === undefined || wanted.has(idOf(record)))
      && (run === undefined || value.run === run)
      && (stage === undefined || value.stage === stage)
      && timestampMs >= sinceMs
      && (part === undefined || value.cause.toLowerCase().includes(part))
      && (source === undefined || sourceOfLetter(record) === source)
  }
}

/** The source of the document; null where nothing tells it. */
export const sourceOfLetter = ({ key, value }: DeadLetterRecord): string | null => {
  // The key of others is the run and then the document's, which begins with its source.
  if (value.stage !== 'ingest') return key.split('\u001f')[1] || null
  return sourceIn(value.original) ?? (value.shard === null || isTextShard(value.shard) ? null : sourceOf(value.shard))
}

const sourceIn = (original: Uint8Array): string | null => {
  try {
    const line: unknown = JSON.parse(Buffer.from(original).toString('utf8'))
    return typeof line === 'object' && line !== null && 'source' in line && typeof line.source === 'string' && line.source !== '' ? line.source : null
  } catch {
    return null
  }
}

/** A dead letter in a list. */
export interface ListedLetter extends DeadLetter {
  readonly source: string | null
  readonly retry: RetryStatus
}

export interface DeadLetterList<Class extends string> {
  /** Letters that are meant. */
  readonly matched: number
  readonly counts: readonly (DeadLetterCount & { readonly class?: Class })[]
  /** The newest ones first, as many as were asked for. */
  readonly letters: readonly ListedLetter[]
  /** Records of the topic that cannot be read themselves. */
  readonly unreadable: number
}

export interface ListOptions<Class extends string> {
  /** Letters that are listed at most; all that are meant are counted. */
  readonly limit: number
  /** Only those that were not replayed yet. */
  readonly open?: boolean
  readonly classOf: (letter: DeadLetterValue) => Class
  readonly signal?: AbortSignal
}

/** Reads through the topic. Holds `limit` letters twice, and what is known of retries. */
export const listDeadLetters = async <Class extends string>(
  log: Log, filter: DeadLetterFilter, { limit, open = false, classOf, signal }: ListOptions<Class>,
): Promise<DeadLetterList<Class>> => {
  const isMeant = matcher(filter)
  const retries = await readRetries(log)
  const counts = new DeadLetterCounts<Class>()
  let newest: ListedLetter[] = []
  let matched = 0
  let unreadable = 0
  const keepNewest = (): void => {
    newest = newest.sort((a, b) => b.timestampMs - a.timestampMs || compareIds(b.id, a.id)).slice(0, limit)
  }
  for await (const record of readDeadLetters(log)) {
    signal?.throwIfAborted()
    if (!isReadable(record)) {
      unreadable++
      continue
    }
    const retry = retries.of(record)
    if (!isMeant(record) || (open && retry.state === 'done')) continue
    matched++
    counts.add(record, classOf(record.value))
    newest.push({ ...excerptOfLetter(record), source: sourceOfLetter(record), retry })
    if (newest.length > 2 * limit + blockBounds.recordsMax) keepNewest()
  }
  keepNewest()
  return { matched, counts: [...counts.of()].sort((a, b) => b.count - a.count), letters: newest, unreadable }
}

const compareIds = (a: string, b: string): number => {
  const [x, y] = [a, b].map((id) => id.split(':').map(Number))
  return x[0] - y[0] || x[1] - y[1]
}

/** PARTITION:OFFSET. @throws UserError for anything else */
export const placeOfId = (id: string): { readonly partition: number; readonly offset: number } => {
  const [, partition, offset] = /^(\d{1,9}):(\d{1,15})$/.exec(id) ?? []
  if (partition === undefined) throw new UserError(`"${id}" is no id of a dead letter`, { fix: 'PARTITION:OFFSET, as tributary dead-letters list has it' })
  return { partition: Number(partition), offset: Number(offset) }
}

/** One dead letter, whole. */
export type FoundLetter = DeadLetterRecord & { readonly retry: RetryStatus; readonly source: string | null }

/** Finds one by its id. @throws UserError if there is none of this id, or it cannot be read itself */
export const findDeadLetter = async (log: Log, id: string): Promise<FoundLetter> => {
  const { partition, offset } = placeOfId(id)
  const info = (await log.describe()).find(({ topic }) => topic === 'dead-letters')
  const [record]: readonly LogRecord<'dead-letters'>[] =
    info !== undefined && partition < info.partitions ? await log.read('dead-letters', partition, offset, { recordsMax: 1, bytesMax: 1 }) : []
  if (record?.offset !== offset)
    throw new UserError(`there is no dead letter ${id} (one of a run that was reset is gone with it)`, { fix: 'tributary dead-letters list' })
  if (!isReadable(record)) throw new UserError(`dead letter ${id} cannot be read itself: ${record.problem ?? 'its record is damaged'}`)
  return { ...record, retry: (await readRetries(log)).of(record), source: sourceOfLetter(record) }
}
