/**
 * @file Whether the scores of late are still those of the run: their mean and spread, query by query, against those of
 * all documents so far. A corpus whose parts differ drifts, and so does a run whose engine or shards have gone wrong; the
 * figures say that something changed, not what.
 */
import type { Moments, Scored } from '../table/index.js'

export interface Drift {
  /** |mean of late − mean of the run| in standard deviations of the run: the greatest of any query, and the mean. */
  readonly shiftMax: number
  readonly shiftMean: number
  /** Standard deviation of late over that of the run: the geometric mean over queries. 1: as ever. */
  readonly scale: number
  /** Documents that late stands for; before there are twice as many in the run, late is the run. */
  readonly documents: number
}

/** A document's weight is 1/e after so many others. */
const windowDocuments = 1024

/**
 * Normed scores of late, as exponentially weighted means (weights sum to one from the first document on), beside the
 * moments of partitions, which are views. Holds two numbers a query.
 */
export class ScoreDrift {
  #mean = new Float64Array()
  #square = new Float64Array()
  #count = 0
  readonly #runs = new Map<number, Moments>()

  insert(partition: number, scored: readonly Scored[], normed: Moments): void {
    this.#runs.set(partition, normed)
    for (const { influence, gradientNorm } of scored) {
      if (this.#mean.length !== influence.length) {
        this.#mean = new Float64Array(influence.length)
        this.#square = new Float64Array(influence.length)
        this.#count = 0
      }
      this.#count++
      const weight = Math.max(1 / this.#count, 1 / windowDocuments)
      for (let q = 0; q < influence.length; q++) {
        const x = influence[q] / gradientNorm
        this.#mean[q] += weight * (x - this.#mean[q])
        this.#square[q] += weight * (x * x - this.#square[q])
      }
    }
  }

  /** A partition that is another worker's now no longer counts. */
  forget(partition: number): void {
    this.#runs.delete(partition)
  }

  /** Undefined until late is told apart from the run. */
  read(): Drift | undefined {
    const runs = [...this.#runs.values()]
    const n = runs.reduce((sum, { count }) => sum + count, 0)
    if (this.#count < windowDocuments || n < 2 * windowDocuments) return undefined
    let max = 0
    let total = 0
    let logScale = 0
    let queries = 0
    for (let q = 0; q < this.#mean.length; q++) {
      const mean = runs.reduce((sum, run) => sum + run.sum(q), 0) / n
      const variance = runs.reduce((sum, run) => sum + run.sumOfProducts(q, q), 0) / n - mean * mean
      const late = this.#square[q] - this.#mean[q] ** 2
      if (!(variance > 0 && late > 0)) continue
      const shift = Math.abs(this.#mean[q] - mean) / Math.sqrt(variance)
      max = Math.max(max, shift)
      total += shift
      logScale += Math.log(late / variance) / 2
      queries++
    }
    if (queries === 0) return undefined
    return { shiftMax: max, shiftMean: total / queries, scale: Math.exp(logScale / queries), documents: windowDocuments }
  }
}
