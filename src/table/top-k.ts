/**
 * @file One top-k table, plain and pure: the oracle of running-tables.ts, which is the fast one.
 *
 * The order is total: the better score first, then (document, source, piece) by code unit, then (partition, offset).
 * A (document, source, piece) that comes twice counts once, as the better of its rows. So a table is a function of
 * the set of rows it was given: fewer than k others beat a row of the final table in any part of the input, hence no
 * part drops it.
 */
import type { Row } from './types.js'

/** Which end of the scores a table holds: `top` the greatest, `bottom` the least. */
export type End = 'top' | 'bottom'

export interface TopK {
  readonly end: End
  readonly k: number
  /** At most k, best first. */
  readonly rows: readonly Row[]
}

/** What names a row, and where it stands in its topic. */
export type RowName = Omit<Row, 'score'>

const compare = <T extends string | number>(a: T, b: T): number => (a < b ? -1 : a > b ? 1 : 0)

/** By (document, source, piece): strings by UTF-16 code unit, never by locale. */
export const compareNames = (a: RowName, b: RowName): number =>
  compare(a.document, b.document) || compare(a.source, b.source) || a.piece - b.piece

/** By (partition, offset). */
export const comparePlaces = (a: RowName, b: RowName): number => a.partition - b.partition || a.offset - b.offset

/** Negative where `a` stands before `b`. */
export const compareRows =
  (end: End) =>
  (a: Row, b: Row): number =>
    (end === 'top' ? compare(b.score, a.score) : compare(a.score, b.score)) || compareNames(a, b) || comparePlaces(a, b)

/** The zero of `merge`. */
export const empty = (end: End, k: number): TopK => ({ end, k: checkK(k), rows: [] })

/** The table after one more row. RangeError if its score is NaN. -0 is kept as 0. */
export const insert = (table: TopK, row: Row): TopK => {
  if (Number.isNaN(row.score)) throw new RangeError(`the score of document "${row.document}" is NaN`)
  return select(table, [...table.rows, { ...row, score: row.score + 0 }])
}

/** The table of both inputs together. Associative, commutative, idempotent. */
export const merge = (a: TopK, b: TopK): TopK => {
  if (a.end !== b.end || a.k !== b.k) throw new Error(`a ${a.end}-${a.k} table cannot be merged with a ${b.end}-${b.k}`)
  return select(a, [...a.rows, ...b.rows])
}

/** k must be a positive integer. */
export const checkK = (k: number): number => {
  if (!Number.isSafeInteger(k) || k < 1) throw new RangeError(`k is ${k}; a table holds at least one row`)
  return k
}

/** The k best of some rows, each name once. */
const select = ({ end, k }: TopK, rows: readonly Row[]): TopK => {
  const kept: Row[] = []
  for (const row of [...rows].sort(compareRows(end))) {
    if (kept.length === k) break
    if (!kept.some((other) => compareNames(other, row) === 0)) kept.push(row)
  }
  return { end, k, rows: kept }
}
