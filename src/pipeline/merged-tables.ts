/** @file A run's tables over all partitions: each keeps its own, and tables merge in any order. */
import { keyOf, type Log } from '../log/index.js'
import { RunningTables, type QueryTables } from '../table/index.js'
import { tablesOf } from './partition-state.js'

export interface MergedTables {
  readonly tables: QueryTables
  /** Documents (pieces) that are counted in. */
  readonly scored: number
  /** Rows that a table has at most. */
  readonly k: number
}

/** One query's tables. */
export const mergedTables = async (log: Log, run: string, query: string): Promise<MergedTables> => {
  const values = (await log.latest('tables', keyOf(run, query, ''))).flatMap(({ value }) => (value === undefined ? [] : [value]))
  const k = Math.max(1, ...values.map((value) => value.k))
  const merged = new RunningTables({ queries: 1, k })
  for (const value of values) merged.mergeRows(0, tablesOf(value))
  return { tables: merged.tables(0), scored: await scoredAgainst(log, run, query), k }
}

/** Documents (pieces) that a run has scored against a query: against each the same. */
export const scoredAgainst = async (log: Log, run: string, query: string): Promise<number> =>
  (await log.latest('moments', keyOf(run, query, ''))).reduce((sum, { value }) => sum + (value?.count ?? 0), 0)
