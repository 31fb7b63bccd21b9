/** @file `tributary report --run NAME`: figures, tables and provenance of a run as one HTML file. */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { packageRoot } from '../base/index.js'
import type { Log } from '../log/index.js'
import type { RunAnalyses } from '../pipeline/analyse.js'
import type { Progress } from '../pipeline/context.js'
import type { TopKTable } from '../pipeline/top-k.js'
import type { QueryLists } from '../report/index.js'
import { commandFields, rankedOf, resolveSettings, type ReportSettings } from '../settings/index.js'
import { analysisOf } from './analyses.js'
import { addOptions } from './options.js'
import { givenTo, outputFor } from './shell.js'

export const reportCommand = (): Command =>
  addOptions(new Command('report').description('write the figures, tables and provenance of a run as one HTML file'), commandFields.report)
    .addHelpText('after', `
The file needs no network and no script, and prints well. While the run goes on it says what is in and what is not.
--data DIR: every figure as SVG, its data as CSV and Parquet.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('report', givenTo(command))
      const output = outputFor(settings)
      const { openLogForReading } = await import('../pipeline/home.js')
      const { checkTarget } = await import('../pipeline/outputs/files.js')
      await using log = await openLogForReading(settings)
      await checkTarget(settings.out, settings) // before a work of minutes, not after it
      const analysed = await analysisOf(log, settings, 'report')
      if (analysed === undefined) return
      const written = await writeReport(log, analysed, settings)
      if (settings.json) return output.json({ run: analysed.run.run, documents: analysed.analyses.documents, ranked: rankedOf(analysed.run), lag: analysed.lag, ...written, findings: analysed.analyses.findings })
      await output.write(`${written.out}: ${analysed.analyses.documents.toLocaleString('en-US')} ${rankedOf(analysed.run)}, ${analysed.run.queries.length} queries\n`)
      if (written.data !== null) await output.write(`${written.data}: ${written.files.length} files\n`)
      if (analysed.lag > 0) output.note(`the run goes on: ${analysed.lag.toLocaleString('en-US')} documents are not in yet`)
    })

/** Writes the report, and its data where a folder is given. @throws UserError for a place that is taken or cannot be written */
export const writeReport = async (
  log: Log, analysed: RunAnalyses, { out, data, rows, force }: Pick<ReportSettings, 'out' | 'data' | 'rows' | 'force'>,
): Promise<{ readonly out: string; readonly data: string | null; readonly files: readonly string[] }> => {
  const { readTopK } = await import('../pipeline/top-k.js')
  const { dataNames, reportPage, writeData } = await import('../report/index.js')
  const { checkTarget, writeFileWhole, writeFolderWhole } = await import('../pipeline/outputs/files.js')
  const files = data === null ? [] : dataNames(analysed)
  if (data !== null) await checkTarget(data, { force, folder: files }) // both or none
  const lists: QueryLists[] = []
  for (const kind of ['raw', 'normed'] as const) {
    const read = (bottom: boolean): Promise<readonly TopKTable[]> => readTopK(log, analysed.run, { query: [], rows, bottom, normed: kind === 'normed' })
    lists.push({ kind, top: await read(false), bottom: await read(true) })
  }
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }
  const page = reportPage({ analysed, lists, nowMs: Date.now(), version })
  await writeFileWhole(out, { force }, (path) => writeFile(path, page))
  if (data !== null) await writeFolderWhole(data, { force, names: files }, (folder) => writeData(folder, analysed))
  return { out, data, files }
}

/** The report of a run whose log is open already. @throws Interrupted when the signal is aborted; what was read is kept */
export const reportOf = async (
  log: Log, run: RunAnalyses['run'], { home, out, ...parts }: { readonly home: string; readonly out: string; readonly progress?: Progress; readonly signal?: AbortSignal },
): Promise<RunAnalyses> => {
  const { analyseRun } = await import('../pipeline/analyse.js')
  const analysed = await analyseRun(log, run, { home, spurious: 10, ...parts })
  await writeReport(log, analysed, { out, data: null, rows: 10, force: true })
  return analysed
}
