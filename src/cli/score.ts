/** @file `tributary score --run NAME --model DIR --factors NAME` */
import { Command } from 'commander'
import { commandFields, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { givenTo, outputFor, runLong } from './shell.js'
import { printWork } from './work.js'

export const scoreCommand = (): Command =>
  addOptions(
    new Command('score').description("score every document against the queries and keep each query's top and bottom"),
    commandFields.score,
  )
    .addHelpText('after', `
Ends when it has caught up with the documents, unless --follow. Ctrl-C finishes the batch in hand, commits, and says
where it stopped; the same command goes on from there. A run keeps the settings and queries it began with; for
others, give another --run name.
  dense     exact: every document's gradient against every query's, where the queries fit into memory
  low-rank  queries of rank R: for few queries, or big models
  shared    all queries in one pair of bases of width K: for many queries
  auto      the cheapest of these that fits --memory; says which and why`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('score', givenTo(command))
      const { openLog } = await import('../pipeline/home.js')
      const { result, exitCode } = await runLong(settings, {
        pipeline: 'score', run: settings.run, open: () => openLog(settings),
        work: async (context) =>
          settings.checkpoints.length === 0
            ? (await import('../pipeline/score.js')).score(settings, context)
            : (await import('../pipeline/score-checkpoints.js')).scoreCheckpoints(settings, context),
      })
      await printWork(outputFor(settings), settings, result, {
        what: `run "${settings.run}"`, again: 'tributary score', next: `tributary topk --run ${settings.run}`,
      })
      process.exitCode = exitCode
    })
