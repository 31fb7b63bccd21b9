/**
 * @file Reading partitions: committed records from an offset on, to the end, or up to a record of one's own.
 *
 * What was written here is seen here: a commit is answered before its markers are in every partition, so the reader
 * waits for the end of what this process wrote. Memory: what the broker sent and was not asked for yet is kept for
 * `KEPT_MAX` partitions, each one answer of at most `FETCH_BYTES_MAX` (or one batch of records, where that is longer).
 */
import type { ReadBounds } from '../log.js'
import { KafkaFault, isFault, type Fetched, type KafkaClient, type KafkaRecord, type Written } from './client.js'
import { PATIENCE_MS, patiently, type Clock } from './faults.js'

const FETCH_BYTES_MIN = 64 << 10
const FETCH_BYTES_MAX = 4 << 20
const KEPT_MAX = 16
/** How long the broker holds an answer for what must come, ms. */
const WAIT_MS = 100

/** What was fetched beyond what was asked for: good for any offset in `[from, next]`. */
interface Kept {
  readonly from: number
  readonly records: readonly KafkaRecord[]
  /** Those before this place were asked for already. */
  readonly at: number
  readonly next: number
}

export interface PartitionRead {
  /** At least one, or nothing: caught up. */
  readonly records: readonly KafkaRecord[]
  /** Where to go on. */
  readonly next: number
}

export class Reader {
  readonly #client: KafkaClient
  readonly #clock: Clock
  /** The answers read last, oldest first. */
  readonly #kept = new Map<string, Kept>()
  /** Ends of what this process wrote, a partition each. */
  readonly #written = new Map<string, number>()
  readonly #ends = new Map<string, { readonly stableEnd: number; readonly end: number }>()

  constructor(client: KafkaClient, clock: Clock) {
    this.#client = client
    this.#clock = clock
  }

  /** From now on readers wait for these. */
  note(written: readonly Written[]): void {
    for (const { topic, partition, end } of written) {
      const at = place(topic, partition)
      this.#written.set(at, Math.max(end, this.#written.get(at) ?? 0))
    }
  }

  /** Bounded as `Log.read` says, but that what a reader leaves out counts too. */
  async read(topic: string, partition: number, offset: number, { recordsMax, bytesMax }: ReadBounds): Promise<PartitionRead> {
    const { records, at: first, next } = await this.#some(topic, partition, offset, bytesMax)
    let end = first
    for (let bytes = 0; end < records.length; end++) {
      bytes += Buffer.byteLength(records[end].key) + (records[end].value?.length ?? 0)
      if (end > first && (end - first >= recordsMax || bytes > bytesMax)) break
    }
    const taken = records.slice(first, end)
    const last = taken.at(-1)
    if (last === undefined) return { records: taken, next }
    // An answer of megabytes serves hundreds of reads: it is kept as it is, not copied for each.
    this.#keep(place(topic, partition), end < records.length ? { from: last.offset + 1, records, at: end, next } : { from: last.offset + 1, records: [], at: 0, next })
    return { records: taken, next: end < records.length ? last.offset + 1 : next }
  }

  /** The next records from an offset on, kept ones or an answer of the broker; none: caught up. */
  async #some(topic: string, partition: number, offset: number, bytesMax: number): Promise<Omit<Kept, 'from'>> {
    const at = place(topic, partition)
    const kept = this.#kept.get(at)
    this.#kept.delete(at)
    let from = offset
    if (kept !== undefined && offset >= kept.from && offset <= kept.next) {
      let { at: first } = kept
      while (first < kept.records.length && kept.records[first].offset < offset) first++
      if (first < kept.records.length) return { records: kept.records, at: first, next: kept.next }
      from = kept.next
    }
    const startedMs = this.#clock.nowMs()
    for (;;) {
      const behind = from < (this.#written.get(at) ?? 0)
      const { records, next } = await this.#fetch(topic, partition, from, {
        bytesMax: Math.min(Math.max(bytesMax, FETCH_BYTES_MIN), FETCH_BYTES_MAX), waitMsMax: behind ? WAIT_MS : 0,
      })
      if (records.length > 0) return { records, at: 0, next }
      if (next > from) from = next
      else if (!behind) {
        this.#keep(at, { from: offset, records: [], at: 0, next: from })
        return { records: [], at: 0, next: from }
      } else if (this.#clock.nowMs() - startedMs > PATIENCE_MS)
        throw new KafkaFault('unavailable', `what was committed to partition ${partition} does not become visible`, { resource: topic })
    }
  }

  #keep(at: string, kept: Kept): void {
    this.#kept.set(at, kept)
    if (this.#kept.size > KEPT_MAX) for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest)
      break
    }
  }

  async #fetch(topic: string, partition: number, offset: number, bounds: { bytesMax: number; waitMsMax: number }): Promise<Fetched> {
    try {
      return await patiently(this.#clock, () => this.#client.fetch(topic, partition, offset, bounds))
    } catch (error) {
      // Behind the end: nothing yet, as in any log.
      if (isFault(error, 'out-of-range')) return { records: [], next: offset, stableEnd: offset }
      throw error
    }
  }

  /** Every record from an offset to the end as it is now, in order, an answer of the broker at a time. */
  async *toEnd(topic: string, partition: number, offset: number): AsyncGenerator<PartitionRead, number> {
    const stable = (await patiently(this.#clock, () => this.#client.admin.offsets(topic, 'stable')))[partition]
    const end = Math.max(stable, this.#written.get(place(topic, partition)) ?? 0)
    let next = offset
    while (next < end) {
      const fetched = await this.#fetch(topic, partition, next, { bytesMax: FETCH_BYTES_MAX, waitMsMax: WAIT_MS })
      if (fetched.records.length > 0) yield fetched
      next = fetched.next
    }
    return next
  }

  /**
   * Every record from an offset on until the one with a key comes, which this process has just written: everything
   * that was committed before it has then been seen. An offset of the end would not do: control batches and compaction
   * make it unreachable to some, and a new leader may name an old one.
   * @param see called with each record before it
   * @returns where to go on
   */
  async until(topic: string, partition: number, offset: number, key: string, see: (record: KafkaRecord) => void): Promise<number> {
    const startedMs = this.#clock.nowMs()
    for (let next = offset; ; ) {
      const fetched = await this.#fetch(topic, partition, next, { bytesMax: FETCH_BYTES_MAX, waitMsMax: WAIT_MS })
      for (const record of fetched.records) {
        if (record.key === key) return record.offset + 1
        see(record)
      }
      if (fetched.next === next && this.#clock.nowMs() - startedMs > PATIENCE_MS)
        throw new KafkaFault('unavailable', `a record of our own in partition ${partition} does not become visible`, { resource: topic })
      next = fetched.next
    }
  }

  /**
   * Where the records of a partition end: behind the last one, before the control batches that follow it.
   * @param start the first offset kept
   */
  async endOf(topic: string, partition: number, start: number, stable: number): Promise<number> {
    const at = place(topic, partition)
    const known = this.#ends.get(at)
    if (known?.stableEnd === stable) return known.end
    let end = start
    for (let step = 2; end === start; step *= 8) {
      const first = Math.max(start, stable - step)
      for (let next = first; next < stable; ) {
        const fetched = await this.#fetch(topic, partition, next, { bytesMax: FETCH_BYTES_MIN, waitMsMax: WAIT_MS })
        const last = fetched.records.findLast(({ offset }) => offset < stable)
        if (last !== undefined) end = last.offset + 1
        if (fetched.next === next) break
        next = fetched.next
      }
      if (first === start) break
    }
    this.#ends.set(at, { stableEnd: stable, end })
    return end
  }

  /** Resolves when everything this process wrote to a topic can be read; to the ends of what is committed. */
  async settled(topic: string): Promise<readonly number[]> {
    const startedMs = this.#clock.nowMs()
    for (;;) {
      const stable = await patiently(this.#clock, () => this.#client.admin.offsets(topic, 'stable'))
      if (stable.every((end, partition) => end >= (this.#written.get(place(topic, partition)) ?? 0))) return stable
      if (this.#clock.nowMs() - startedMs > PATIENCE_MS) throw new KafkaFault('unavailable', 'what was committed does not become visible', { resource: topic })
      await this.#clock.sleep(10)
    }
  }
}

const place = (topic: string, partition: number): string => `${topic} ${partition}`
