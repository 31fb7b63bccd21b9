/** @file Dead letters by run, stage and their newest ones, kept up to date from the topic in bounded memory. */
import type { Log } from '../log/index.js'
import { blockBounds, DeadLetterCounts, excerptOfLetter, isReadable, type DeadLetter, type DeadLetterCount } from '../pipeline/dead-letters.js'

/** Newest letters kept. */
const newestMax = 500

export class DeadLetterIndex {
  readonly #log: Log
  readonly #next: number[] = []
  readonly #counts = new DeadLetterCounts()
  /** Oldest first. */
  #newest: DeadLetter[] = []

  constructor(log: Log) {
    this.#log = log
  }

  /** Reads on, at most one block of each partition. Resolves to whether there may be more. One call at a time. */
  async read(starts: readonly number[], ends: readonly number[]): Promise<boolean> {
    let more = false
    const read: DeadLetter[] = []
    for (const [partition, end] of ends.entries()) {
      const from = Math.max(this.#next[partition] ?? 0, starts[partition] ?? 0)
      this.#next[partition] = from
      if (from >= end) continue
      const records = await this.#log.read('dead-letters', partition, from, blockBounds)
      this.#next[partition] = (records.at(-1)?.offset ?? end - 1) + 1
      for (const record of records) {
        this.#counts.add(record)
        if (isReadable(record)) read.push(excerptOfLetter(record))
      }
      more ||= this.#next[partition] < end
    }
    if (read.length > 0) this.#newest = [...this.#newest, ...read].sort((a, b) => a.timestampMs - b.timestampMs).slice(-newestMax)
    return more
  }

  /** Letters of a run; those of ingest have none and count for null. Undefined: all. */
  counts(run?: string | null): readonly DeadLetterCount[] {
    return this.#counts.of(run)
  }

  /** Newest first. */
  newest({ run, stage, limit }: { readonly run?: string | null; readonly stage?: string; readonly limit: number }): readonly DeadLetter[] {
    return this.#newest
      .filter((letter) => (run === undefined || letter.run === run) && (stage === undefined || letter.stage === stage))
      .slice(-limit)
      .reverse()
  }
}
