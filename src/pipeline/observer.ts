/**
 * @file What a pipeline tells of its work while it works: for metrics, health and logs (src/monitor). A pipeline calls it
 * and goes on; an observer never waits, throws or changes anything, and the clock of durations is its own.
 */
import type { Stage } from '../base/index.js'
import type { Moments, Scored } from '../table/index.js'

/**
 * The stages whose durations are told. `compute` is one program on the engine: the forward pass, the backward pass and
 * the join are nodes of one graph, and nothing outside of it could tell them apart.
 */
export type ObservedStage =
  | 'read' | 'append' // the log
  | 'tokenize' | 'compute' | 'insert' | 'commit' | 'restore' // scoring
  | 'prepare' | 'compile' | 'rescore' // before and after
  | 'decompose' | 'save' // fitting
  | 'explain' // analyses: a document of a table

/** A batch as the engine gets it. */
export interface ObservedBatch {
  /** Of `documents`; absent where a batch may be of several. */
  readonly partition?: number
  /** The least and the greatest offset in it. */
  readonly offsets?: readonly [number, number]
  readonly sequences: number
  /** Without padding. */
  readonly tokens: number
  /** B·T: tokens and padding. */
  readonly padded: number
}

export interface ObservedDocuments {
  readonly partition?: number
  readonly documents: number
  /** Absent: as many as documents. */
  readonly pieces?: number
  readonly tokens: number
}

export interface ObservedDeadLetter {
  readonly stage: Stage
  readonly cause: string
}

export interface ObservedCommit {
  readonly partition: number
  /** Records that it made durable. */
  readonly records: number
  /** The next record to read after it. */
  readonly offset: number
  /** When each of the documents in it was appended to `documents`, milliseconds since the epoch. */
  readonly appendedMs: readonly number[]
}

export interface ObservedScores {
  readonly partition: number
  readonly scored: readonly Scored[]
  /** The partition's normed scores so far, these included. A view: asked only now and then. */
  readonly normed: Moments
  /** Rows of tables that came in, moved or were replaced by these scores. */
  readonly tableChanges: number
}

export interface ObservedEngine {
  readonly name: string
  readonly threads: number
  /** Of the model's weights as they lie in the checkpoint. */
  readonly weightsBytes: number
  /** Of the queries that are bound to the program. */
  readonly boundBytes: number
}

export interface Observer {
  /** Everything is opened, compiled and restored: from here on documents are worked on. */
  ready(): void
  /** All there is was worked on; more is waited for. */
  idle(): void
  /** A stage begins of which nothing will be heard until it ends, however long it takes. */
  quiet(stage: ObservedStage): void
  /** A stage begins; call what is returned when it ends (not if it failed). */
  time(stage: ObservedStage): () => void
  /** A batch is handed to the engine; call what is returned when it is back. Batches come back in order. */
  batch(batch: ObservedBatch): () => void
  /** Documents that came to a result, each once, at its piece 0; their pieces, where some are split. Tokens without padding. */
  documents(done: ObservedDocuments): void
  /** Documents that were there already. */
  duplicates(count: number): void
  deadLetters(letters: readonly ObservedDeadLetter[]): void
  scores(scores: ObservedScores): void
  committed(commit: ObservedCommit): void
  /** `fenced`: the partition is another worker's now. */
  notCommitted(commit: { readonly partition: number; readonly reason: 'fenced' | 'failed' }): void
  assigned(partition: number): void
  lost(partition: number): void
  /** Entries of the query cache that were looked for. */
  cache(found: { readonly kind: string; readonly hits: number; readonly misses: number }): void
  engine(engine: ObservedEngine): void
}

const nothing = (): void => {}

/** Nobody listens. */
export const silentObserver: Observer = {
  ready: nothing, idle: nothing, quiet: nothing, time: () => nothing, batch: () => nothing, documents: nothing, duplicates: nothing,
  deadLetters: nothing, scores: nothing, committed: nothing, notCommitted: nothing, assigned: nothing, lost: nothing, cache: nothing, engine: nothing,
}

/** One that tells several, in their order. */
export const observers = (...all: readonly Observer[]): Observer => {
  const each = <Args extends readonly unknown[]>(tell: (observer: Observer, ...args: Args) => void) => (...args: Args): void => {
    for (const observer of all) tell(observer, ...args)
  }
  const both = <Args extends readonly unknown[]>(begin: (observer: Observer, ...args: Args) => () => void) => (...args: Args): (() => void) => {
    const ends = all.map((observer) => begin(observer, ...args))
    return () => {
      for (const end of ends) end()
    }
  }
  return {
    ready: each((observer) => observer.ready()),
    idle: each((observer) => observer.idle()),
    quiet: each((observer, stage: ObservedStage) => observer.quiet(stage)),
    time: both((observer, stage: ObservedStage) => observer.time(stage)),
    batch: both((observer, batch: ObservedBatch) => observer.batch(batch)),
    documents: each((observer, done: ObservedDocuments) => observer.documents(done)),
    duplicates: each((observer, count: number) => observer.duplicates(count)),
    deadLetters: each((observer, letters: readonly ObservedDeadLetter[]) => observer.deadLetters(letters)),
    scores: each((observer, scores: ObservedScores) => observer.scores(scores)),
    committed: each((observer, commit: ObservedCommit) => observer.committed(commit)),
    notCommitted: each((observer, commit: Parameters<Observer['notCommitted']>[0]) => observer.notCommitted(commit)),
    assigned: each((observer, partition: number) => observer.assigned(partition)),
    lost: each((observer, partition: number) => observer.lost(partition)),
    cache: each((observer, found: Parameters<Observer['cache']>[0]) => observer.cache(found)),
    engine: each((observer, engine: ObservedEngine) => observer.engine(engine)),
  }
}
