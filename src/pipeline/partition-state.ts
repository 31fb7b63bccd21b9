/** @file What a run keeps of one partition, its tables and moments, and how that lies in the log's compacted topics. */
import { documentId, UserError, type RunId } from '../base/index.js'
import { keyOf, type LogRecord, type NewRecord, type TableRowValue } from '../log/index.js'
import { RunningMoments, RunningTables, type Moments, type MomentsRow, type QueryTables, type Row, type Scored } from '../table/index.js'

export interface PartitionState {
  insert(batch: readonly Scored[]): void
  /** Records of the tables that changed since the last call, and of the moments if anything was inserted. */
  takeChanges(): readonly NewRecord[]
  /** Documents (pieces) counted. */
  readonly count: number
  /** Changes of rows in all tables since the start, those of restoring included. */
  readonly changes: number
  /** Moments of normed scores. A view. */
  readonly normed: Moments
}

export interface StateShape {
  readonly run: RunId
  readonly partition: number
  /** Ids of the run's queries, in its order. */
  readonly queries: readonly string[]
  readonly k: number
}

/** The state that the last commit left, or an empty one. @throws UserError if it is of another run's shape */
export const restoreState = ({ run, partition, queries, k }: StateShape, records: readonly LogRecord[]): PartitionState => {
  const tables = new RunningTables({ queries: queries.length, k })
  const at = new Map(queries.map((id, q) => [id, q]))
  const rows = new Map<number, MomentsRow>()
  for (const record of records) {
    if (record.topic !== 'tables' && record.topic !== 'moments') continue
    const { value } = record as LogRecord<'tables' | 'moments'>
    const q = value === undefined ? undefined : at.get(value.query)
    if (value === undefined || q === undefined) throw new UserError(`the state of run "${run}", partition ${partition}, holds "${record.key}", which is none of its queries'`, { fix: 'give another --run name' })
    if ('top' in value) tables.mergeRows(q, tablesOf(value))
    else rows.set(q, value)
  }
  if (rows.size !== 0 && rows.size !== queries.length) throw new UserError(`the state of run "${run}", partition ${partition}, has moments of ${rows.size} of its ${queries.length} queries`, { fix: 'give another --run name' })
  const moments = rows.size === 0 ? new RunningMoments(queries.length) : RunningMoments.deserialize(queries.map((_, q) => rows.get(q) ?? missing(q)))
  tables.takeChanged()
  let counted = moments.count
  return {
    get count() {
      return moments.count
    },
    get changes() {
      return tables.changes
    },
    normed: moments.normed,
    insert: (batch) => {
      tables.insert(batch)
      moments.insert(batch)
    },
    takeChanges: () => {
      const changed = tables.takeChanged().map((q): NewRecord<'tables'> => ({
        topic: 'tables', key: keyOf(run, queries[q], partition), value: { run, query: queries[q], partition, k, ...valuesOf(tables.tables(q)) },
      }))
      if (counted === moments.count) return changed
      counted = moments.count
      const sums = queries.map((query, q): NewRecord<'moments'> => ({
        topic: 'moments', key: keyOf(run, query, partition), value: { run, query, partition, ...moments.serializeRow(q) },
      }))
      return [...changed, ...sums]
    },
  }
}

const missing = (q: number): never => {
  throw new Error(`no moments of query ${q}`)
}

export const rowOf = (row: TableRowValue): Row => ({ ...row, document: documentId(row.document) })

type Ends<R> = Readonly<Record<keyof QueryTables, readonly R[]>>
export const tablesOf = ({ top, bottom, topNormed, bottomNormed }: Ends<TableRowValue>): QueryTables => ({
  top: top.map(rowOf), bottom: bottom.map(rowOf), topNormed: topNormed.map(rowOf), bottomNormed: bottomNormed.map(rowOf),
})
const valuesOf = ({ top, bottom, topNormed, bottomNormed }: QueryTables): Ends<TableRowValue> => ({ top, bottom, topNormed, bottomNormed })
