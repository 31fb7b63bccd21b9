/**
 * @file `Log`: topics as partitions that a worker owns for a while. Two implementations keep this one contract
 * (embedded in LMDB; Apache Kafka), so nothing here names either.
 */
import type { RunId } from '../base/index.js'
import type { TopicName, TopicValues } from './topics.js'

/** A record as it is written. `key` is text; a null value is a tombstone (compacted topics only). */
export interface NewRecord<Name extends TopicName = TopicName> {
  readonly topic: Name
  readonly key: string
  readonly value: TopicValues[Name] | null
  /** Absent: by hash of the key. */
  readonly partition?: number
}

/** A record as it is read. */
export interface LogRecord<Name extends TopicName = TopicName> {
  readonly topic: Name
  readonly partition: number
  readonly offset: number
  readonly key: string
  /** Milliseconds since the epoch, when it was appended. */
  readonly timestampMs: number
  /** Decoded; `undefined` if the bytes could not be decoded, then `raw` and `problem` say what and why. */
  readonly value: TopicValues[Name] | undefined
  readonly raw?: Uint8Array
  readonly problem?: string
}

/** What one read may bring at most; at least one record comes if there is one. */
export interface ReadBounds {
  readonly recordsMax: number
  readonly bytesMax: number
}

/** A place in a partition: `offset` is the next record to read. */
export interface Position {
  readonly offset: number
  /** What the pipeline needs beside the offset to go on exactly where it was (opaque to the log, JSON). */
  readonly detail?: unknown
}

/** Everything one commit makes durable, or nothing of it. */
export interface Commit {
  readonly append: readonly NewRecord[]
  readonly position: Position
}

/**
 * A partition of `documents` that this worker owns until `lost` is aborted: then its state is of no more use. `restore`
 * comes first. Rejections of `restore`, `read` and `commit` beside a `TransientError` are for good; after a
 * `TransientError` the assignment is lost, and the partition may be assigned again.
 */
export interface Assignment {
  readonly partition: number
  readonly lost: AbortSignal
  /**
   * Position and state as of the last commit, one consistent pair. State: the newest value of each key that
   * this (run, partition) wrote to a compacted topic.
   */
  restore(): Promise<{ position: Position; state: readonly LogRecord[] }>
  /** Records from an offset on; an empty list means caught up. Never blocks for more. */
  read(offset: number, bounds: ReadBounds): Promise<readonly LogRecord<'documents'>[]>
  /**
   * All or nothing. Rejects with a RecordRefused before anything was written (the assignment is still good), and for
   * whoever no longer owns the partition; on a cluster also when nobody knows what became of it.
   */
  commit(commit: Commit): Promise<void>
}

export interface TopicInfo {
  readonly topic: TopicName
  readonly partitions: number
  /** The next offset to be written, a partition each. */
  readonly ends: readonly number[]
  /** The first offset kept, a partition each. */
  readonly starts: readonly number[]
}

export interface AppendResult {
  readonly appended: number
  /** Records whose identity was there already. */
  readonly duplicates: number
}

/** Something held by one process at a time; freed by `release` or by the process's death (SIGKILL included). */
export interface Lease extends Disposable {
  release(): void
}

export interface Log extends AsyncDisposable {
  /** Creates the declared topics (topics/*.yaml) that are missing; `partitions` overrides for `documents`. */
  ensureTopics(options?: { readonly partitions?: number }): Promise<void>
  describe(): Promise<readonly TopicInfo[]>

  /**
   * Appends records in one durable transaction. With `unique`, a record whose (topic, key) was appended before is
   * left out and counted: that is how ingesting a shard twice adds nothing. In compacted topics, a record whose key is
   * live: the first one stays.
   */
  append(records: readonly NewRecord[], options?: { readonly unique?: boolean }): Promise<AppendResult>

  /** Records of one partition from an offset on, for readers without a lease; empty when caught up. */
  read<Name extends TopicName>(topic: Name, partition: number, offset: number, bounds: ReadBounds): Promise<readonly LogRecord<Name>[]>

  /** The newest record of each live key of a compacted topic whose key begins with `prefix`, ordered by key. */
  latest<Name extends TopicName>(topic: Name, prefix?: string): Promise<readonly LogRecord<Name>[]>

  /** Committed positions of a run, a partition of `documents` each; offset 0 where it has none. */
  positions(run: RunId): Promise<readonly Position[]>

  /**
   * The partitions of `documents` for a worker of this run, as they are assigned to it, until the signal is aborted; the
   * worker then owns none of them any more. On a cluster a partition that was lost may come again, as another
   * assignment: when the group gives it back, or because a commit failed and what became of it has to be found out by
   * `restore`. On the embedded log: all of them at once, and a second worker of the same run is refused with a UserError
   * that names the first one's pid.
   * @throws UserError if the worker cannot own partitions any more
   */
  assignments(run: RunId, options: { readonly signal: AbortSignal }): AsyncIterable<Assignment>

  /**
   * Ends a run: its state, its positions and its record are removed, and what it wrote to `influence` and `dead-letters`
   * until now is not read any more. A run of this name may then begin anew. May be repeated after an interruption.
   * @throws UserError if a worker of the run is at work
   */
  forget(run: RunId): Promise<void>

  /** Resolves when `documents` may have grown since the call, or the signal is aborted. */
  grown(options: { readonly signal: AbortSignal }): Promise<void>

  /** Takes a named lease ("factors:NAME"), or throws a UserError that says who holds it. */
  lease(name: string, purpose: string): Lease
}
