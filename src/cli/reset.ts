/** @file `tributary reset --run NAME --yes` */
import { Command } from 'commander'
import { runId } from '../base/index.js'
import { readRun } from '../pipeline/runs.js'
import { resolveGlobalSettings, UsageError } from '../settings/index.js'
import { givenTo, outputFor } from './shell.js'

export const resetCommand = (): Command =>
  new Command('reset')
    .description('end a run and forget what it computed, so that one of its name may begin anew')
    .requiredOption('--run <NAME>', 'name of the run (required)')
    .option('--yes', 'do it')
    .addHelpText('after', `
Its tables, moments, positions and record are removed, its scores and dead letters are not read any more. Documents,
queries, factors and cached queries stay. Refused while a worker of the run is at work.`)
    .action(async (_options: unknown, command: Command) => {
      const given = givenTo(command)
      const { run, yes } = given.flags as { readonly run: string, readonly yes?: boolean }
      const settings = resolveGlobalSettings(given)
      const { openLog } = await import('../pipeline/home.js')
      await using log = await openLog(settings)
      await readRun(log, run)
      if (yes !== true) throw new UsageError(`this removes what run "${run}" computed`, { fix: `tributary reset --run ${run} --yes` })
      await log.forget(runId(run))
      if (settings.json) return outputFor(settings).json({ reset: run })
      await outputFor(settings).write(`run "${run}" is reset\n`)
    })
