/** @file The tables of a run over all partitions, with what a reader wants to know of each document. */
import { keyOf, type Log, type TablesValue } from '../log/index.js'
import type { RunQuery, RunRecord } from '../settings/index.js'
import type { Row } from '../table/index.js'
import { mergedTables } from './merged-tables.js'
import { rowOf } from './partition-state.js'

export interface TopKRow {
  /** From 0, over all documents scored. */
  readonly rank: number
  readonly document: string
  readonly source: string
  /** Which piece of the document, from 0. */
  readonly piece: number
  /** Influence, raw or normed, whichever the table is by. */
  readonly score: number
  /** Score / information; null if the completion's information is not positive. */
  readonly scorePerNat: number | null
  readonly partition: number
  readonly offset: number
  /** Whether the score is of full-rank queries, and final: see rescore.ts. */
  readonly rescored: boolean
  /** Null if the log keeps it no longer, or it came as tokens. */
  readonly text: string | null
}

export interface TopKTable {
  readonly query: RunQuery
  readonly rows: readonly TopKRow[]
  /** Records scored by the run. */
  readonly scored: number
  /** Whether rows were scored again, but before more documents came: then they are shown as the pass left them. */
  readonly isRescoreStale: boolean
}

const kindOf = ({ bottom, normed }: { readonly bottom: boolean; readonly normed: boolean }): keyof Pick<
  TablesValue, 'top' | 'bottom' | 'topNormed' | 'bottomNormed'
> => (bottom ? (normed ? 'bottomNormed' : 'bottom') : normed ? 'topNormed' : 'top')

const placeOf = ({ partition, offset, piece }: Row): string => `${partition} ${offset} ${piece}`

/** value / information, or null where that is no number. */
export const perNat = (value: number, informationNats: number): number | null =>
  informationNats > 0 && Number.isFinite(value) ? value / informationNats : null

/**
 * One end of the tables of some queries, merged over partitions. Rows that were scored again come first, in the order
 * of their final scores; those behind them are as the pass over the corpus left them.
 * @param options.query  ids, in the order wanted; empty: all of the run
 * @param options.rows   how many of each table at most
 * @param options.texts  whether the documents are read for their text; without, it is null
 */
export const readTopK = async (
  log: Log,
  run: RunRecord,
  options: { readonly query: readonly string[]; readonly rows: number; readonly bottom: boolean; readonly normed: boolean; readonly texts?: boolean },
): Promise<readonly TopKTable[]> => {
  const byId = new Map(run.queries.map((query) => [query.id, query]))
  const queries = options.query.length === 0 ? run.queries : options.query.flatMap((id) => byId.get(id) ?? [])
  const tables: TopKTable[] = []
  const rescored = new Map(
    (await log.latest('rescored', keyOf(run.run, ''))).flatMap(({ key, value }) => (value === undefined ? [] : [[key, value] as const])),
  )
  for (const query of queries) {
    const { tables: merged, scored } = await mergedTables(log, run.run, query.id)
    const again = rescored.get(keyOf(run.run, query.id))
    const isRescoreStale = again !== undefined && again.scored !== scored
    const final = again === undefined || isRescoreStale ? [] : again[kindOf(options)].map(rowOf)
    const isFinal = new Set(final.map(placeOf))
    const ordered = [...final, ...merged[kindOf(options)].filter((row) => !isFinal.has(placeOf(row)))]
    const rows: TopKRow[] = []
    for (const [rank, row] of ordered.slice(0, options.rows).entries()) {
      const [record] = options.texts === false ? [] : await log.read('documents', row.partition, row.offset, { recordsMax: 1, bytesMax: 1 })
      rows.push({
        rank,
        document: row.document,
        source: row.source,
        piece: row.piece,
        score: row.score,
        scorePerNat: perNat(row.score, query.informationNats),
        partition: row.partition,
        offset: row.offset,
        rescored: isFinal.has(placeOf(row)),
        text: record?.offset === row.offset ? (record.value?.text ?? null) : null,
      })
    }
    tables.push({ query, rows, scored, isRescoreStale })
  }
  return tables
}
