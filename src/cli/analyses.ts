/** @file `tributary analyses --run NAME [WHICH...]`: the papers' figures of a run, on the terminal. */
import { Command } from 'commander'
import type { Finding } from '../analysis/index.js'
import type { Log } from '../log/index.js'
import type { RunAnalyses } from '../pipeline/analyse.js'
import { readRun } from '../pipeline/runs.js'
import { formatCell } from '../report/format.js'
import type { DataTable, Figure } from '../report/figures.js'
import { commandFields, rankedOf, resolveSettings, type AnalysisSettings, type FigureName } from '../settings/index.js'
import { addOptions } from './options.js'
import { tableOf, visible } from './output.js'
import { givenTo, outputFor, progressFor, untilInterrupted, whileWatched } from './shell.js'

/** Documents of every query that are looked at when spurious ones are asked for by name. */
const spuriousRows = 10
/** Rows of a long table that are printed; --json has all. */
const longRows = 12

export const analysesCommand = (): Command =>
  addOptions(new Command('analyses').description("print the papers' figures of a run: correlations, magnitudes, answers, sources, ..."), commandFields.analyses)
    .addHelpText('after', `
Reads the scores of a run once and keeps what it needs in the home, so that the next call reads only what is new; works
while the run goes on. Every figure comes by raw influence and by influence over the norm of the document's gradient,
with the words that explain it and what Ruis et al. 2024 found beside. docs/analyses.md has the formulas.`)
    .action(async (which: string[], _options: unknown, command: Command) => {
      const settings = resolveSettings('analyses', givenTo(command, { which }))
      const output = outputFor(settings)
      const { openLogForReading } = await import('../pipeline/home.js')
      await using log = await openLogForReading(settings)
      // Who asks for them by name wants them computed.
      const analysed = await analysisOf(log, settings.spurious === 0 && settings.which.includes('spurious') ? { ...settings, spurious: spuriousRows } : settings, 'analyses')
      if (analysed === undefined) return
      const { allFigures } = await import('../report/figures.js')
      const isAsked = (name: FigureName): boolean => settings.which.length === 0 || settings.which.includes(name)
      const figures = allFigures(analysed.analyses).filter(({ name }) => isAsked(name))
      const findings = isAsked('findings') ? analysed.analyses.findings : []
      if (settings.json)
        return output.json({ run: analysed.run.run, documents: analysed.analyses.documents, ranked: rankedOf(analysed.run), lag: analysed.lag, offsets: analysed.offsets, findings, figures: figures.map(jsonOf) })
      const { documents } = analysed.analyses
      await output.write(
        `run ${analysed.run.run}: ${documents.toLocaleString('en-US')} ${rankedOf(analysed.run)} scored${analysed.lag > 0 ? `, ${analysed.lag.toLocaleString('en-US')} documents not yet: figures move until the run has caught up` : ''}\n\n`,
      )
      for (const part of [...figures.map(figureText), ...(findings.length > 0 ? [findingsText(findings)] : [])]) await output.write(`${part}\n`)
    })

/**
 * The analyses of a run with progress and an orderly end; undefined if it was interrupted.
 * @param pipeline what the work is called in logs and metrics
 */
export const analysisOf = async (log: Log, settings: AnalysisSettings, pipeline: 'analyses' | 'report'): Promise<RunAnalyses | undefined> => {
  const { analyseRun } = await import('../pipeline/analyse.js')
  const { watching } = await import('./watching.js')
  const run = await readRun(log, settings.run)
  const { home, depth, labelField, selfCheck, spurious, threads } = settings
  await using watch = await watching(settings, { pipeline, run: run.run }, progressFor(settings))
  const { observer } = watch
  return await whileWatched(watch, log, () => untilInterrupted(settings, async (parts) => {
    if (selfCheck) observer.quiet('prepare')
    const ownScores = selfCheck ? await (await import('../pipeline/own-texts.js')).scoreOwnTexts(run, { home, threads, ...parts }) : undefined
    return await analyseRun(log, run, { home, depth, labelField, ownScores, spurious, threads, observer, ...parts })
  }, watch.progress))
}

const jsonOf = ({ name, kind, text, remarks, tables }: Figure): unknown => ({
  name, by: kind, ...text, remarks,
  tables: tables.map(({ id, title, columns, rows }) => ({ id, title, rows: rows.map((row) => Object.fromEntries(columns.map((column, at) => [column.name, row[at]]))) })),
})

const wrapped = (text: string, indent = ''): string => {
  const lines: string[] = []
  let line = ''
  for (const word of visible(text).split(' ')) {
    if (line !== '' && indent.length + line.length + word.length >= 100) {
      lines.push(indent + line)
      line = ''
    }
    line += line === '' ? word : ` ${word}`
  }
  return [...lines, indent + line].join('\n')
}

const figureText = ({ name, kind, text, remarks, tables }: Figure): string => {
  const head = `${text.title} (${name}, by ${kind} influence)`
  return [
    head, '='.repeat(head.length), wrapped(text.shows), wrapped(`How to read it: ${text.reading}`), '',
    ...remarks.map((remark) => wrapped(remark)), '', ...tables.map(tableText),
    ...text.paper.map((line) => wrapped(`paper: ${line}`, '  ')), ...(text.paper.length > 0 ? [''] : []),
  ].join('\n')
}

const tableText = ({ title, columns, rows, isLong }: DataTable): string => {
  const shown = isLong ? rows.slice(0, longRows) : rows
  const body = tableOf(columns.map(({ name }) => name.toUpperCase()), shown.map((row) => row.map((cell, at) => formatCell(cell, columns[at].format))), {
    right: columns.filter(({ format }) => format !== 'text').map(({ name }) => name.toUpperCase()),
  })
  return `${title}\n${body}${shown.length < rows.length ? `... ${rows.length - shown.length} more rows: --json, or tributary report --data DIR\n` : ''}`
}

const findingsText = (findings: readonly Finding[]): string => {
  const head = 'What the paper found, and what this run shows'
  const parts = findings.map(({ number, kind, hypothesis, verdict, rule, numbers, paper }) => [
    wrapped(`${number}. ${hypothesis}`), `   by ${kind} influence: ${verdict.toUpperCase()}`, ...numbers.map((line) => wrapped(line, '   ')),
    wrapped(`rule: ${rule}`, '   '), ...(kind === 'normed' ? paper.map((line) => wrapped(`paper: ${line}`, '   ')) : []), '',
  ].join('\n'))
  return [head, '='.repeat(head.length), ...parts].join('\n')
}
