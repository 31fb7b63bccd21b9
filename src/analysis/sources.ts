/**
 * @file Which sources are over-represented: a source's share of the first (and of the last) k documents, divided by its
 * share of all documents. 1 is what chance gives. In the paper the bottom looks much like the top: read the multiplier as a
 * source's effect on the size of influence, too.
 */
import { seedOf, uniforms } from '../base/index.js'
import type { AnalysisState } from './state.js'
import { deviation, holm, mean, shareInterval, weightedMarksP } from './statistics.js'
import { ends, groupedBy, type ListEnd, type ScoreKind } from './types.js'

/** The paper's k. */
export const sourceKs = [50, 500, 5_000, 50_000] as const
/** Sources told apart, the largest first; the others are one. */
const sourcesMax = 30
export const otherSources = '(other sources)'

/** One bar: a source among the first or last k documents of a group's queries. */
export interface SourceShare {
  readonly group: string
  readonly end: ListEnd
  readonly k: number
  readonly source: string
  /** Share of the lists over share of the corpus, mean over the group's queries. */
  readonly multiplier: number
  /**
   * 95 %, for other queries and other documents of the same kind: on the log scale, from the variance between queries plus
   * that of the documents that lists share (the pigeonhole bootstrap's, Owen 2007, in closed form); Clopper-Pearson for one
   * query or where the source is in no list.
   */
  readonly interval: readonly [number, number]
  /** Against 1: sources dealt to documents at random (statistics.ts); as it is, and corrected (Holm) over the group's bars. */
  readonly p: number
  readonly pCorrected: number
  readonly queries: number
}

export interface Sources {
  readonly kind: ScoreKind
  readonly documents: number
  readonly corpus: readonly { readonly source: string; readonly documents: number; readonly share: number }[]
  /** The k that are read, and those that are not: no list of k documents says anything where k is not well below N. */
  readonly ks: readonly number[]
  readonly ksLeftOut: readonly number[]
  readonly shares: readonly SourceShare[]
}

/** Reads the sources off a state. */
export const sources = (state: AnalysisState, kind: ScoreKind): Sources => {
  const all = state.sources()
  const largest = [...all].sort((a, b) => b.count - a.count || (a.source < b.source ? -1 : 1)).slice(0, all.length > sourcesMax ? sourcesMax - 1 : sourcesMax)
  const names = all.length > largest.length ? [...largest.map(({ source }) => source), otherSources] : largest.map(({ source }) => source)
  /** From an index of the state to an index of `names`. */
  const shown = all.map(({ source }) => (names.includes(source) ? names.indexOf(source) : names.length - 1))
  const counts = new Float64Array(names.length)
  all.forEach(({ count }, at) => (counts[shown[at]] += count))
  const usable = (k: number): boolean => k <= state.depth && 2 * k <= state.count
  const ks = sourceKs.filter(usable)
  const shares: SourceShare[] = []
  for (const [group, own] of groupedBy(state.queries.map((query, q) => ({ query, q })), ({ query }) => query.group)) {
    const bars = ends.flatMap((end) =>
      ks.flatMap((k) => {
        const lists = listsOf(state, own.map(({ q }) => q), { kind, end, k, shown, names: names.length })
        return names.map((source, at) => ({ group, end, k, source, queries: own.length, ...barOf(state.count, counts[at], lists, at, `sources ${kind} ${group} ${end} ${k} ${source}`) }))
      }),
    )
    const corrected = holm(bars.map(({ p }) => p))
    shares.push(...bars.map((bar, at) => ({ ...bar, pCorrected: corrected[at] })))
  }
  return {
    kind, documents: state.count, ks, ksLeftOut: sourceKs.filter((k) => !usable(k)), shares,
    corpus: names.map((source, at) => ({ source, documents: counts[at], share: counts[at] / state.count })),
  }
}

/** The lists of some queries: rows of each source by query, and how often each document stands in them. */
interface Lists {
  readonly k: number
  /** [Q][sources]. */
  readonly bySource: readonly Float64Array[]
  readonly weights: Float64Array
}

const listsOf = (
  state: AnalysisState, queries: readonly number[],
  { kind, end, k, shown, names }: { readonly kind: ScoreKind; readonly end: ListEnd; readonly k: number; readonly shown: readonly number[]; readonly names: number },
): Lists => {
  const places = new Float64Array(queries.length * k)
  const bySource = queries.map((q, at) => {
    const rows = state.rows(q, kind, end)
    places.set(rows.places.subarray(0, k), at * k)
    const counts = new Float64Array(names)
    for (let i = 0; i < k; i++) counts[shown[rows.sources[i]]]++
    return counts
  })
  places.sort()
  const weights: number[] = []
  for (let i = 0; i < places.length; i++)
    if (i > 0 && places[i] === places[i - 1]) weights[weights.length - 1]++
    else weights.push(1)
  return { k, bySource, weights: Float64Array.from(weights) }
}

const barOf = (total: number, marked: number, { k, bySource, weights }: Lists, source: number, seed: string): Pick<SourceShare, 'multiplier' | 'interval' | 'p'> => {
  const share = marked / total
  const multipliers = bySource.map((counts) => counts[source] / k / share)
  const multiplier = mean(multipliers)
  const rows = k * bySource.length
  const observed = bySource.reduce((sum, counts) => sum + counts[source], 0)
  let squares = 0
  for (const weight of weights) squares += weight * weight
  const p = weightedMarksP(weights, observed, { total, marked }, uniforms(seedOf(seed)))
  if (observed === 0 || bySource.length === 1) {
    const independent = Math.max(1, Math.round(rows ** 2 / squares))
    const [low, high] = shareInterval(Math.round((observed / rows) * independent), independent)
    return { multiplier, interval: [low / share, high / share], p }
  }
  const own = observed / rows
  const ofDocuments = (own * (1 - own) * (squares - rows ** 2 / total)) / (rows * share) ** 2
  const error = Math.sqrt(deviation(multipliers) ** 2 / multipliers.length + Math.max(0, ofDocuments))
  const factor = Math.exp((1.96 * error) / multiplier)
  return { multiplier, interval: [multiplier / factor, multiplier * factor], p }
}
