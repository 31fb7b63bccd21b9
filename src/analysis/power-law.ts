/**
 * @file How fast influence falls with rank: the slope of log influence against log rank (from 1) over the first 500
 * documents, by least squares. −0.3 means that ten times the rank has half the influence; 0 would be a flat top.
 */
import type { AnalysisState } from './state.js'
import { deviation, mean, welch, type Comparison } from './statistics.js'
import { groupedBy, type ScoreKind } from './types.js'

/** Documents that a slope is fitted to; with fewer than the least it is not. */
export const slopeRows = 500
const slopeRowsMin = 20

export interface QuerySlope {
  readonly query: string
  readonly group: string
  readonly correct: boolean | null
  /** NaN where fewer than 20 documents are positive. */
  readonly slope: number
  /** The share of the variance of log influence that the line explains. */
  readonly r2: number
  readonly rows: number
}

export interface PowerLaws {
  readonly kind: ScoreKind
  readonly documents: number
  readonly rows: number
  readonly queries: readonly QuerySlope[]
  readonly groups: readonly { readonly group: string; readonly queries: number; readonly mean: number; readonly deviation: number; readonly r2: number }[]
  /** Factual (A) against reasoning (B): all queries, and those answered right. Null without two of each. */
  readonly test: Comparison | null
  readonly testCorrect: Comparison | null
}

/** The least-squares line of log(score) on log(rank + 1). @param scores positive, best first */
export const powerLaw = (scores: ArrayLike<number>): { readonly slope: number; readonly r2: number } => {
  const x = Float64Array.from(scores, (_, rank) => Math.log(rank + 1))
  const y = Float64Array.from(scores, (score) => Math.log(score))
  const [meanX, meanY] = [mean(x), mean(y)]
  let [xx, xy, yy] = [0, 0, 0]
  for (let i = 0; i < x.length; i++) {
    xx += (x[i] - meanX) ** 2
    xy += (x[i] - meanX) * (y[i] - meanY)
    yy += (y[i] - meanY) ** 2
  }
  return { slope: xy / xx, r2: yy === 0 ? 1 : (xy * xy) / (xx * yy) }
}

/** Reads the slopes off a state. */
export const powerLaws = (state: AnalysisState, kind: ScoreKind, rows = slopeRows): PowerLaws => {
  const slopes = state.queries.map((query, q): QuerySlope => {
    const { scores, size } = state.rows(q, kind, 'top')
    const count = Math.min(rows, size, state.total(q, kind, 'positive').count)
    const about = { query: query.id, group: query.group, correct: query.correct, rows: count }
    return count < slopeRowsMin ? { ...about, slope: NaN, r2: NaN } : { ...about, ...powerLaw(scores.subarray(0, count)) }
  })
  const fitted = slopes.filter(({ slope }) => !Number.isNaN(slope))
  const test = (of: readonly QuerySlope[]): Comparison | null => {
    const [a, b] = ['factual', 'reasoning'].map((group) => of.flatMap((row) => (row.group === group ? [row.slope] : [])))
    return a.length < 2 || b.length < 2 ? null : welch(a, b)
  }
  return {
    kind, documents: state.count, rows, queries: slopes,
    groups: [...groupedBy(fitted, ({ group }) => group)].map(([group, own]) => ({
      group, queries: own.length, mean: mean(own.map(({ slope }) => slope)), deviation: deviation(own.map(({ slope }) => slope)), r2: mean(own.map(({ r2 }) => r2)),
    })),
    test: test(fitted),
    testCorrect: test(fitted.filter(({ correct }) => correct === true)),
  }
}
