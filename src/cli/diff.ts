/** @file `tributary diff RUN_A RUN_B` */
import { Command } from 'commander'
import type { QueryDiff, RunDiff } from '../pipeline/diff.js'
import { readRun } from '../pipeline/runs.js'
import { resolveGlobalSettings, UsageError } from '../settings/index.js'
import { excerptOf, formatScore, tableOf } from './output.js'
import { givenTo, outputFor } from './shell.js'

const correlation = (value: number | null): string => (value === null ? '' : value.toFixed(4))
const percent = (share: number): string => `${Math.round(100 * share)}%`
const shown = (value: unknown): string => excerptOf(value === null ? 'none' : typeof value === 'string' ? value : JSON.stringify(value), 40)

const moversText = ({ query, movers }: QueryDiff, [a, b]: RunDiff['runs']): string =>
  `${query}: moved most\n` + tableOf(
    ['RANK', '', `SCORE (${a})`, `SCORE (${b})`, 'SOURCE', 'DOCUMENT'],
    movers.map(({ ranks, scores, source, document }) => [ranks[0], `→ ${ranks[1]}`, formatScore(scores[0]), formatScore(scores[1]), excerptOf(source, 24), excerptOf(document, 40)]),
    { right: ['RANK', `SCORE (${a})`, `SCORE (${b})`] },
  )

const textOf = (diff: RunDiff, which: string): string => {
  const { runs, scored, ranked, settings, queries, notCompared } = diff
  const depths = [...new Set(queries.flatMap(({ overlap }) => overlap.map(({ k }) => k)))].sort((a, b) => a - b).slice(0, 8)
  const counted = (at: 0 | 1): string => `${scored[at].toLocaleString('en-US')}${ranked[at] === 'pieces' ? ' pieces' : ''} scored`
  const parts = [
    `${runs[0]} (${counted(0)}) and ${runs[1]} (${counted(1)}), ${which}\n`,
    settings.length === 0 ? 'told the same\n' : tableOf(['SETTING', ...runs], settings.map(({ name, values }) => [name, shown(values[0]), shown(values[1])])),
    tableOf(
      ['QUERY', ...depths.map((k) => `SAME OF ${k}`), 'SPEARMAN', 'KENDALL', 'RANKED', 'ONLY IN ONE'],
      queries.map(({ query, overlap, spearman, kendall, compared, onlyInOne }) => [
        excerptOf(query, 40), ...depths.map((depth) => overlap.filter(({ k }) => k === depth).map(({ share }) => percent(share))[0] ?? ''),
        correlation(spearman), correlation(kendall), compared, onlyInOne,
      ]),
      { right: [...depths.map((k) => `SAME OF ${k}`), 'SPEARMAN', 'KENDALL', 'RANKED', 'ONLY IN ONE'] },
    ),
    ...queries.filter(({ movers }) => movers.length > 0).map((query) => moversText(query, runs)),
    ...(notCompared.length === 0 ? [] : [`in one of them only: ${notCompared.slice(0, 10).join(', ')}${notCompared.length > 10 ? ', ...' : ''}\n`]),
  ]
  return parts.join('\n')
}

export const diffCommand = (): Command =>
  new Command('diff')
    .description('compare the tables of two runs: overlap, rank correlation, the documents that moved most')
    .argument('<RUN_A>', 'name of a run')
    .argument('<RUN_B>', 'name of another')
    .option('--normed', 'tables by influence over the norm of the document\'s gradient')
    .option('--bottom', 'the most negative documents in place of the most positive')
    .option('--movers <N>', 'documents listed for each query (default: 5)')
    .addHelpText('after', `
SAME OF k: the share of the first k rows that both tables have. Spearman's and Kendall's correlations are over the
documents that stand in either table and were scored by both runs (RANKED); ranks count from 0 among these.`)
    .action(async (a: string, b: string, _options: unknown, command: Command) => {
      const given = givenTo(command)
      const { normed = false, bottom = false, movers = '5' } = given.flags as { readonly normed?: boolean, readonly bottom?: boolean, readonly movers?: string }
      if (!/^\d{1,6}$/.test(movers)) throw new UsageError(`--movers ${movers} is not allowed`, { fix: 'a whole number' })
      const settings = resolveGlobalSettings(given)
      const { openLogForReading } = await import('../pipeline/home.js')
      const { diffRuns } = await import('../pipeline/diff.js')
      await using log = await openLogForReading(settings)
      const diff = await diffRuns([log, log], [await readRun(log, a), await readRun(log, b)], { normed, bottom, movers: Number(movers) })
      const output = outputFor(settings)
      if (settings.json) await output.json(diff)
      else await output.write(textOf(diff, `${bottom ? 'bottom' : 'top'} by ${normed ? 'normed' : 'raw'} influence`))
    })
