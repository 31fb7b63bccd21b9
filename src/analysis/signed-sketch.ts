/**
 * @file How the scores of one query are spread: counts of positive and of negative scores by magnitude, in bins of 1 %
 * relative width. A DDSketch (Masson et al. 2019, arXiv 1908.10693) of @datadog/sketches-js, of which only the bins are
 * kept: they are whole numbers, so a merge in any order gives the same bits (its running sum would not).
 */
import { DDSketch } from '@datadog/sketches-js'

/** A score read from the sketch is off by at most this share of itself. */
export const sketchAccuracy = 0.01

export type Sign = 'positive' | 'negative'

export class SignedSketch {
  readonly #sketch = new DDSketch({ relativeAccuracy: sketchAccuracy })

  insert(score: number): void {
    this.#sketch.accept(score)
  }

  /** Bins of non-zero count, the greatest magnitude first: its middle, and how many scores it holds. */
  bins(sign: Sign): { readonly magnitude: number; readonly count: number }[] {
    return this.#keys(sign).reverse().map(([key, count]) => ({ magnitude: this.#sketch.mapping.value(key), count }))
  }

  merge(other: SignedSketch): void {
    for (const sign of ['positive', 'negative'] as const) this.#add(sign, other.#keys(sign))
    this.#sketch.zeroCount += other.#sketch.zeroCount
  }

  /** [zeros, positive bins, (key, count)..., (key, count) of negative ones...]. */
  serialize(): Float64Array {
    const positive = this.#keys('positive')
    return Float64Array.from([this.#sketch.zeroCount, positive.length, ...positive.flat(), ...this.#keys('negative').flat()])
  }

  static deserialize(values: Float64Array): SignedSketch {
    const sketch = new SignedSketch()
    const pairs: [number, number][] = []
    for (let at = 2; at < values.length; at += 2) pairs.push([values[at], values[at + 1]])
    sketch.#sketch.zeroCount = values[0]
    sketch.#add('positive', pairs.slice(0, values[1]))
    sketch.#add('negative', pairs.slice(values[1]))
    return sketch
  }

  /** One bin at a time: DenseStore.merge of sketches-js 2.1.1 loses the other's last bin where its key is 0. */
  #add(sign: Sign, pairs: readonly (readonly [number, number])[]): void {
    const store = sign === 'positive' ? this.#sketch.store : this.#sketch.negativeStore
    for (const [key, count] of pairs) store.add(key, count)
  }

  /** (key, count), keys ascending. */
  #keys(sign: Sign): [number, number][] {
    const store = sign === 'positive' ? this.#sketch.store : this.#sketch.negativeStore
    return store.bins.flatMap((count, at): [number, number][] => (count === 0 ? [] : [[at + store.offset, count]]))
  }
}
