/**
 * @file Where in the topic `influence` the scores of a document lie, and what came when; in bounded memory, made from the
 * topic alone.
 *
 * A zone map (Moerkotte, "Small materialized aggregates", VLDB 1998): for each block of records that was read together,
 * and each run in it, the least and the greatest offset of the documents they are of.
 *
 *     influence, partition 2    | block 0      | block 1      | block 2      | ...
 *     documents' offsets        | first 0..511 | first 388..1023 | second 0..511 |
 *
 * A worker scores chunks of documents in their order and only mixes the order within a chunk, so the zones of a run hardly
 * overlap: the scores of a document are found by reading one block or two. A zone takes some 80 bytes for 512 records;
 * where there come to be too many, neighbours are made one.
 *
 * The topic is read once from its beginning when a server starts, in the background, then as it grows.
 */
import type { InfluenceValue, Log, LogRecord } from '../log/index.js'
import { History, Recent, type Buckets } from './history.js'

/** One read of the topic. */
const blockBounds = { recordsMax: 512, bytesMax: 4 << 20 } as const
/** Seconds that the rate of now is the mean of. */
const recentSeconds = 10

interface Zone {
  readonly run: string
  /** Offsets in `influence`, `[from, to)`. */
  from: number
  to: number
  /** Offsets in `documents`, both of them in it. */
  least: number
  greatest: number
}

interface RunCounts {
  scored: number
  tokens: number
  lastMs: number
  readonly history: History
  readonly recent: Recent
}

export interface RunActivity {
  /** Pieces scored and tokens, as far as the topic was read. */
  readonly scored: number
  readonly tokens: number
  /** When the newest record was committed; null if there is none. */
  readonly lastMs: number | null
  readonly history: Buckets
  /** A second, over the last 10 s. */
  readonly rate: { readonly documents: number; readonly tokens: number }
}

export class InfluenceIndex {
  readonly #log: Log
  readonly #zonesMax: number
  /** A partition each. */
  readonly #zones: Zone[][] = []
  readonly #next: number[] = []
  readonly #runs = new Map<string, RunCounts>()

  /** @param options.zonesMax zones of a partition at most */
  constructor(log: Log, { zonesMax = 16_384 }: { readonly zonesMax?: number } = {}) {
    this.#log = log
    this.#zonesMax = zonesMax
  }

  /** Records read so far, a partition each. */
  get reached(): readonly number[] {
    return this.#next
  }

  /** Reads on, at most one block of each partition. Resolves to whether there may be more. One call at a time. */
  async read(starts: readonly number[], ends: readonly number[]): Promise<boolean> {
    let more = false
    for (const [partition, end] of ends.entries()) {
      const from = Math.max(this.#next[partition] ?? 0, starts[partition] ?? 0)
      this.#next[partition] = from
      if (from >= end) continue
      const records = await this.#log.read('influence', partition, from, blockBounds)
      const last = records.at(-1)
      // On a log with transactions, an offset may be taken by something that is no record.
      this.#next[partition] = last === undefined ? end : last.offset + 1
      this.#take(partition, records)
      more ||= this.#next[partition] < end
    }
    return more
  }

  activity(run: string, nowMs: number): RunActivity {
    const counts = this.#runs.get(run)
    if (counts === undefined) return { scored: 0, tokens: 0, lastMs: null, history: new History().buckets, rate: { documents: 0, tokens: 0 } }
    const { scored, tokens, lastMs, history, recent } = counts
    return { scored, tokens, lastMs, history: history.buckets, rate: recent.rate(nowMs) }
  }

  /** The scores of a document, its pieces in order; empty where the run has not scored it, or not as far as was read. */
  async find(run: string, partition: number, offset: number): Promise<readonly InfluenceValue[]> {
    const found: InfluenceValue[] = []
    for (const zone of this.#zones[partition] ?? []) {
      if (zone.run !== run || offset < zone.least || offset > zone.greatest) continue
      for (let at = zone.from; at < zone.to; ) {
        const records = await this.#log.read('influence', partition, at, blockBounds)
        const last = records.at(-1)
        if (last === undefined) break
        for (const { value, offset: place } of records)
          if (place < zone.to && value?.run === run && value.offset === offset && value.partition === partition) found.push(value)
        at = last.offset + 1
      }
    }
    return found.sort((a, b) => a.piece - b.piece)
  }

  #take(partition: number, records: readonly LogRecord<'influence'>[]): void {
    const block = new Map<string, Zone>()
    for (const { value, offset, timestampMs } of records) {
      if (value === undefined) continue
      const zone = block.get(value.run)
      if (zone === undefined) block.set(value.run, { run: value.run, from: offset, to: offset + 1, least: value.offset, greatest: value.offset })
      else {
        zone.to = offset + 1
        zone.least = Math.min(zone.least, value.offset)
        zone.greatest = Math.max(zone.greatest, value.offset)
      }
      this.#count(value, timestampMs)
    }
    const zones = (this.#zones[partition] ??= [])
    zones.push(...block.values())
    if (zones.length > this.#zonesMax) this.#zones[partition] = halved(zones)
  }

  #count({ run, piece, tokens }: InfluenceValue, timestampMs: number): void {
    let counts = this.#runs.get(run)
    if (counts === undefined)
      this.#runs.set(run, (counts = { scored: 0, tokens: 0, lastMs: 0, history: new History(), recent: new Recent(recentSeconds) }))
    counts.scored++
    counts.tokens += tokens
    counts.lastMs = Math.max(counts.lastMs, timestampMs)
    const documents = piece === 0 ? 1 : 0
    counts.history.add(timestampMs, documents, tokens)
    counts.recent.add(timestampMs, documents, tokens)
  }
}

/** Every two neighbours of one run made one. */
const halved = (zones: readonly Zone[]): Zone[] => {
  const kept: Zone[] = []
  /** The last zone of a run, if it is still single. */
  const single = new Map<string, Zone>()
  for (const zone of zones) {
    const before = single.get(zone.run)
    if (before === undefined) {
      kept.push(zone)
      single.set(zone.run, zone)
      continue
    }
    before.to = zone.to
    before.least = Math.min(before.least, zone.least)
    before.greatest = Math.max(before.greatest, zone.greatest)
    single.delete(zone.run)
  }
  return kept
}
