/** @file The figures and their data as files: SVG, CSV (RFC 4180) and Parquet. Each table is there in both forms. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileWriter, ParquetWriter } from 'hyparquet-writer'
import type { RunAnalyses } from '../pipeline/analyse.js'
import { standalone } from './charts.js'
import { allFigures, type DataTable } from './figures.js'
import type { Cell } from './format.js'
import { chartsOf } from './page.js'

/** RFC 4180. A text that a spreadsheet would take for a formula gets an apostrophe before it. */
export const csvOf = ({ columns, rows }: Pick<DataTable, 'columns' | 'rows'>): string => {
  const field = (cell: Cell): string => {
    if (cell === null || (typeof cell === 'number' && !Number.isFinite(cell))) return ''
    if (typeof cell === 'number') return String(cell)
    const safe = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
  }
  return [columns.map(({ name }) => field(name)), ...rows.map((row) => row.map(field))].map((fields) => `${fields.join(',')}\r\n`).join('')
}

/** A column of numbers has no text in it; ranks such as "not in 500" make theirs one of text. */
const writeTable = async (path: string, { columns, rows }: DataTable): Promise<void> => {
  const isText = columns.map((_, at) => rows.some((row) => typeof row[at] === 'string'))
  const writer = new ParquetWriter({
    writer: fileWriter(path),
    schema: [
      { name: 'table', num_children: columns.length },
      ...columns.map(({ name }, at) => ({
        name, repetition_type: 'OPTIONAL' as const,
        ...(isText[at] ? { type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const } : { type: 'DOUBLE' as const }),
      })),
    ],
    createdBy: 'tributary',
  })
  await writer.write({
    columnData: columns.map(({ name }, at) => ({
      name, data: rows.map((row) => {
        const cell = row[at]
        return cell === null || (typeof cell === 'number' && Number.isNaN(cell)) ? null : isText[at] ? String(cell) : cell
      }),
    })),
  })
  await writer.finish()
}

/** The names of all files that `writeData` makes. */
export const dataNames = (analysed: RunAnalyses): string[] =>
  allFigures(analysed.analyses).flatMap((figure) => [
    ...chartsOf(analysed, figure).map(({ id }) => `${id}.svg`),
    ...figure.tables.flatMap(({ id }) => [`${id}.csv`, `${id}.parquet`]),
  ])

/** Writes every figure and table of a run into a folder that is there. */
export const writeData = async (folder: string, analysed: RunAnalyses): Promise<void> => {
  for (const figure of allFigures(analysed.analyses)) {
    for (const chart of chartsOf(analysed, figure)) await writeFile(join(folder, `${chart.id}.svg`), standalone(chart))
    for (const table of figure.tables) {
      await writeFile(join(folder, `${table.id}.csv`), csvOf(table))
      await writeTable(join(folder, `${table.id}.parquet`), table)
    }
  }
}
