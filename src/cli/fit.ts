/** @file `tributary fit --model DIR --factors NAME --documents N` */
import { Command } from 'commander'
import { commandFields, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { givenTo, outputFor, runLong } from './shell.js'
import { printWork } from './work.js'

export const fitCommand = (): Command =>
  addOptions(
    new Command('fit').description('fit the factors that influence needs, over a part of the documents'),
    commandFields.fit,
  )
    .addHelpText('after', `
The factors are kept under HOME/factors/NAME. A fit that was interrupted goes on when it is started again.
  ekfac     eigenbases of both covariances, with eigenvalues measured in them
  kfac      the same bases, with the products of their spectra as eigenvalues
  diagonal  squared gradients, weight by weight
  identity  no factors: influence is then the dot product of gradients`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('fit', givenTo(command))
      const { openLog } = await import('../pipeline/home.js')
      const { result, exitCode } = await runLong(settings, {
        pipeline: 'fit', run: settings.factors, open: () => openLog(settings),
        work: async (context) => (await import('../pipeline/fit.js')).fit(settings, context),
      })
      await printWork(outputFor(settings), settings, result, { what: `factors "${settings.factors}"`, again: 'tributary fit' })
      process.exitCode = exitCode
    })
