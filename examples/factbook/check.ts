/**
 * @file Does a capital's query find the document that states it? Scores of two runs → the rank of every country's own
 * document, a table, and a verdict.
 *
 * The check passes if, by raw and by normed influence, EK-FAC's median rank of the own documents
 *   1. is better than chance among all documents (exact, p < 0.001; statistics.ts),
 *   2. is better than chance among the documents that state a capital (p < 0.001): so it's the right country that comes
 *      first, not the factbook's way of writing,
 *   3. is lower than by the plain gradient dot product (`identity`); where both medians are the same, as when more than
 *      half of the own documents come first by either, EK-FAC must rank more of them higher than lower.
 * Queries whose own document ranks low are listed all the same: a fact that a model knows by heart leaves little to
 * learn, and a common name is taught by many documents.
 */
import { ownDocument } from './corpus.js'
import { medianByChance, signTest, upperMedian } from './statistics.js'

/** A line of `tributary scores --format jsonl`, as far as this check reads it. */
export interface Score {
  readonly query: string
  readonly document: string
  readonly influence: number
  readonly influencePerNat: number
  readonly influenceNormed: number
}

/** What the check needs of a query: its id and whose own document to look for. */
export interface CapitalQuery {
  readonly id: string
  readonly country: string
  readonly answer: string
}

export const MEASURES = ['influence', 'influenceNormed'] as const
export type Measure = (typeof MEASURES)[number]

/** Where a query's own document came, from 0, and among how many. */
export interface Place {
  readonly rank: number
  readonly documents: number
  /** Among the documents that state a capital. */
  readonly rankOfCapitals: number
  readonly capitals: number
}

export interface Row {
  readonly query: CapitalQuery
  /** Information of the completion under the model, −f in nats: how far it is from known by heart. */
  readonly nats: number
  readonly ekfac: Readonly<Record<Measure, Place>>
  readonly identity: Readonly<Record<Measure, Place>>
}

/** One strategy by one measure: its median ranks, and how likely they are by chance. */
export interface Summary {
  readonly median: number
  readonly byChance: number
  readonly medianOfCapitals: number
  readonly byChanceOfCapitals: number
}

/** Of how many queries EK-FAC ranks the own document higher, of how many lower, and the exact sign test of that. */
export interface Pairs {
  readonly higher: number
  readonly lower: number
  readonly byChance: number
}

export interface Verdict {
  readonly rows: readonly Row[]
  readonly documents: number
  readonly capitals: number
  readonly summaries: Readonly<Record<Measure, Readonly<Record<'ekfac' | 'identity', Summary>>>>
  /** EK-FAC's rank against identity's, query by query. */
  readonly pairs: Readonly<Record<Measure, Pairs>>
  /** Why the check fails; empty if it passes. */
  readonly failures: readonly string[]
}

export const CAPITALS_MIN = 20
const P_MAX = 0.001

/** Lines of a scores file → scores. @throws Error that names the line which is none */
export const parseScores = (name: string, text: string): readonly Score[] =>
  text.split('\n').flatMap((line, at) => {
    if (line.trim() === '') return []
    const row = JSON.parse(line) as Partial<Score>
    const numbers = [row.influence, row.influencePerNat, row.influenceNormed]
    if (typeof row.query !== 'string' || typeof row.document !== 'string' || !numbers.every(Number.isFinite))
      throw new Error(`${name}, line ${at + 1} is no score: ${line.slice(0, 200)}`)
    return [row as Score]
  })

/** The queries that ask for a capital and name the country. */
export const capitalQueries = (text: string): readonly CapitalQuery[] =>
  text.split('\n').filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Partial<CapitalQuery> & { readonly group?: string; readonly task?: string })
    .filter(({ group, task }) => group === 'factual' && task === 'capitals')
    .map(({ id, country, answer }) => {
      if (id === undefined || country === undefined || answer === undefined)
        throw new Error(`query ${id ?? '?'} asks for a capital and lacks its country or answer`)
      return { id, country, answer }
    })

/** Scores of both runs over the same documents → the verdict. @throws Error if a query or its own document is missing */
export const check = (
  queries: readonly CapitalQuery[], scores: { readonly ekfac: readonly Score[]; readonly identity: readonly Score[] },
): Verdict => {
  const of = { ekfac: byQuery(scores.ekfac), identity: byQuery(scores.identity) }
  const scoresOf = (run: keyof typeof of, query: CapitalQuery): readonly Score[] => {
    const own = of[run].get(query.id)
    if (own === undefined) throw new Error(`run ${run} has no scores of query ${query.id}`)
    return own
  }
  const rows = queries.map((query): Row => {
    const [ekfac, identity] = [scoresOf('ekfac', query), scoresOf('identity', query)]
    if (ekfac.length !== identity.length)
      throw new Error(`the runs scored ${ekfac.length} and ${identity.length} documents against ${query.id}`)
    return { query, nats: natsOf(ekfac), ekfac: places(ekfac, query), identity: places(identity, query) }
  })
  const { documents, capitals } = rows[0]?.ekfac.influence ?? { documents: 0, capitals: 0 }
  const summary = (strategy: 'ekfac' | 'identity', measure: Measure): Summary => {
    const ranks = rows.map((row) => row[strategy][measure].rank)
    const ofCapitals = rows.map((row) => row[strategy][measure].rankOfCapitals)
    return {
      median: upperMedian(ranks),
      byChance: medianByChance(ranks, documents),
      medianOfCapitals: upperMedian(ofCapitals),
      byChanceOfCapitals: medianByChance(ofCapitals, capitals),
    }
  }
  if (rows.length < CAPITALS_MIN) throw new Error(`${rows.length} capitals were asked; the check wants ${CAPITALS_MIN}`)
  const each = <T>(of: (measure: Measure) => T): Readonly<Record<Measure, T>> => ({
    influence: of('influence'), influenceNormed: of('influenceNormed'),
  })
  const summaries = each((measure) => ({ ekfac: summary('ekfac', measure), identity: summary('identity', measure) }))
  const pairs = each((measure): Pairs => {
    const ranks = rows.map((row) => [row.ekfac[measure].rank, row.identity[measure].rank] as const)
    return {
      higher: ranks.filter(([ekfac, identity]) => ekfac < identity).length,
      lower: ranks.filter(([ekfac, identity]) => ekfac > identity).length,
      byChance: signTest(ranks),
    }
  })
  return {
    rows,
    documents,
    capitals,
    summaries,
    pairs,
    failures: MEASURES.flatMap((measure) => failuresOf(measure, summaries[measure], pairs[measure])),
  }
}

const failuresOf = (
  measure: Measure, { ekfac, identity }: Verdict['summaries'][Measure], { higher, lower }: Pairs,
): readonly string[] => [
  ...(ekfac.byChance < P_MAX ? [] : [`by ${measure}, a median rank of ${ekfac.median} may be chance: p = ${ekfac.byChance.toPrecision(2)}`]),
  ...(ekfac.byChanceOfCapitals < P_MAX
    ? []
    : [`by ${measure}, a median rank of ${ekfac.medianOfCapitals} among the capitals' documents may be chance: p = ${ekfac.byChanceOfCapitals.toPrecision(2)}`]),
  ...(ekfac.median < identity.median || (ekfac.median === identity.median && higher > lower)
    ? []
    : [
        `by ${measure}, EK-FAC is not better than the gradient dot product: median rank ${ekfac.median} against ` +
          `${identity.median}, the own document higher for ${higher} queries and lower for ${lower}`,
      ]),
]

const byQuery = (scores: readonly Score[]): ReadonlyMap<string, readonly Score[]> => {
  const map = new Map<string, Score[]>()
  for (const score of scores) {
    const own = map.get(score.query)
    if (own === undefined) map.set(score.query, [score])
    else own.push(score)
  }
  return map
}

/** −f, from any document: influence / (influence per nat). */
const natsOf = (scores: readonly Score[]): number => {
  const some = scores.find(({ influence, influencePerNat }) => influence !== 0 && influencePerNat !== 0)
  return some === undefined ? NaN : some.influence / some.influencePerNat
}

const places = (scores: readonly Score[], { id, country }: CapitalQuery): Readonly<Record<Measure, Place>> => {
  const own = scores.find(({ document }) => document === ownDocument(country))
  if (own === undefined) throw new Error(`no document "${ownDocument(country)}" was scored against ${id}`)
  const place = (measure: Measure): Place => {
    const rank = (among: readonly Score[]): number =>
      among.filter((other) =>
        other[measure] > own[measure] || (other[measure] === own[measure] && other.document < own.document)).length
    const capitals = scores.filter(({ document }) => /^factbook\/[^/]+\/capital$/.test(document))
    return { rank: rank(scores), documents: scores.length, rankOfCapitals: rank(capitals), capitals: capitals.length }
  }
  return { influence: place('influence'), influenceNormed: place('influenceNormed') }
}

/** The verdict as lines to read: a row for every capital, those whose document ranks low marked, then the tests. */
export const report = (verdict: Verdict): string => {
  const { rows, documents, capitals, summaries, pairs, failures } = verdict
  const low = (row: Row): boolean => MEASURES.some((measure) => row.ekfac[measure].rank >= documents / 10)
  const cell = (value: number | string, width: number): string => String(value).padStart(width)
  const table = [
    `rank of the country's own document, from 0, among ${documents}   (raw / normed)`,
    `${'query'.padEnd(44)}${cell('nats', 6)}${cell('EK-FAC', 14)}${cell('dot product', 14)}`,
    ...[...rows].sort((a, b) => a.ekfac.influenceNormed.rank - b.ekfac.influenceNormed.rank).map((row) => {
      const pair = (places: Row['ekfac']): string => `${places.influence.rank} / ${places.influenceNormed.rank}`
      return `${`${row.query.country}: ${row.query.answer}`.padEnd(44)}${cell(row.nats.toFixed(1), 6)}` +
        `${cell(pair(row.ekfac), 14)}${cell(pair(row.identity), 14)}${low(row) ? '   low' : ''}`
    }),
  ]
  const tests = MEASURES.flatMap((measure) => {
    const { ekfac, identity } = summaries[measure]
    const { higher, lower, byChance: byLuck } = pairs[measure]
    const line = (name: string, { median, byChance, medianOfCapitals, byChanceOfCapitals }: Summary): string =>
      `  ${name.padEnd(12)} median ${median} of ${documents} (by chance: p = ${byChance.toExponential(1)}), ` +
      `${medianOfCapitals} of the ${capitals} that state a capital (p = ${byChanceOfCapitals.toExponential(1)})`
    return [
      `${measure === 'influence' ? 'raw' : 'normed'}:`,
      line('EK-FAC', ekfac),
      line('dot product', identity),
      `  EK-FAC ranks the own document higher for ${higher} queries, lower for ${lower} (sign test: p = ${byLuck.toExponential(1)})`,
    ]
  })
  const lows = rows.filter(low).length
  const reading = lows === 0 ? [] : [`${lows} of ${rows.length} rank low (not among the first tenth).`]
  return [...table, '', ...tests, ...reading, ...(failures.length === 0 ? ['passed'] : failures.map((why) => `FAILED: ${why}`))].join('\n')
}
