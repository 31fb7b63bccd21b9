/** @file `tributary topk --run NAME`: the tables of a run, with the documents' text. */
import { Command } from 'commander'
import { UserError } from '../base/index.js'
import { readRun } from '../pipeline/runs.js'
import type { TopKTable } from '../pipeline/top-k.js'
import { commandFields, rankedOf, resolveSettings, type RunRecord, type TopkSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { excerptOf, formatScore, tableOf } from './output.js'
import { givenTo, outputFor } from './shell.js'

/** Characters of a document's text that are shown. */
const EXCERPT_LENGTH = 90

const textOf = (run: RunRecord, { query, rows, scored, isRescoreStale }: TopKTable, { bottom, normed }: TopkSettings): string => {
  const which = `${bottom ? 'bottom' : 'top'} by ${normed ? 'normed' : 'raw'} influence`
  const asks = `${excerptOf(query.prompt, 80)} → ${excerptOf(query.completion, 40)}`
  const final = rows.filter(({ rescored }) => rescored).length
  const remark = isRescoreStale
    ? '; more documents came after rows were scored again: run the same tributary score once more'
    : final > 0 ? `; the first ${final} with full-rank queries` : ''
  const head = `${query.id}  ${asks}\n${which}, of ${scored.toLocaleString('en-US')}${rankedOf(run) === 'pieces' ? ' pieces' : ''} scored${remark}\n`
  if (rows.length === 0) return `${head}  no documents scored yet\n`
  const hasPieces = rows.some(({ piece }) => piece > 0)
  return head + tableOf(
    ['RANK', 'SCORE', 'PER NAT', 'SOURCE', 'DOCUMENT', ...(hasPieces ? ['PIECE'] : []), 'EXCERPT'],
    rows.map((row) => [
      row.rank, formatScore(row.score), row.scorePerNat === null ? '' : formatScore(row.scorePerNat), excerptOf(row.source, 24),
      excerptOf(row.document, 32), ...(hasPieces ? [row.piece] : []), excerptOf(row.text ?? '(no longer kept)', EXCERPT_LENGTH),
    ]),
    { right: ['RANK', 'SCORE', 'PER NAT', 'PIECE'] },
  )
}

export const topkCommand = (): Command =>
  addOptions(new Command('topk').description('print the tables of a run: the documents that made a completion likelier'), commandFields.topk)
    .addHelpText('after', `
Ranks count from 0 over all documents scored, over all pieces with --long split. Positive: training on the document more would make the completion more
likely. Per nat: divided by the completion's information, so that queries compare. --normed: tables by influence
divided by the norm of the document's gradient, so that long documents do not crowd them.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('topk', givenTo(command))
      const output = outputFor(settings)
      const { openLogForReading } = await import('../pipeline/home.js')
      const { readTopK } = await import('../pipeline/top-k.js')
      await using log = await openLogForReading(settings)
      const run = await readRun(log, settings.run)
      for (const id of settings.query)
        if (!run.queries.some((query) => query.id === id))
          throw new UserError(`run "${run.run}" has no query "${id}"`, {
            fix: `its queries: ${run.queries.slice(0, 10).map((query) => query.id).join(', ')}${run.queries.length > 10 ? ', ...' : ''}`,
          })
      const tables = await readTopK(log, run, settings)
      if (settings.json)
        return output.json({
          run: run.run,
          end: settings.bottom ? 'bottom' : 'top',
          by: settings.normed ? 'normed' : 'raw',
          ranked: rankedOf(run),
          tables: tables.map(({ query, rows, scored, isRescoreStale }) => ({
            query: query.id, group: query.group, prompt: query.prompt, completion: query.completion,
            informationNats: query.informationNats, scored, isRescoreStale,
            rows: rows.map(({ text, ...row }) => ({ ...row, excerpt: text === null ? null : excerptOf(text, 4 * EXCERPT_LENGTH) })),
          })),
        })
      await output.write(tables.map((table) => textOf(run, table, settings)).join('\n'))
      const shown = Math.max(0, ...tables.map(({ rows }) => rows.length))
      if (shown < settings.rows && tables.some(({ scored }) => scored > shown))
        output.note(`the tables of this run keep ${shown} rows: score with a larger -k under another --run name for more`)
    })
