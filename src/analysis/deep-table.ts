/**
 * @file The first k documents of one query by score, with k in the tens of thousands, without their names: score, place,
 * piece and source in typed arrays, 20 bytes a row. What source shares, sums over the top, and slopes are read from.
 *
 * The order is total: the greater score, then the lesser place (partition, offset), then the lesser piece. So the table
 * is a function of the set of documents, whatever their order or how parts were merged. (The tables of `table/` break
 * ties by document id, which needs names.)
 *
 * Rows are collected behind the table and sorted in when they are a quarter of it: a row costs O(log k) at most.
 */
import type { Place } from './types.js'

/** Rows of a table, best first. Views: they hold until the next insertion. */
export interface DeepRows {
  readonly size: number
  /** f32; of the table's own sign, so a bottom table's are negated. */
  readonly scores: Float32Array
  readonly places: Float64Array
  readonly pieces: Uint32Array
  readonly sources: Uint32Array
}

export class DeepTable {
  readonly k: number
  #size = 0
  /** Rows [0, sorted) are in order. */
  #sorted = 0
  #scores = new Float32Array(16)
  #places = new Float64Array(16)
  #pieces = new Uint32Array(16)
  #sources = new Uint32Array(16)
  /** No lesser score can enter. */
  #threshold = -Infinity

  /** Rows at which the table is sorted and cut to k. */
  readonly #roomMax: number

  constructor(k: number) {
    if (!(Number.isSafeInteger(k) && k >= 1)) throw new RangeError(`k is ${k}; a table holds at least one row`)
    this.k = k
    this.#roomMax = k + Math.max(16, k >> 2)
  }

  /** @param score f32, finite; the greater the better */
  offer(score: number, place: Place, piece: number, source: number): void {
    if (score < this.#threshold) return
    const at = this.#size++
    if (at === this.#scores.length) this.#grow()
    this.#scores[at] = score + 0 // −0 becomes 0
    this.#places[at] = place
    this.#pieces[at] = piece
    this.#sources[at] = source
    if (this.#size === this.#roomMax) this.#sort()
  }

  /** Rows, best first. */
  rows(): DeepRows {
    this.#sort()
    const size = this.#size
    return {
      size,
      scores: this.#scores.subarray(0, size),
      places: this.#places.subarray(0, size),
      pieces: this.#pieces.subarray(0, size),
      sources: this.#sources.subarray(0, size),
    }
  }

  #sort(): void {
    if (this.#sorted === this.#size) return
    const [scores, places, pieces] = [this.#scores, this.#places, this.#pieces]
    const order = new Uint32Array(this.#size)
    for (let i = 0; i < order.length; i++) order[i] = i
    order.sort((a, b) => scores[b] - scores[a] || places[a] - places[b] || pieces[a] - pieces[b])
    const kept = order.subarray(0, this.k)
    this.#scores = arranged(scores, kept)
    this.#places = arranged(places, kept)
    this.#pieces = arranged(pieces, kept)
    this.#sources = arranged(this.#sources, kept)
    this.#size = this.#sorted = kept.length
    if (this.#size === this.k) this.#threshold = this.#scores[this.k - 1]
  }

  #grow(): void {
    const length = Math.min(2 * this.#scores.length, this.#roomMax)
    const grown = <T extends Float32Array | Float64Array | Uint32Array>(to: T, from: T): T => {
      to.set(from)
      return to
    }
    this.#scores = grown(new Float32Array(length), this.#scores)
    this.#places = grown(new Float64Array(length), this.#places)
    this.#pieces = grown(new Uint32Array(length), this.#pieces)
    this.#sources = grown(new Uint32Array(length), this.#sources)
  }
}

/** The chosen elements in their order; room for as many again is made when it is needed. */
const arranged = <T extends Float32Array | Float64Array | Uint32Array>(values: T, order: Uint32Array): T => {
  const result = new (values.constructor as new (length: number) => T)(Math.max(16, order.length))
  for (let i = 0; i < order.length; i++) result[i] = values[order[i]]
  return result
}
