/** @file `tributary sum RUN=WEIGHT... --run NAME` */
import { Command } from 'commander'
import { commandFields, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { givenTo, outputFor, runLong } from './shell.js'
import { printWork } from './work.js'

export const sumCommand = (): Command =>
  addOptions(new Command('sum').description('add up the scores of several runs, weighted, as a run of its own'), commandFields.sum)
    .addHelpText('after', `
The runs must have the same queries and documents: one for each checkpoint of a training, say (TracIn: with the learning
rate as the weight). RUN alone has the weight 1. It goes as far as all of the runs have come; the same command goes on.`)
    .action(async (of: readonly string[], _options: unknown, command: Command) => {
      const settings = resolveSettings('sum', givenTo(command, { of }))
      const { openLog } = await import('../pipeline/home.js')
      const { result, exitCode } = await runLong(settings, {
        pipeline: 'sum', run: settings.run, open: () => openLog(settings),
        work: async (context) => (await import('../pipeline/sum.js')).sum(settings, context),
      })
      await printWork(outputFor(settings), settings, result, {
        what: `run "${settings.run}"`, again: 'tributary sum', next: `tributary topk --run ${settings.run}`,
      })
      process.exitCode = exitCode
    })
