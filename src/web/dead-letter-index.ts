/** @file Dead letters by run, stage and their newest ones, kept up to date from the topic in bounded memory. */
import type { DeadLetterValue, Log } from '../log/index.js'

const blockBounds = { recordsMax: 256, bytesMax: 4 << 20 } as const
/** Newest letters kept. */
const newestMax = 500
/** Pairs of run and stage that are counted apart; what is beyond is counted under run null. */
const countsMax = 10_000
/** Characters of the original and of the cause that are kept. */
const originalMax = 2_000
const causeMax = 2_000

export interface DeadLetter extends Omit<DeadLetterValue, 'original'> {
  readonly timestampMs: number
  /** The original as text, cut. */
  readonly original: string
  readonly originalBytes: number
}

export interface DeadLetterCount {
  readonly run: string | null
  readonly stage: string
  readonly count: number
}

export class DeadLetterIndex {
  readonly #log: Log
  readonly #next: number[] = []
  readonly #counts = new Map<string, { run: string | null; stage: string; count: number }>()
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
      for (const { value, timestampMs } of records) {
        this.#count(value?.run ?? null, value?.stage ?? 'decode')
        if (value !== undefined) read.push(letterOf(value, timestampMs))
      }
      more ||= this.#next[partition] < end
    }
    if (read.length > 0) this.#newest = [...this.#newest, ...read].sort((a, b) => a.timestampMs - b.timestampMs).slice(-newestMax)
    return more
  }

  /** Letters of a run; those of ingest have none and count for null. Undefined: all. */
  counts(run?: string | null): readonly DeadLetterCount[] {
    return [...this.#counts.values()].filter((count) => run === undefined || count.run === run).map((count) => ({ ...count }))
  }

  /** Newest first. */
  newest({ run, stage, limit }: { readonly run?: string | null; readonly stage?: string; readonly limit: number }): readonly DeadLetter[] {
    return this.#newest
      .filter((letter) => (run === undefined || letter.run === run) && (stage === undefined || letter.stage === stage))
      .slice(-limit)
      .reverse()
  }

  #count(run: string | null, stage: string): void {
    const key = JSON.stringify([run, stage])
    const known = this.#counts.get(key)
    if (known !== undefined) known.count++
    else if (this.#counts.size < countsMax || run === null) this.#counts.set(key, { run, stage, count: 1 })
    else this.#count(null, stage)
  }
}

const letterOf = ({ original, cause, ...about }: DeadLetterValue, timestampMs: number): DeadLetter => ({
  ...about,
  cause: cause.slice(0, causeMax),
  timestampMs,
  // A copy: a view would keep the whole record in memory.
  original: Buffer.from(original.subarray(0, originalMax)).toString('utf8'),
  originalBytes: original.length,
})
