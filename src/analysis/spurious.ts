/**
 * @file Pairs of a query and a document whose influence hangs on one token (docs/method.md §6, Grosse et al. 2023 §5.3):
 * ‖a‖₂ / ‖a‖₁ > 2/3 for the influence a of the document's tokens. The topics hold no token-wise influence, so it is
 * computed for the first rows of the tables (pipeline/concentrations.ts); here it is held against the tables.
 */
import { concentrationMax } from './checks.js'
import type { AnalysisState } from './state.js'
import { quantile } from './statistics.js'
import { groupedBy, type Place, type ScoreKind } from './types.js'

/** A pair whose tokens were looked at. Its concentration is the same by raw and by normed influence. */
export interface JudgedPair {
  /** Id of the query. */
  readonly query: string
  readonly place: Place
  readonly piece: number
  readonly document: string
  readonly source: string
  /** Tokens of the piece. */
  readonly tokens: number
  /** ‖a‖₂ / ‖a‖₁, from 1/√tokens to 1; null where no token has any influence. */
  readonly concentration: number | null
  /** The token of the greatest term, its place among the tokens, and its |a| over ‖a‖₁. */
  readonly token: string
  readonly tokenAt: number
  readonly tokenShare: number
}

/** A pair in a table. */
export interface JudgedRow extends JudgedPair {
  readonly rank: number
  readonly score: number
}

export interface Spurious {
  readonly kind: ScoreKind
  /** Rows of every query's table that were looked at without a gap, from the first; the least over the queries. */
  readonly rows: number
  readonly judged: number
  readonly groups: readonly {
    readonly group: string
    readonly judged: number
    readonly flagged: number
    /** Median of ‖a‖₂ / ‖a‖₁. */
    readonly median: number
    /** Queries whose first document is flagged. */
    readonly firstFlagged: number
    readonly queries: number
  }[]
  readonly queries: readonly {
    readonly query: string
    readonly group: string
    readonly judged: number
    readonly flagged: number
    /** The rank of the first document that is looked at and not flagged; null: there is none. */
    readonly firstSound: number | null
  }[]
  /** By query, then by rank. */
  readonly flagged: readonly JudgedRow[]
}

/** Rows of a table that are looked through for judged pairs. */
export const spuriousRowsMax = 1000

/** Names a pair. */
export const pairKey = ({ query, place, piece }: Pick<JudgedPair, 'query' | 'place' | 'piece'>): string => `${place}/${piece}/${query}`

export const isFlagged = ({ concentration }: Pick<JudgedPair, 'concentration'>): boolean => concentration !== null && concentration > concentrationMax

/** The first rows of every query's tables, raw and normed: the pairs to be judged, each once, by query. */
export const pairsToJudge = (state: AnalysisState, rows: number): Pick<JudgedPair, 'query' | 'place' | 'piece'>[] =>
  state.queries.flatMap(({ id }, q) => {
    const pairs = new Map<string, Pick<JudgedPair, 'query' | 'place' | 'piece'>>()
    for (const kind of ['raw', 'normed'] as const) {
      const { places, pieces, size } = state.rows(q, kind, 'top')
      for (let rank = 0; rank < Math.min(rows, size); rank++) {
        const pair = { query: id, place: places[rank], piece: pieces[rank] }
        pairs.set(pairKey(pair), pair)
      }
    }
    return [...pairs.values()]
  })

/** @param judged by `pairKey`; more of them, or fewer, than stand in the tables */
export const spurious = (state: AnalysisState, kind: ScoreKind, judged: ReadonlyMap<string, JudgedPair>): Spurious => {
  const found = state.queries.map(({ id, group }, q) => {
    const { places, pieces, scores, size } = state.rows(q, kind, 'top')
    const rows: JudgedRow[] = []
    let whole = 0
    for (let rank = 0; rank < Math.min(spuriousRowsMax, size); rank++) {
      const pair = judged.get(pairKey({ query: id, place: places[rank], piece: pieces[rank] }))
      if (pair !== undefined) rows.push({ ...pair, rank, score: scores[rank] })
      if (rows.length === rank + 1) whole = rows.length
    }
    return { query: id, group, rows, whole, flagged: rows.filter(isFlagged) }
  })
  return {
    kind,
    rows: found.length === 0 ? 0 : Math.min(...found.map(({ whole }) => whole)),
    judged: found.reduce((sum, { rows }) => sum + rows.length, 0),
    groups: [...groupedBy(found, ({ group }) => group)].map(([group, own]) => ({
      group, queries: own.length, judged: own.reduce((sum, { rows }) => sum + rows.length, 0), flagged: own.reduce((sum, { flagged }) => sum + flagged.length, 0),
      median: quantile(own.flatMap(({ rows }) => rows.flatMap(({ concentration }) => concentration ?? [])), 0.5),
      firstFlagged: own.filter(({ flagged }) => flagged[0]?.rank === 0).length,
    })),
    queries: found.map(({ query, group, rows, flagged }) => ({
      query, group, judged: rows.length, flagged: flagged.length, firstSound: rows.find((row) => !isFlagged(row))?.rank ?? null,
    })),
    flagged: found.flatMap(({ flagged }) => flagged),
  }
}
