/** @file `tributary plan --model DIR`: what a fit and a scoring would take. */
import { Command } from 'commander'
import type { RunPlan } from '../pipeline/plan.js'
import { commandFields, formatBytes, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { tableOf } from './output.js'
import { givenTo, outputFor } from './shell.js'

const figure = (value: number): string => value.toLocaleString('en-US', { maximumSignificantDigits: 3 })
const hours = (value: number): string => (value < 1 / 60 ? `${figure(3600 * value)} s` : value < 1 ? `${figure(60 * value)} min` : value < 48 ? `${figure(value)} h` : `${figure(value / 24)} days`)

const textOf = ({ checkpoint, tracked, gemmRate, device, tokens, fit, joins, chosen, reason, logBytes }: RunPlan, { documents, queryCount }: { readonly documents: number; readonly queryCount: number }): string =>
  [
    `${checkpoint.folder}: ${checkpoint.architecture}, ${figure(checkpoint.parameters)} parameters, weights ${formatBytes(checkpoint.weightBytes)} in float32${checkpoint.stages === 1 ? '' : `, in ${checkpoint.stages} stages`}`,
    `tracked: ${tracked.layers} layers, ${figure(tracked.parameters)} parameters`,
    `products: ${figure(gemmRate / 1e9)} GFLOP/s (${device})`,
    '',
    `fit on ${figure(fit.documents)} documents: ${hours(fit.hours)}`,
    `  covariances ${figure(fit.covarianceTokensPerSecond)} tokens/s, eigendecompositions ${hours(fit.eigendecompositionSeconds / 3600)}, eigenvalues ${figure(fit.eigenvalueTokensPerSecond)} tokens/s`,
    `  sums ${formatBytes(fit.sumBytes)} in memory, factors ${formatBytes(fit.diskBytes)} on disk`,
    '',
    `score ${figure(documents)} documents (${figure(tokens)} tokens) against ${queryCount} queries`,
    tableOf(
      ['JOIN', 'MFLOP A TOKEN', 'TOKENS/S', 'TIME', 'QUERIES', 'MEMORY', 'PREPARING', ''],
      joins.map((each) => [
        each.join, figure(each.flopAToken / 1e6), figure(each.tokensPerSecond), hours(each.hours), formatBytes(each.queryBytes), formatBytes(each.bytes),
        hours((each.secondsAQuery * queryCount) / 3600), each.join === chosen ? 'chosen' : each.fits ? '' : 'does not fit',
      ]),
      { right: ['MFLOP A TOKEN', 'TOKENS/S', 'TIME', 'QUERIES', 'MEMORY', 'PREPARING'] },
    ).trimEnd(),
    chosen === null ? `nothing fits: ${reason}` : reason,
    `log: about ${formatBytes(logBytes)} of documents and scores, before compression`,
    '',
  ].join('\n')

export const planCommand = (): Command =>
  addOptions(new Command('plan').description('tell what a fit and a scoring would take: memory, disk, hours, and which join fits'), commandFields.plan)
    .addHelpText('after', `
Reads config.json and the checkpoint's headers, no weights. Memory and arithmetic follow from shapes; times are the
arithmetic over the rate of products, measured now or given, times the share of it that each kind of work reached on
SmolLM2-135M. PREPARING is for all queries, once: they are cached.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('plan', givenTo(command))
      const { planRun } = await import('../pipeline/plan.js')
      const plan = await planRun(settings)
      if (settings.json) await outputFor(settings).json(plan)
      else await outputFor(settings).write(textOf(plan, settings))
    })
