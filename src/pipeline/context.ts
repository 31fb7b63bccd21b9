/** @file What a pipeline is handed beside its settings: the log, someone to tell how far it is, a clock, a way to stop. */
import type { Log } from '../log/index.js'
import { silentObserver, type Observer } from './observer.js'

/** Told how far a long work is. A pipeline calls it; who listens (a bar, plain lines, nobody) is not its business. */
export interface Progress {
  /** A work of `total` units begins ("documents"); null: nobody knows how many. An earlier one is over. */
  start(total: number | null, unit: string): void
  /** `done` units of it so far. `note` is a few words shown beside. `total`, if it has become another. */
  update(done: number, note?: string, total?: number): void
  /** A line for the reader, above the bar. */
  log(line: string): void
  /** The work is over, or given up. */
  stop(): void
}

/** Nobody listens: for use as a library. */
export const silentProgress: Progress = { start: () => {}, update: () => {}, log: () => {}, stop: () => {} }

export interface PipelineContext {
  readonly log: Log
  readonly progress: Progress
  /** Aborted: finish the batch in hand, commit, and return. */
  readonly signal: AbortSignal
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Told of the work in detail, for metrics and logs; absent: nobody is. */
  readonly observer?: Observer
}

/** What a pipeline needs beside its settings, with nobody listening and nobody stopping it unless said otherwise. */
export const pipelineContext = (
  log: Log, { progress = silentProgress, signal = new AbortController().signal, now = Date.now, observer = silentObserver }: Partial<Omit<PipelineContext, 'log'>> = {},
): PipelineContext => ({ log, progress, signal, now, observer })

/** How a fit or a scoring ended; the command line prints it. */
export interface WorkResult {
  /** Documents done this time: each once, at its piece 0. */
  readonly documents: number
  /** Their pieces: as many, unless long documents are split. */
  readonly pieces: number
  readonly tokens: number
  /** Dead letters written this time: one a document, or a piece where one alone cannot be used. */
  readonly deadLetters: number
  /** Documents not yet looked at; 0 when all is done. */
  readonly documentsLeft: number
  /** False when the signal ended it before all was done; then starting again goes on from there. */
  readonly finished: boolean
  readonly seconds: number
  /** Sentences for the reader: the join and why, the measured correlation, ... */
  readonly notes: readonly string[]
}
