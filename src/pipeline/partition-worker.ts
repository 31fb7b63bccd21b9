/**
 * @file One partition of a run while this worker owns it: its state, its position, and what waits to be committed. Goes
 * on exactly where the last commit left it.
 *
 * A position is { offset: the chunk's first record, detail: { end, outcomes } }: in the middle of a chunk it says which
 * records the chunk has and how many of its outcomes are committed.
 *
 * A commit is on its way while what follows it is computed, one at a time: it takes along what there was when it began. If it
 * fails, whatever came after it is of no more use either, and goes with the state.
 *
 * Between two chunks dead letters are tried again that somebody asked for (retries.ts).
 */
import { firstValueFrom, from } from 'rxjs'
import type { RunId } from '../base/index.js'
import type { Assignment, Commit, Log, LogRecord, NewRecord, Position } from '../log/index.js'
import type { Tokenizer } from '../model/index.js'
import { silentObserver, type Observer } from './observer.js'
import type { BatchBounds } from './operators/batch-by-tokens.js'
import { pulled } from './operators/pulled.js'
import type { PieceOptions } from './operators/to-pieces.js'
import { restoreState, type PartitionState } from './partition-state.js'
import { Retries, retryValues } from './retries.js'
import { lettersAtOnceMax, retryLetters } from './retry-letters.js'
import { outcomesOf, scoreChunk, toChunk, type Chunk, type Outcome, type Scorer } from './score-chunk.js'
import { nothing, sum, tallyOf, type Tally } from './tally.js'

/** A chunk's bounds. A chunk that was begun under other bounds is gone on with as it was cut. */
const chunkBounds = { recordsMax: 512, bytesMax: 4 << 20 } as const
/** What waits for a commit at most; as much may be on its way in one. */
const pendingRecordsMax = 4_096
/** How often is looked for retries that were asked for while there are documents to score, ms. */
const retriesEveryMs = 1_000
const retriesBounds = { recordsMax: 1024, bytesMax: 1 << 20 } as const

export interface ScoreParts {
  readonly log: Log
  readonly run: RunId
  /** Ids of the run's queries, in its order. */
  readonly queries: readonly string[]
  readonly k: number
  readonly scorer: Scorer
  /** Batches that it is given together; 1 if absent. */
  readonly together?: number
  readonly tokenizer: Tokenizer
  readonly options: PieceOptions
  /** Whether a document is in the run; absent: all are. Those that are not are passed over. */
  readonly wanted?: (record: LogRecord<'documents'>) => boolean
  readonly bounds: BatchBounds
  /** Wait for more documents when caught up. */
  readonly follow: boolean
  /** Aborted: the batch in hand is finished and committed, then the call returns. */
  readonly signal: AbortSignal
  readonly now: () => number
  /** A commit is made when so long has passed since the last one, or everything is done. */
  readonly commitEveryMs: number
  /** After every outcome and when caught up: what was done since the start, and records not yet looked at. */
  readonly onProgress?: (done: Tally, left: number) => void
  readonly observer?: Observer
}

interface Detail {
  readonly end: number
  readonly outcomes: number
}

interface Prepared {
  readonly from: number
  readonly end: number
  readonly chunk: Chunk
}

interface ChunkHooks {
  readonly onOutcome: (done: Tally) => Promise<void>
  readonly meanwhile: () => void
}

export interface PartitionWorker {
  readonly partition: number
  readonly assignment: Assignment
  /** As many records of the partition are done as if all before this offset were. */
  readonly reached: number
  /** What was done and is not confirmed to be committed. */
  readonly uncommitted: Tally
  /** Everything until now; resolves when it is durable. Rejects for a commit that was on its way, too. */
  commit(): Promise<void>
  /** Resolves when no commit is on its way, however the last one ended. */
  settled(): Promise<void>
  /** Reads and tokenizes ahead; `after`: what follows the chunk that is in hand now. */
  prepare(after: boolean): void
  /** One chunk, from where it was left; or dead letters that are to be tried again. False: there is neither. */
  chunk(hooks: ChunkHooks): Promise<boolean>
}

/** One partition: its state, its position, and what waits to be committed. */
export const partitionWorker = async (assignment: Assignment, parts: ScoreParts): Promise<PartitionWorker> => {
  const { log, run, queries, k, tokenizer, options, wanted, bounds, scorer, together, signal, now, commitEveryMs, observer = silentObserver } = parts
  const { partition, lost } = assignment
  observer.assigned(partition)
  const wasRestored = observer.time('restore')
  const restored = await assignment.restore()
  const state: PartitionState = restoreState({ run, partition, queries, k }, restored.state)
  wasRestored()
  const ends = AbortSignal.any([signal, lost])
  let position: Position = restored.position
  let appendedMs: number[] = []
  let pending: NewRecord[] = []
  let uncommitted: Tally = nothing
  let begunMs = now()
  let dirty = false
  /** The commit that was begun last, until it is decided; never rejects. */
  let onTheWay: Promise<void> | undefined
  /** What a commit failed with; none comes after it. */
  let failure: { readonly error: unknown } | undefined
  /** Records of the chunk in hand that are done; its outcomes are not in the records' order. */
  let inChunk = 0
  const retries = new Retries()
  retries.add(retryValues(restored.state))
  /** The next record of `retries` to read: the state has all of the run's that lie before its last one. */
  let retriesNext = restored.state.reduce((next, { topic, offset }) => (topic === 'retries' ? Math.max(next, offset + 1) : next), 0)
  let lookedMs = -Infinity
  let ahead: { readonly from: number; readonly prepared: Promise<Prepared | undefined> } | undefined

  const detailOf = ({ detail }: Position): Detail | undefined => detail as Detail | undefined

  /** The chunk at an offset: as it was cut the first time, if it was begun. Undefined: caught up. */
  const prepareAt = async (offset: number, end: number | undefined): Promise<Prepared | undefined> => {
    const records: LogRecord<'documents'>[] = []
    const wasRead = observer.time('read')
    for (let at = offset; end === undefined || at < end; ) {
      const bound = end === undefined ? chunkBounds : { recordsMax: end - at, bytesMax: chunkBounds.bytesMax }
      const read = await assignment.read(at, bound)
      // Offsets have gaps: as many records as there are offsets may reach beyond the end.
      records.push(...(end === undefined ? read : read.filter((record) => record.offset < end)))
      if (read.length === 0 || end === undefined) break
      at = read[read.length - 1].offset + 1
    }
    if (records.length === 0) return undefined
    wasRead()
    const tokenized = observer.time('tokenize')
    const chunk = await firstValueFrom(from(wanted === undefined ? records : records.filter(wanted)).pipe(toChunk(tokenizer, options, bounds)))
    tokenized()
    return { from: offset, end: records[records.length - 1].offset + 1, chunk }
  }

  const tell = ({ scored, records }: Outcome, { documents, pieces, tokens }: Tally, tableChanges: number): void => {
    observer.documents({ partition, documents, pieces, tokens })
    observer.scores({ partition, scored, normed: state.normed, tableChanges })
    observer.deadLetters(records.flatMap(({ value }) => (value !== null && 'stage' in value ? [value] : [])))
  }

  const write = async (commit: Commit, times: readonly number[], tally: Tally): Promise<void> => {
    const committed = observer.time('commit')
    try {
      await assignment.commit(commit)
    } catch (error) {
      observer.notCommitted({ partition, reason: lost.aborted ? 'fenced' : 'failed' })
      failure = { error }
      return
    }
    committed()
    observer.committed({ partition, records: commit.append.length, offset: commit.position.offset, appendedMs: times })
    uncommitted = sum(uncommitted, tally, -1)
  }

  const settled = async (): Promise<void> => {
    await onTheWay
  }

  /** @throws what the commit before failed with: nothing that came after it can be committed */
  const begin = async (): Promise<void> => {
    await settled()
    if (failure !== undefined) throw failure.error
    if (!dirty) return
    onTheWay = write({ append: [...pending, ...state.takeChanges()], position }, appendedMs, uncommitted).finally(() => (onTheWay = undefined))
    appendedMs = []
    pending = []
    dirty = false
    begunMs = now()
  }

  const commit = async (): Promise<void> => {
    await begin()
    await settled()
    if (failure !== undefined) throw failure.error
  }

  /** By time while none is on its way; at an interval of 0 every batch has its own. */
  const isDue = (): boolean =>
    pending.length >= pendingRecordsMax || (now() - begunMs >= commitEveryMs && (onTheWay === undefined || commitEveryMs === 0))

  const lookForRetries = async (): Promise<void> => {
    lookedMs = now()
    for (;;) {
      const records = await log.read('retries', partition, retriesNext, retriesBounds)
      if (records.length === 0) return
      retries.add(retryValues(records).filter((value) => value.run === run))
      retriesNext = records[records.length - 1].offset + 1
    }
  }

  /** Some of the dead letters that are to be tried again, and their commit; between chunks only. False: there are none. */
  const retry = async (onOutcome: ChunkHooks['onOutcome']): Promise<boolean> => {
    await lookForRetries()
    const wanted = retries.open.slice(0, lettersAtOnceMax)
    if (wanted.length === 0) return false
    const retried = await retryLetters(wanted, { log, run, assignment, reached: position.offset, tokenizer, options, bounds, scorer, signal: ends })
    lost.throwIfAborted()
    if (retried === undefined) return false
    await take(retried, tallyOf(retried), onOutcome)
    await commit()
    retries.add(retried.ended)
    return true
  }

  /** Takes in what came out; the position is the caller's. */
  const take = async (outcome: Outcome, done: Tally, onOutcome: ChunkHooks['onOutcome']): Promise<void> => {
    const inserted = observer.time('insert')
    const { changes } = state
    state.insert(outcome.scored)
    inserted()
    pending.push(...outcome.records)
    appendedMs.push(...outcome.appendedMs)
    tell(outcome, done, state.changes - changes)
    dirty = true
    uncommitted = sum(uncommitted, done)
    await onOutcome(done)
  }

  return {
    partition,
    assignment,
    get reached() {
      return position.offset + inChunk
    },
    get uncommitted() {
      return uncommitted
    },
    commit,
    settled,
    prepare: (after) => {
      const begun = detailOf(position)
      const offset = after && begun !== undefined ? begun.end : position.offset
      if (ahead?.from === offset) return
      const prepared = prepareAt(offset, after ? undefined : begun?.end)
      prepared.catch(() => undefined)
      ahead = { from: offset, prepared }
    },
    chunk: async ({ onOutcome, meanwhile }) => {
      const begun = detailOf(position)
      if (begun === undefined && now() - lookedMs >= retriesEveryMs && (await retry(onOutcome))) return true
      const known = ahead?.from === position.offset ? await ahead.prepared : undefined
      ahead = undefined
      const prepared = known ?? (await prepareAt(position.offset, begun?.end))
      if (prepared === undefined) {
        if (isDue()) await begin()
        return await retry(onOutcome)
      }
      const { chunk, end } = prepared
      let outcomes = begun?.outcomes ?? 0
      position = { offset: prepared.from, detail: { end, outcomes } satisfies Detail }
      meanwhile()
      const results = from([chunk]).pipe(scoreChunk(run, scorer, { from: outcomes, together }))
      for await (const outcome of pulled(results, ends)) {
        lost.throwIfAborted()
        if (failure !== undefined) throw failure.error
        outcomes++
        position = outcomes === outcomesOf(chunk) ? { offset: end } : { offset: prepared.from, detail: { end, outcomes } satisfies Detail }
        const done = tallyOf(outcome)
        // Pieces of one document may lie in several batches: a chunk that is not done always has a record left.
        inChunk = outcomes === outcomesOf(chunk) ? 0 : Math.min(end - prepared.from - 1, inChunk + done.reached)
        await take(outcome, done, onOutcome)
        if (isDue()) await begin()
      }
      return true
    },
  }
}
