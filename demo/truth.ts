/**
 * @file The planted truth: which documents teach what a query needs, and how much of that a table found. A document of
 * the log carries what it teaches in the other fields of its line (`DocumentValue.extra`).
 */
import type { DemoDocument } from './corpus.js'
import type { DemoQuery } from './queries.js'

/** Whether the document teaches a fact or a procedure that the query needs. Never for a control. */
export const teaches = (query: Pick<DemoQuery, 'teaches'>, document: Pick<DemoDocument, 'teaches'>): boolean =>
  query.teaches.some((need) => document.teaches.includes(need))

/** What a document of the topic `documents` teaches, from its `extra` field; nothing if it says nothing. */
export const teachesOf = (extra: string | null): readonly string[] => {
  if (extra === null) return []
  const fields: unknown = JSON.parse(extra)
  if (typeof fields !== 'object' || fields === null || !('teaches' in fields)) return []
  const { teaches: taught } = fields
  return Array.isArray(taught) ? taught.filter((need): need is string => typeof need === 'string') : []
}

/** What each document teaches, by id: enough of a corpus to judge tables by. */
export type Teachings = ReadonlyMap<string, readonly string[]>

export const teachingsOf = (documents: Iterable<DemoDocument>): Teachings =>
  new Map(Array.from(documents, ({ id, teaches: taught }) => [id, taught]))

export interface Found {
  /** Documents of the corpus that teach what the query needs. */
  readonly planted: number
  /** How many of these stand among the first `k` of the ranking. */
  readonly found: number
  /** The most that could: the smaller of `planted` and `k`. */
  readonly foundMax: number
  /** How many of `found` one would expect of a ranking by chance: k · planted / documents. */
  readonly foundByChance: number
  /** The best rank of a planted document, from 0, over the whole ranking given; null if none is in it. */
  readonly firstRank: number | null
}

/** Holds a ranking (document ids, best first) against the truth. A query that needs nothing has planted 0. */
export const found = (
  query: Pick<DemoQuery, 'teaches'>,
  { ranking, k, teachings }: { ranking: readonly string[]; k: number; teachings: Teachings },
): Found => {
  const isPlanted = (id: string): boolean => teaches(query, { teaches: teachings.get(id) ?? [] })
  const planted = [...teachings.keys()].filter(isPlanted).length
  const first = ranking.findIndex(isPlanted)
  return {
    planted,
    found: ranking.slice(0, k).filter(isPlanted).length,
    foundMax: Math.min(planted, k),
    foundByChance: teachings.size === 0 ? 0 : (k * planted) / teachings.size,
    firstRank: first < 0 ? null : first,
  }
}
