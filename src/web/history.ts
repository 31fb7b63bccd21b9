/** @file How many documents and tokens came when: counts in buckets of time, in bounded memory. */

export interface Buckets {
  /** Milliseconds of one bucket. */
  readonly widthMs: number
  /** Milliseconds since the epoch where the first bucket begins. */
  readonly fromMs: number
  /** A bucket each. */
  readonly documents: readonly number[]
  readonly tokens: readonly number[]
}

/**
 * Counts over a span of any length in at most `bucketsMax` buckets: where it outgrows them, neighbours are folded and
 * their width doubles. What is counted may come in any order.
 */
export class History {
  readonly #bucketsMax: number
  #widthMs: number
  /** Number of the bucket (⌊time / width⌋) → documents, tokens. */
  #buckets = new Map<number, [documents: number, tokens: number]>()
  #first = Infinity
  #last = -Infinity

  constructor({ bucketsMax = 240, widthMs = 2000 }: { readonly bucketsMax?: number; readonly widthMs?: number } = {}) {
    this.#bucketsMax = bucketsMax
    this.#widthMs = widthMs
  }

  add(timeMs: number, documents: number, tokens: number): void {
    this.#count(Math.floor(timeMs / this.#widthMs), documents, tokens)
    while (this.#last - this.#first >= this.#bucketsMax) this.#fold()
  }

  /** All buckets from the first that counts anything to the last, empty ones between. */
  get buckets(): Buckets {
    const length = this.#buckets.size === 0 ? 0 : this.#last - this.#first + 1
    const [documents, tokens] = [new Array<number>(length).fill(0), new Array<number>(length).fill(0)]
    for (const [at, [ofDocuments, ofTokens]] of this.#buckets) {
      documents[at - this.#first] = ofDocuments
      tokens[at - this.#first] = ofTokens
    }
    return { widthMs: this.#widthMs, fromMs: length === 0 ? 0 : this.#first * this.#widthMs, documents, tokens }
  }

  #count(at: number, documents: number, tokens: number): void {
    const bucket = this.#buckets.get(at)
    if (bucket === undefined) this.#buckets.set(at, [documents, tokens])
    else {
      bucket[0] += documents
      bucket[1] += tokens
    }
    this.#first = Math.min(this.#first, at)
    this.#last = Math.max(this.#last, at)
  }

  #fold(): void {
    const old = this.#buckets
    this.#buckets = new Map()
    this.#widthMs *= 2
    this.#first = Infinity
    this.#last = -Infinity
    for (const [at, [documents, tokens]] of old) this.#count(Math.floor(at / 2), documents, tokens)
  }
}

/** What came in the last seconds: a ring of buckets of one second. */
export class Recent {
  readonly #seconds: number
  readonly #ring: { second: number; documents: number; tokens: number }[]

  constructor(seconds: number) {
    this.#seconds = seconds
    this.#ring = Array.from({ length: seconds }, () => ({ second: -1, documents: 0, tokens: 0 }))
  }

  add(timeMs: number, documents: number, tokens: number): void {
    const second = Math.floor(timeMs / 1000)
    const bucket = this.#ring[second % this.#seconds]
    if (bucket.second > second) return // older than the ring
    if (bucket.second < second) Object.assign(bucket, { second, documents: 0, tokens: 0 })
    bucket.documents += documents
    bucket.tokens += tokens
  }

  /** Documents and tokens per second over the ring's whole seconds that end at `nowMs`. */
  rate(nowMs: number): { readonly documents: number; readonly tokens: number } {
    const now = Math.floor(nowMs / 1000)
    const live = this.#ring.filter(({ second }) => second > now - this.#seconds && second <= now)
    const total = live.reduce((sum, bucket) => ({ documents: sum.documents + bucket.documents, tokens: sum.tokens + bucket.tokens }), { documents: 0, tokens: 0 })
    return { documents: total.documents / this.#seconds, tokens: total.tokens / this.#seconds }
  }
}
