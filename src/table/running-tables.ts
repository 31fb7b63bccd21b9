/**
 * @file The tables of all Q queries over one partition, fast: four heaps a query, worst row at the root, whose score
 * is the threshold that a document must reach. A document that reaches none costs one comparison a table.
 *
 * The plain, pure version and oracle is top-k.ts. k = 100, one thread of a busy 2-core machine, Node 20
 * (bench/table.ts): 6.3 million (query, document) pairs/s at Q = 10, 4.8 million at Q = 100.
 */
import { checkBatch } from './check.js'
import { checkK, compareNames, comparePlaces, type RowName } from './top-k.js'
import type { QueryTables, Row, Scored } from './types.js'

/** The tables of a query, in the order that they are kept in. */
const kinds = ['top', 'bottom', 'topNormed', 'bottomNormed'] as const
/** A bottom table is the top table of −score. */
const signs = [1, -1, 1, -1] as const

/** Top-k and bottom-k for every query, raw and normed. Mutable; see top-k.ts for the law it keeps. */
export class RunningTables {
  readonly queries: number
  readonly k: number
  /** [Q × 4], by query and then kind. */
  readonly #heaps: readonly Heap[]
  /** f64 [Q × 4]: the least signed score that may still enter; −∞ while a table has room. */
  readonly #thresholds: Float64Array
  readonly #changed: Uint8Array
  #changes = 0

  constructor({ queries, k }: { readonly queries: number; readonly k: number }) {
    this.queries = queries
    this.k = checkK(k)
    this.#heaps = Array.from({ length: queries * kinds.length }, () => new Heap(k))
    this.#thresholds = new Float64Array(queries * kinds.length).fill(-Infinity)
    this.#changed = new Uint8Array(queries)
  }

  /** Counts a batch, or throws (RangeError: see `problemOf`) and counts none of it. */
  insert(batch: readonly Scored[]): void {
    checkBatch(batch, this.queries)
    const thresholds = this.#thresholds
    for (const scored of batch) {
      const { influence, gradientNorm } = scored
      let entry: Name | undefined
      for (let q = 0, t = 0; q < influence.length; q++, t += 4) {
        const score = influence[q]
        const normed = score / gradientNorm
        if (
          score < thresholds[t] &&
          -score < thresholds[t + 1] &&
          normed < thresholds[t + 2] &&
          -normed < thresholds[t + 3]
        )
          continue
        entry ??= nameOf(scored)
        this.#offer(q, 0, entry, score)
        this.#offer(q, 1, entry, score)
        this.#offer(q, 2, entry, normed)
        this.#offer(q, 3, entry, normed)
      }
    }
  }

  /** Takes in another partition's tables, or those of another part of this one. */
  merge(other: RunningTables): void {
    if (other.queries !== this.queries || other.k !== this.k)
      throw new Error(`tables of ${other.queries} queries, k ${other.k}, cannot be merged into ${this.queries}, k ${this.k}`)
    for (let q = 0; q < this.queries; q++) this.mergeRows(q, other.tables(q))
  }

  /** Takes in the rows of one query, as `tables` gave them. */
  mergeRows(query: number, tables: QueryTables): void {
    this.#checkQuery(query)
    kinds.forEach((kind, at) => {
      for (const row of tables[kind]) {
        if (Number.isNaN(row.score)) throw new RangeError(`the ${kind} score of document "${row.document}" is NaN`)
        this.#offer(query, at, nameOf(row), row.score)
      }
    })
  }

  /** The tables of one query, rows best first. */
  tables(query: number): QueryTables {
    this.#checkQuery(query)
    const rows = (at: number): readonly Row[] => this.#heaps[query * kinds.length + at].rows(signs[at])
    return { top: rows(0), bottom: rows(1), topNormed: rows(2), bottomNormed: rows(3) }
  }

  /** Rows that entered a table, or took the place of a worse one of their name, since the start. */
  get changes(): number {
    return this.#changes
  }

  /** The queries whose tables have changed since the last call (or since the start), ascending. */
  takeChanged(): number[] {
    const changed: number[] = []
    this.#changed.forEach((is, query) => is && changed.push(query))
    this.#changed.fill(0)
    return changed
  }

  #offer(query: number, kind: number, name: Name, score: number): void {
    const at = query * kinds.length + kind
    const signed = signs[kind] * score + 0 // + 0: −0 becomes 0
    if (signed < this.#thresholds[at]) return
    const heap = this.#heaps[at]
    if (!heap.offer(name, signed)) return
    this.#thresholds[at] = heap.threshold
    this.#changed[query] = 1
    this.#changes++
  }

  #checkQuery(query: number): void {
    if (!(Number.isInteger(query) && query >= 0 && query < this.queries))
      throw new RangeError(`query ${query} of ${this.queries}`)
  }
}

/** A row's name and place; shared by all tables that a document enters. `key` is the name as one string. */
interface Name extends RowName {
  readonly key: string
}

const nameOf = ({ document, source, piece, partition, offset }: RowName): Name => ({
  document,
  source,
  piece,
  partition,
  offset,
  // Told apart whatever the ids contain: the lengths fix where each part ends.
  key: `${document.length}:${document}${source.length}:${source}${piece}`,
})

interface Entry {
  name: Name
  score: number
  /** Its place in the heap. */
  at: number
}

/** Whether `a` stands after `b` in a table of descending scores. */
const isWorse = (a: Entry, b: Entry): boolean =>
  a.score !== b.score ? a.score < b.score : (compareNames(a.name, b.name) || comparePlaces(a.name, b.name)) > 0

/** At most k entries, each name once, the worst at the root. */
class Heap {
  readonly #k: number
  readonly #entries: Entry[] = []
  readonly #byKey = new Map<string, Entry>()

  constructor(k: number) {
    this.#k = k
  }

  /** No lower score can enter. */
  get threshold(): number {
    return this.#entries.length < this.#k ? -Infinity : this.#entries[0].score
  }

  /** Whether the entry changed the heap. */
  offer(name: Name, score: number): boolean {
    const entries = this.#entries
    const offered: Entry = { name, score, at: 0 }
    const isFull = entries.length === this.#k
    if (isFull && !isWorse(entries[0], offered)) return false
    const twin = this.#byKey.get(name.key)
    if (twin !== undefined) {
      if (!isWorse(twin, offered)) return false
      twin.name = name
      twin.score = score
      this.#sink(twin)
      return true
    }
    this.#byKey.set(name.key, offered)
    if (isFull) {
      this.#byKey.delete(entries[0].name.key)
      entries[0] = offered
      this.#sink(offered)
    } else {
      offered.at = entries.length
      entries.push(offered)
      this.#rise(offered)
    }
    return true
  }

  rows(sign: 1 | -1): readonly Row[] {
    const sorted = [...this.#entries].sort((a, b) => (isWorse(a, b) ? 1 : -1))
    return sorted.map(({ name: { document, source, piece, partition, offset }, score }) => ({
      document,
      source,
      piece,
      partition,
      offset,
      score: sign * score + 0,
    }))
  }

  #rise(entry: Entry): void {
    const entries = this.#entries
    while (entry.at > 0) {
      const parent = entries[(entry.at - 1) >> 1]
      if (!isWorse(entry, parent)) return
      this.#swap(entry, parent)
    }
  }

  #sink(entry: Entry): void {
    const entries = this.#entries
    for (;;) {
      const left = 2 * entry.at + 1
      if (left >= entries.length) return
      const right = left + 1
      const worst = right < entries.length && isWorse(entries[right], entries[left]) ? entries[right] : entries[left]
      if (!isWorse(worst, entry)) return
      this.#swap(entry, worst)
    }
  }

  #swap(a: Entry, b: Entry): void {
    const at = a.at
    a.at = b.at
    b.at = at
    this.#entries[a.at] = a
    this.#entries[b.at] = b
  }
}
