/**
 * @file Count, Σx, Σx² and Σ x_i x_j over all documents of a partition, for raw and for normed scores: what Pearson
 * correlations between queries need (docs/method.md §6). The sums are exact (exact-sum.ts), so they are the same bits
 * in any order, batching, split or merge; a correlation is rounded only when it is read.
 *
 * Unlike a table, a sum counts what comes twice twice: the log's one commit of records, state and position is what
 * keeps a document from coming twice.
 */
import { checkBatch } from './check.js'
import { ExactSums, gridMin, rangeOf, type Range } from './exact-sum.js'
import type { MomentsRow, Scored } from './types.js'

/** Documents that are collected before they are summed: so long do the limbs of a sum stay in registers. */
const chunkMax = 128
/** The first byte of a row. */
const version = 1

/** The moments of all Q queries' scores, raw or normed. */
export interface Moments {
  /** Documents counted. */
  readonly count: number
  /** Σx, correctly rounded. */
  sum(query: number): number
  /** Σ x_i x_j, correctly rounded. */
  sumOfProducts(i: number, j: number): number
  /** Correctly rounded; NaN where nothing was counted. */
  mean(query: number): number
  /** Of the population (divided by the count), correctly rounded; NaN where nothing was counted. */
  variance(query: number): number
  /**
   * Pearson's r in [-1, 1] between two queries' scores, over all documents. NaN where it is not defined: a variance
   * is exactly zero, as with fewer than two documents.
   */
  correlation(i: number, j: number): number
}

/** Moments over documents as they come. A commutative monoid under `merge`; zero is one that has seen nothing. */
export class RunningMoments {
  readonly queries: number
  readonly #raw: Sums
  readonly #normed: Sums
  #count = 0
  /** Documents in the columns of `#raw` and `#normed` that are not summed yet. */
  #pending = 0

  constructor(queries: number) {
    this.queries = queries
    this.#raw = new Sums(queries)
    this.#normed = new Sums(queries)
  }

  /** Documents counted. */
  get count(): number {
    return this.#count
  }

  /** Of raw influence. A view: it moves on with what is inserted. */
  get raw(): Moments {
    return this.#view(this.#raw)
  }

  /** Of influence / ‖∇L(z)‖, divided in f64 and rounded to f32. A view. */
  get normed(): Moments {
    return this.#view(this.#normed)
  }

  /** Counts a batch, or throws (RangeError: see `problemOf`) and counts none of it. */
  insert(batch: readonly Scored[]): void {
    checkBatch(batch, this.queries)
    const [raw, normed] = [this.#raw.columns, this.#normed.columns]
    for (const { influence, gradientNorm } of batch) {
      for (let q = 0, at = this.#pending; q < influence.length; q++, at += chunkMax) {
        raw[at] = influence[q]
        normed[at] = Math.fround(influence[q] / gradientNorm)
      }
      this.#count++
      if (++this.#pending === chunkMax) this.#flush()
    }
  }

  /** Takes in the moments of other documents. */
  merge(other: RunningMoments): void {
    if (other.queries !== this.queries)
      throw new Error(`moments of ${other.queries} queries cannot be merged into ${this.queries}`)
    this.#flush()
    other.#flush()
    this.#raw.sums.merge(other.#raw.sums)
    this.#normed.sums.merge(other.#normed.sums)
    this.#count += other.#count
  }

  /** What the log keeps of one query. Equal moments give equal bytes. */
  serializeRow(query: number): MomentsRow {
    this.#flush()
    return { count: this.#count, raw: this.#raw.serialize(query), normed: this.#normed.serialize(query) }
  }

  /** From the rows of all queries, in the order of the query set. Error if they are not of one moment or damaged. */
  static deserialize(rows: readonly MomentsRow[]): RunningMoments {
    const moments = new RunningMoments(rows.length)
    rows.forEach(({ count, raw, normed }, query) => {
      if (count !== rows[0].count)
        throw new Error(`moments of query 0 count ${rows[0].count} documents, those of query ${query} ${count}`)
      moments.#raw.mergeBytes(query, raw)
      moments.#normed.mergeBytes(query, normed)
      moments.#count = count
    })
    return moments
  }

  #flush(): void {
    if (this.#pending === 0) return
    this.#raw.add(this.#pending)
    this.#normed.add(this.#pending)
    this.#pending = 0
  }

  /** A view sums what is pending before it reads. */
  #view(of: Sums): Moments {
    const flushed = (): Sums => {
      this.#flush()
      return of
    }
    const count = (): number => this.#count
    return {
      get count() {
        return count()
      },
      sum: (query) => flushed().sum(query),
      sumOfProducts: (i, j) => flushed().sumOfProducts(i, j),
      mean: (query) => flushed().mean(query, count()),
      variance: (query) => flushed().variance(query, count()),
      correlation: (i, j) => flushed().correlation(i, j, count()),
    }
  }
}

/**
 * One kind of score. The sums stand in rows, one a query: row i is Σx_i, Σx_i², Σ x_i x_(i+1), ..., Σ x_i x_(Q-1).
 */
class Sums {
  readonly #queries: number
  readonly sums: ExactSums
  /** f64 [Q + 1, chunkMax]: the scores of pending documents, and a last column of ones, with which Σx is a product. */
  readonly columns: Float64Array

  constructor(queries: number) {
    this.#queries = queries
    this.sums = new ExactSums(this.#rowAt(queries))
    this.columns = new Float64Array((queries + 1) * chunkMax).fill(1, queries * chunkMax)
  }

  /** Sums the first `count` documents of the columns. */
  add(count: number): void {
    const { columns, sums } = this
    const queries = this.#queries
    const ranges: (Range | undefined)[] = []
    for (let q = 0; q < queries; q++) ranges.push(rangeOf(columns, q * chunkMax, q * chunkMax + count))
    for (let i = 0; i < queries; i++) {
      const [x, rangeX] = [i * chunkMax, ranges[i]]
      if (rangeX === undefined) continue // all zero
      const row = this.#rowAt(i)
      sums.addDot(row, columns, x, queries * chunkMax, count, rangeX, rangeOfOne)
      for (let j = i; j < queries; j++) {
        const rangeY = ranges[j]
        if (rangeY !== undefined) sums.addDot(row + 1 + j - i, columns, x, j * chunkMax, count, rangeX, rangeY)
      }
    }
  }

  sum(query: number): number {
    return this.sums.value(this.#at(query))
  }

  sumOfProducts(i: number, j: number): number {
    return this.sums.value(this.#at(i, j))
  }

  mean(query: number, count: number): number {
    return ratio(this.sums.integer(this.#at(query)), BigInt(count) << gridShift)
  }

  variance(query: number, count: number): number {
    return ratio(this.#scatter(query, query, count), (BigInt(count) * BigInt(count)) << (2n * gridShift))
  }

  correlation(i: number, j: number, count: number): number {
    const [ofI, ofJ] = [this.#scatter(i, i, count), this.#scatter(j, j, count)]
    if (ofI === 0n || ofJ === 0n) return NaN
    const together = this.#scatter(i, j, count)
    // By Cauchy-Schwarz, which holds exactly for these integers, the ratio is at most 1.
    const size = Math.sqrt(ratio(together * together, ofI * ofJ))
    return together < 0n ? -size : size
  }

  serialize(query: number): Uint8Array {
    const sums = this.sums.serialize(this.#rowAt(query), this.#rowAt(query + 1))
    const bytes = new Uint8Array(1 + sums.length)
    bytes[0] = version
    bytes.set(sums, 1)
    return bytes
  }

  mergeBytes(query: number, bytes: Uint8Array): void {
    if (bytes[0] !== version)
      throw new Error(`moments of format ${bytes[0] ?? '(no bytes)'} where this version reads ${version}`)
    this.sums.mergeBytes(this.#rowAt(query), this.#rowAt(query + 1), bytes.subarray(1))
  }

  /** n Σ x_i x_j − Σ x_i Σ x_j, times 2^(-2 gridMin): n² covariances, exact. */
  #scatter(i: number, j: number, count: number): bigint {
    const products = this.sums.integer(this.#at(i, j)) << gridShift
    return BigInt(count) * products - this.sums.integer(this.#at(i)) * this.sums.integer(this.#at(j))
  }

  /** Where the row of a query begins. */
  #rowAt(query: number): number {
    return query * (this.#queries + 1) - (query * (query - 1)) / 2
  }

  /** Where Σx_i stands, or Σ x_i x_j. */
  #at(i: number, j?: number): number {
    for (const query of [i, j ?? i])
      if (!(Number.isInteger(query) && query >= 0 && query < this.#queries))
        throw new RangeError(`query ${query} of ${this.#queries}`)
    if (j === undefined) return this.#rowAt(i)
    return this.#rowAt(Math.min(i, j)) + 1 + Math.abs(i - j)
  }
}

const gridShift = BigInt(-gridMin)
const rangeOfOne: Range = { top: 1, low: 0 }

/** a / b, correctly rounded (where the result is a normal f64); NaN where b is 0. b is not negative. */
const ratio = (a: bigint, b: bigint): number => {
  if (b === 0n) return NaN
  if (a === 0n) return 0
  const size = a < 0n ? -a : a
  // A quotient of at least 64 bits, its last one sticky, rounds to 53 as the true one does.
  const shift = Math.max(0, 66 + bitsOf(b) - bitsOf(size))
  const scaled = size << BigInt(shift)
  const quotient = scaled / b
  const sticky = scaled % b === 0n ? quotient : quotient | 1n
  const excess = Math.max(0, bitsOf(sticky) - 1000) // a quotient beyond f64 in itself: scaled in two steps
  const rounded = Number(excess === 0 ? sticky : (sticky >> BigInt(excess)) | 1n)
  const value = rounded * 2 ** (excess - Math.min(shift, 1000)) * 2 ** Math.min(0, 1000 - shift)
  return a < 0n ? -value : value
}

/** Bits of a positive integer, up to 3 too many. */
const bitsOf = (x: bigint): number => 4 * x.toString(16).length
