/**
 * @file Scores as Parquet: a row per (query, document), the columns of the JSON lines, row groups of bounded size.
 */
import type { SchemaElement } from 'hyparquet'
import { fileWriter, ParquetWriter } from 'hyparquet-writer'
import type { RunRecord } from '../../settings/index.js'
import type { ScoreRow } from './scores.js'

/** Rows of a row group: some ten MiB in memory. */
const GROUP_ROWS_MAX = 65_536

type Cell = (row: ScoreRow, query: string, q: number) => string | number | bigint

interface Column {
  readonly name: string
  readonly type: SchemaElement['type']
  readonly convertedType?: SchemaElement['converted_type']
  readonly cell: Cell
}

const utf8 = { type: 'BYTE_ARRAY', convertedType: 'UTF8' } as const

const columns: readonly Column[] = [
  { name: 'query', ...utf8, cell: (_row, query) => query },
  { name: 'document', ...utf8, cell: (row) => row.document },
  { name: 'source', ...utf8, cell: (row) => row.source },
  { name: 'influence', type: 'FLOAT', cell: (row, _query, q) => row.influence[q] },
  { name: 'influencePerNat', type: 'FLOAT', cell: (row, _query, q) => row.influencePerNat[q] },
  { name: 'influenceNormed', type: 'FLOAT', cell: (row, _query, q) => row.influenceNormed[q] },
  { name: 'piece', type: 'INT32', cell: (row) => row.piece },
  { name: 'pieces', type: 'INT32', cell: (row) => row.pieces },
  { name: 'tokens', type: 'INT32', cell: (row) => row.tokens },
  { name: 'tokensTotal', type: 'INT32', cell: (row) => row.tokensTotal },
  { name: 'loss', type: 'DOUBLE', cell: (row) => row.loss },
  { name: 'gradientNorm', type: 'DOUBLE', cell: (row) => row.gradientNorm },
  { name: 'partition', type: 'INT32', cell: (row) => row.partition },
  { name: 'offset', type: 'INT64', cell: (row) => BigInt(row.offset) },
]

const schema: SchemaElement[] = [
  { name: 'scores', num_children: columns.length },
  ...columns.map(({ name, type, convertedType }): SchemaElement => ({
    name,
    type,
    repetition_type: 'REQUIRED',
    ...(convertedType === undefined ? {} : { converted_type: convertedType }),
  })),
]

/**
 * Writes the file. The run's queries stand in its metadata, under the key `tributary.queries`, as JSON.
 * @param onRow  called with the number of documents done
 */
export const writeParquet = async (
  path: string,
  run: RunRecord,
  rows: AsyncIterable<ScoreRow>,
  onRow: (done: number) => void,
): Promise<void> => {
  const file = fileWriter(path)
  const writer = new ParquetWriter({
    writer: file,
    schema,
    createdBy: 'tributary',
    kvMetadata: [
      { key: 'tributary.run', value: run.run },
      { key: 'tributary.queries', value: JSON.stringify(run.queries) },
    ],
  })
  let cells = columns.map((): (string | number | bigint)[] => [])
  const flush = async (): Promise<void> => {
    if (cells[0].length === 0) return
    await writer.write({
      // Scores do not compress; trying costs more than writing them.
      columnData: columns.map(({ name, type }, at) => ({
        name,
        data: cells[at],
        codec: type === 'FLOAT' ? ('UNCOMPRESSED' as const) : ('SNAPPY' as const),
      })),
      rowGroupSize: GROUP_ROWS_MAX,
    })
    cells = columns.map(() => [])
  }
  let done = 0
  for await (const row of rows) {
    for (let q = 0; q < run.queries.length; q++) {
      const { id } = run.queries[q]
      for (let at = 0; at < columns.length; at++) cells[at].push(columns[at].cell(row, id, q))
      if (cells[0].length >= GROUP_ROWS_MAX) await flush()
    }
    onRow(++done)
  }
  await flush()
  await writer.finish()
}
