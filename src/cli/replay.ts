/** @file `tributary replay --run NEW --from OLD [--set NAME=VALUE...]` */
import { Command } from 'commander'
import { readRun } from '../pipeline/runs.js'
import { replaySettings, resolveGlobalSettings, UsageError } from '../settings/index.js'
import { givenTo, outputFor, runLong } from './shell.js'
import { printWork } from './work.js'

export const replayCommand = (): Command =>
  new Command('replay')
    .description('score the documents of a run again, as a new run, with some settings changed')
    .requiredOption('--run <NEW>', 'name of the new run (required)')
    .requiredOption('--from <OLD>', 'the run that it is like (required); it is left as it is')
    .option('--set <NAME=VALUE...>', 'settings that are to differ, as tributary score has them: damping=0.2x rank=64')
    .option('--from-offset <N>', 'only documents from this offset of their partition on')
    .option('--from-time <TIME>', 'only documents added at this time or later')
    .option('--partition <P...>', 'only documents of these partitions')
    .option('--source <NAME...>', 'only documents of these sources')
    .option('--follow', 'when caught up, wait for more documents')
    .option('--listen <HOST:PORT>', 'serve /metrics, /healthz and /readyz on this address; a port alone is one of 127.0.0.1')
    .option('--serve', 'serve the live page on the address of --listen while it runs')
    .option('--log-level <LEVEL>', 'log lines on standard error from this level on, as tributary score has them')
    .option('--log-format <FORMAT>', 'text or json')
    .addHelpText('after', `
The new run has OLD's checkpoints, factors, queries (as they are now) and settings, but for what --set changes, and OLD's
documents, or a slice of them. What a run is about is part of what identifies it: the same command goes on with it.
What was prepared of the queries is taken from the cache where it is the same.
  tributary replay --run more-damping --from first --set damping=0.5x
  tributary diff first more-damping`)
    .action(async (_options: unknown, command: Command) => {
      const given = givenTo(command)
      const { run, from, set = [], fromOffset, fromTime, partition, source, follow, ...rest } = given.flags as Record<string, unknown> & {
        readonly run: string, readonly from: string, readonly set?: readonly string[]
      }
      if (run === from) throw new UsageError(`--run ${run} is the run that is replayed`, { fix: 'give the new run another name' })
      const globals = resolveGlobalSettings(given)
      const { openLog, openLogForReading } = await import('../pipeline/home.js')
      const old = await (async () => {
        await using log = await openLogForReading(globals)
        return await readRun(log, from)
      })()
      const slice = { fromOffset, fromTime, onlyPartition: partition, onlySource: source, follow }
      const settings = replaySettings(old, { run, set, given: { flags: { ...rest, ...slice }, env: given.env } })
      const { result, exitCode } = await runLong(settings, {
        pipeline: 'score', run, open: () => openLog(settings),
        work: async (context) => (await import('../pipeline/score.js')).score(settings, context),
      })
      await printWork(outputFor(settings), settings, result, { what: `run "${run}"`, again: 'tributary replay', next: `tributary diff ${from} ${run}` })
      process.exitCode = exitCode
    })
