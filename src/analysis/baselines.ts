/**
 * @file What the figures would be of nothing: labels of queries shuffled, sources dealt anew, scores drawn from a normal
 * distribution. Each number of a run stands beside the mean and the middle 95 % of its baseline (docs/method.md §6).
 */
import { seedOf, uniforms } from '../base/index.js'
import type { Answers } from './answers.js'
import type { Correlations } from './correlation.js'
import type { Magnitudes } from './magnitude.js'
import { powerLaw, type PowerLaws } from './power-law.js'
import type { Sources } from './sources.js'
import type { AnalysisState } from './state.js'
import { mean, normalQuantile, quantile, shuffle } from './statistics.js'
import { cellOf, type ScoreKind } from './types.js'

export interface Baseline {
  /** The figure that it belongs to, as `tributary analyses` names it. */
  readonly figure: 'correlation' | 'overlap' | 'magnitude' | 'power-law' | 'answers' | 'labels' | 'sources'
  readonly measure: string
  readonly value: number
  /** What is random in the baseline. */
  readonly of: string
  readonly baseline: number
  /** The middle 95 % of what chance gives; null where only the mean is known. */
  readonly range: readonly [number, number] | null
}

export interface Baselines {
  readonly kind: ScoreKind
  readonly documents: number
  readonly rows: readonly Baseline[]
}

interface ReadOff {
  readonly correlations: Correlations
  readonly magnitudes: Magnitudes
  readonly powerLaws: PowerLaws
  readonly answers: Answers
  readonly sources: Sources
}

const draws = 999

/** Deterministic: chance is seeded by what is shuffled. */
export const baselines = (state: AnalysisState, kind: ScoreKind, read: ReadOff): Baselines => ({
  kind, documents: state.count,
  rows: state.count === 0 ? [] : [
    ...correlationRows(state, kind, read), ...magnitudeRows(state, kind, read), ...slopeRows(state, kind, read), ...answerRows(read), ...sourceRows(state, kind, read),
  ].filter(({ value, baseline }) => Number.isFinite(value) && Number.isFinite(baseline)),
})

const drawn = (draw: () => number): Pick<Baseline, 'baseline' | 'range'> => {
  const values = Array.from({ length: draws }, draw).filter((value) => !Number.isNaN(value))
  return { baseline: mean(values), range: [quantile(values, 0.025), quantile(values, 0.975)] }
}

const correlationRows = ({ queries, count }: AnalysisState, kind: ScoreKind, { correlations: { matrix, blocks, overlapK, overlapByChance } }: ReadOff): Baseline[] => {
  const cells = [...new Set(queries.map(cellOf))]
  const labels = Int32Array.from(queries, (query) => cells.indexOf(cellOf(query)))
  const within = (): number => {
    let [sum, pairs] = [0, 0]
    for (let i = 0; i < labels.length; i++)
      for (let j = i + 1; j < labels.length; j++)
        if (labels[i] === labels[j] && !Number.isNaN(matrix[i][j])) {
          sum += matrix[i][j]
          pairs++
        }
    return sum / pairs
  }
  const value = within()
  const uniform = uniforms(seedOf(`baseline correlation ${kind}`))
  const own = blocks.filter(({ a, b }) => a === b)
  const pairs = own.reduce((sum, block) => sum + block.pairs, 0)
  // Of one pair of random lists, hypergeometric; pairs as though they were independent.
  const deviation = Math.sqrt((overlapByChance * (1 - overlapByChance) ** 2) / overlapK / Math.max(1, pairs) * (count / Math.max(1, count - 1)))
  return [
    {
      figure: 'correlation', measure: "mean r of queries of one task, all tasks", value, of: 'tasks dealt to the queries anew',
      ...drawn(() => {
        shuffle(labels, uniform)
        return within()
      }),
    },
    {
      figure: 'overlap', measure: `first ${overlapK} in common, queries of one task`, value: own.reduce((sum, block) => sum + block.pairs * block.overlap, 0) / pairs, of: 'lists drawn from the corpus',
      baseline: overlapByChance, range: [Math.max(0, overlapByChance - 1.96 * deviation), overlapByChance + 1.96 * deviation],
    },
  ]
}

/** A measure of the factual over that of the reasoning queries, and the same with the two groups shuffled. */
const contrastRow = (values: readonly { readonly group: string; readonly value: number }[], seed: string, combine: (a: number, b: number) => number): Pick<Baseline, 'value' | 'baseline' | 'range'> | null => {
  const own = values.filter(({ group, value }) => (group === 'factual' || group === 'reasoning') && Number.isFinite(value))
  const factual = own.filter(({ group }) => group === 'factual').length
  if (factual < 2 || own.length - factual < 2) return null
  const order = Int32Array.from([...own.keys()].sort((a, b) => Number(own[a].group !== 'factual') - Number(own[b].group !== 'factual')))
  const contrast = (): number => {
    let [a, b] = [0, 0]
    order.forEach((at, i) => (i < factual ? (a += own[at].value) : (b += own[at].value)))
    return combine(a / factual, b / (own.length - factual))
  }
  const value = contrast()
  const uniform = uniforms(seedOf(seed))
  return {
    value, ...drawn(() => {
      shuffle(order, uniform)
      return contrast()
    }),
  }
}

const shuffledGroups = 'factual and reasoning dealt to the queries anew'

/** The m greatest of N standard normal numbers, as they are expected (Blom 1958). */
const greatestNormals = (total: number, m: number): Float64Array => Float64Array.from({ length: m }, (_, rank) => -normalQuantile((rank + 1 - 0.375) / (total + 0.25)))

const magnitudeRows = (state: AnalysisState, kind: ScoreKind, { magnitudes: { queries } }: ReadOff): Baseline[] => {
  const contrast = contrastRow(queries.map(({ group, totalPerNat }) => ({ group, value: totalPerNat })), `baseline magnitude ${kind}`, (a, b) => a / b)
  const positive = Math.floor(state.count / 2)
  const first = Math.max(1, Math.round(positive / 100))
  // The mean of a half-normal distribution is √(2/π).
  const share = greatestNormals(state.count, first).reduce((sum, score) => sum + score, 0) / (positive * Math.sqrt(2 / Math.PI))
  return [
    ...(contrast === null ? [] : [{ figure: 'magnitude' as const, measure: 'sum per nat, factual over reasoning', of: shuffledGroups, ...contrast }]),
    ...(positive < 100 ? [] : [{
      figure: 'magnitude' as const, measure: 'held by the first 1 %, mean of all queries', value: mean(queries.map(({ topPercentShare }) => topPercentShare).filter(Number.isFinite)), of: 'normal scores',
      baseline: share, range: null,
    }]),
  ]
}

const slopeRows = (state: AnalysisState, kind: ScoreKind, { powerLaws: { queries, rows } }: ReadOff): Baseline[] => {
  const contrast = contrastRow(queries.map(({ group, slope }) => ({ group, value: slope })), `baseline slope ${kind}`, (a, b) => a - b)
  const seen = Math.min(rows, Math.floor(state.count / 2))
  return [
    ...(seen < 20 ? [] : [{
      figure: 'power-law' as const, measure: `mean slope over the first ${rows}`, value: mean(queries.map(({ slope }) => slope).filter(Number.isFinite)), of: 'normal scores',
      baseline: powerLaw(greatestNormals(state.count, seen)).slope, range: null,
    }]),
    ...(contrast === null ? [] : [{ figure: 'power-law' as const, measure: 'slope, factual less reasoning', of: shuffledGroups, ...contrast }]),
  ]
}

const answerRows = ({ answers: { hits, labels } }: ReadOff): Baseline[] => [
  ...hits.filter(({ only, n }) => only === 'all' && n === hits[0].n).flatMap(({ group, by, n, hits: count, byChance, withOthersAnswers }): Baseline[] => [
    { figure: 'answers', measure: `${group}: hits by ${by} in the first ${n}`, value: count, of: 'lists drawn from the corpus', baseline: byChance, range: null },
    { figure: 'answers', measure: `${group}: hits by ${by} in the first ${n}`, value: count, of: "answers of the group's other queries", baseline: withOthersAnswers, range: null },
  ]),
  ...labels.map(({ group, task, n, share, corpusShare }): Baseline => ({
    figure: 'labels', measure: `${group}, ${task}: labelled share of the first ${n}`, value: share, of: 'lists drawn from the corpus', baseline: corpusShare, range: null,
  })),
]

/** The greatest multiplier of a group's first k, and that of the same lists with sources dealt to their documents anew. */
const sourceRows = (state: AnalysisState, kind: ScoreKind, { sources: { shares, ks, corpus } }: ReadOff): Baseline[] => {
  if (ks.length === 0 || corpus.length < 2) return []
  const [k] = ks
  const bounds: number[] = []
  corpus.reduce((sum, { share }) => (bounds.push(sum + share), sum + share), 0)
  return [...new Set(shares.map(({ group }) => group))].map((group): Baseline => {
    const own = state.queries.flatMap((query, q) => (query.group === group ? [q] : []))
    const weights = new Map<string, number>()
    for (const q of own) {
      const { places, pieces } = state.rows(q, kind, 'top')
      for (let rank = 0; rank < k; rank++) weights.set(`${places[rank]}/${pieces[rank]}`, (weights.get(`${places[rank]}/${pieces[rank]}`) ?? 0) + 1)
    }
    const list = Float64Array.from(weights.values())
    const uniform = uniforms(seedOf(`baseline sources ${kind} ${group}`))
    const counts = new Float64Array(corpus.length)
    return {
      figure: 'sources', measure: `${group}: greatest multiplier in the first ${k}`, of: 'sources dealt to the documents anew',
      value: Math.max(...shares.filter((share) => share.group === group && share.end === 'top' && share.k === k).map(({ multiplier }) => multiplier)),
      ...drawn(() => {
        counts.fill(0)
        for (const weight of list) {
          const at = uniform()
          let source = 0
          while (source < bounds.length - 1 && at >= bounds[source]) source++
          counts[source] += weight
        }
        return counts.reduce((most, count, source) => Math.max(most, count / (own.length * k) / corpus[source].share), 0)
      }),
    }
  })
}
