/**
 * @file How much influence a query draws from its documents, and how much of it from the first few: sums over the top of
 * the positive (or negative) scores, per nat, against the share of documents and against their number.
 */
import { sketchAccuracy, type Sign } from './signed-sketch.js'
import type { AnalysisState } from './state.js'
import { compareSpread, deviation, mean, quantile, welch, type Comparison } from './statistics.js'
import { groupedBy, type ScoreKind } from './types.js'

/** A point of a group's curve: over its queries. */
export interface CurvePoint {
  /** A share of the documents of that sign in (0, 1], or a number of documents. */
  readonly at: number
  readonly mean: number
  readonly deviation: number
  /** The middle half of the queries. */
  readonly low: number
  readonly high: number
  readonly queries: number
  /** Whether every query's sum is exact; else it is within 1 % (beyond the rows that are kept). */
  readonly isExact: boolean
}

export interface MagnitudeCurve {
  readonly group: string
  readonly sign: Sign
  readonly by: 'share' | 'documents'
  readonly points: readonly CurvePoint[]
}

/** One query. */
export interface QueryMagnitude {
  readonly query: string
  readonly group: string
  readonly positive: number
  readonly negative: number
  /** Sums of positive and of negative influence (as a positive number) per nat; NaN without positive information. */
  readonly totalPerNat: number
  readonly negativePerNat: number
  /** The share of the positive sum that the first hundredth of the positive documents hold. */
  readonly topPercentShare: number
}

export interface Magnitudes {
  readonly kind: ScoreKind
  readonly documents: number
  readonly curves: readonly MagnitudeCurve[]
  readonly queries: readonly QueryMagnitude[]
  readonly groups: readonly {
    readonly group: string
    readonly queries: number
    readonly mean: number
    readonly deviation: number
    /** Deviation over mean: how unevenly queries of the group draw. */
    readonly relativeDeviation: number
    readonly topPercentShare: number
  }[]
  /** Factual (A) against reasoning (B): sums per nat, and their spread relative to the median. Null without both. */
  readonly test: { readonly total: Comparison; readonly spread: Comparison } | null
  readonly accuracy: number
}

/** The sum of the first `count` magnitudes of a sign, and whether it is exact. */
export const sumOfFirst = (state: AnalysisState, { query, kind, sign, count }: { readonly query: number; readonly kind: ScoreKind; readonly sign: Sign; readonly count: number }): { readonly sum: number; readonly isExact: boolean } =>
  summer(state, query, kind, sign)(count)

/** As `sumOfFirst`, for many counts of one query. */
const summer = (state: AnalysisState, query: number, kind: ScoreKind, sign: Sign): ((count: number) => { sum: number; isExact: boolean }) => {
  const total = state.total(query, kind, sign)
  const { scores, size } = state.rows(query, kind, sign === 'positive' ? 'top' : 'bottom')
  const kept = Math.min(size, total.count)
  const prefix = new Float64Array(kept + 1)
  for (let i = 0; i < kept; i++) prefix[i + 1] = prefix[i] + scores[i]
  const bins = kept === total.count ? [] : state.sketch(query, kind).bins(sign)
  const bySketch = (count: number): number => {
    let [sum, left] = [0, count]
    for (const { magnitude, count: inBin } of bins) {
      sum += magnitude * Math.min(left, inBin)
      left -= Math.min(left, inBin)
      if (left <= 0) break
    }
    return sum
  }
  const sketchKept = bins.length === 0 ? 0 : bySketch(kept)
  return (count) => {
    if (count >= total.count) return { sum: total.sum, isExact: true }
    if (count <= kept) return { sum: prefix[count], isExact: true }
    return { sum: Math.min(total.sum, prefix[kept] + bySketch(count) - sketchKept), isExact: false }
  }
}

/** 1, 2, 5, 10, ... below `end`, and `end`. */
const grid = (start: number, end: number): number[] => {
  const values: number[] = []
  for (let decade = Math.floor(Math.log10(start)); 10 ** decade < end; decade++)
    for (const step of [1, 2, 5]) {
      const value = Number(`${step}e${decade}`)
      if (value >= start && value < end) values.push(value)
    }
  return [...values, end]
}

/** Reads the magnitudes off a state. */
export const magnitudes = (state: AnalysisState, kind: ScoreKind): Magnitudes => {
  const { queries } = state
  const per = queries.map((query, q) => {
    const nats = query.informationNats > 0 ? query.informationNats : NaN
    const sums = { positive: summer(state, q, kind, 'positive'), negative: summer(state, q, kind, 'negative') }
    const counts = { positive: state.total(q, kind, 'positive').count, negative: state.total(q, kind, 'negative').count }
    return { query, nats, sums, counts }
  })
  const rows = per.map(({ query, nats, sums, counts }): QueryMagnitude => {
    const total = sums.positive(counts.positive).sum
    return {
      query: query.id, group: query.group, positive: counts.positive, negative: counts.negative, totalPerNat: total / nats,
      negativePerNat: sums.negative(counts.negative).sum / nats, topPercentShare: sums.positive(Math.ceil(counts.positive / 100)).sum / total,
    }
  })
  const groups = groupedBy(per, ({ query }) => query.group)
  const curves: MagnitudeCurve[] = []
  for (const [group, members] of groups)
    for (const sign of ['positive', 'negative'] as const)
      for (const by of ['share', 'documents'] as const) {
        const own = members.filter(({ nats, counts }) => !Number.isNaN(nats) && counts[sign] > 0)
        if (own.length === 0) continue
        const least = Math.min(...own.map(({ counts }) => counts[sign]))
        const ats = by === 'share' ? grid(Math.min(1, 1 / least), 1) : grid(1, least)
        curves.push({
          group, sign, by,
          points: ats.map((at) => {
            const sums = own.map(({ nats, sums: of, counts }) => ({ ...of[sign](by === 'share' ? Math.ceil(at * counts[sign]) : at), nats }))
            const values = sums.map(({ sum, nats }) => sum / nats)
            return {
              at, mean: mean(values), deviation: deviation(values), low: quantile(values, 0.25), high: quantile(values, 0.75),
              queries: values.length, isExact: sums.every(({ isExact }) => isExact),
            }
          }),
        })
      }
  const totals = (group: string): number[] => rows.flatMap((row) => (row.group === group && !Number.isNaN(row.totalPerNat) ? [row.totalPerNat] : []))
  const [factual, reasoning] = [totals('factual'), totals('reasoning')]
  return {
    kind, documents: state.count, curves, queries: rows, accuracy: sketchAccuracy,
    groups: [...groups.keys()].map((group) => {
      const values = totals(group)
      const shares = rows.flatMap((row) => (row.group === group && !Number.isNaN(row.topPercentShare) ? [row.topPercentShare] : []))
      return {
        group, queries: values.length, mean: mean(values), deviation: deviation(values), relativeDeviation: deviation(values) / mean(values),
        topPercentShare: mean(shares),
      }
    }),
    test: factual.length < 2 || reasoning.length < 2 ? null : { total: welch(factual, reasoning), spread: compareSpread(factual, reasoning) },
  }
}
