/** @file `tributary ingest PATH...` */
import { Command } from 'commander'
import { UserError } from '../base/index.js'
import { commandFields, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { formatSeconds } from './progress.js'
import { givenTo, outputFor, runLong } from './shell.js'

export const ingestCommand = (): Command =>
  addOptions(new Command('ingest').description('add the documents of shards'), commandFields.ingest)
    .addHelpText('after', `
A line is {"text": "...", "id": "...", "source": "..."}; text is needed, other fields are kept. A document is the same
as an earlier one if source and id are equal, or source and text where there is no id: it is added once, however often
it is ingested. So ids must be unique within a source. A line that is no document goes to dead-letters with its cause;
the others go on. A line that names no source has that of --source, or else its shard's name without number and
extensions: wiki-00012-of-00400.jsonl.gz is of source "wiki". A .txt file is one document; without --source, its
folder's name is its source.`)
    .action(async (paths: string[], _options: unknown, command: Command) => {
      const settings = resolveSettings('ingest', givenTo(command, { paths }))
      const { openLog } = await import('../pipeline/home.js')
      const { result, exitCode } = await runLong(settings, {
        pipeline: 'ingest', run: '', open: () => openLog(settings, settings.partitions === null ? {} : { partitions: settings.partitions }),
        work: async (context) => (await import('../pipeline/ingest.js')).ingest(settings, context),
      })
      const output = outputFor(settings)
      const count = (n: number): string => n.toLocaleString('en-US')
      if (settings.json) await output.json(result)
      else {
        const known = result.deadLetters - result.deadLettersNew
        const dead = `${count(result.deadLetters)} dead letters${known > 0 ? ` (${count(known)} of them already there)` : ''}`
        await output.write(
          `${count(result.appended)} appended, ${count(result.alreadyThere)} already there, ${dead}; ` +
            `${count(result.shards)} ${result.shards === 1 ? 'shard' : 'shards'} in ${formatSeconds(result.seconds)}\n`,
        )
        if (result.deadLettersNew > 0) output.note('tributary dead-letters list says why')
        if (result.stoppedAt !== null) await output.write(`stopped at ${result.stoppedAt}; the same command goes on from there\n`)
      }
      const { failed } = result
      if (failed.length > 0)
        throw new UserError(
          `${failed.length} of ${count(result.shards)} ${result.shards === 1 ? 'shard' : 'shards'} could not be read to the end:\n` +
            failed.slice(0, 10).map(({ problem }) => `  ${problem}`).join('\n') +
            (failed.length > 10 ? `\n  and ${failed.length - 10} more (--json lists all)` : ''),
          { fix: failed[0].fix ?? 'get the shards again, then ingest them again: nothing is added twice' },
        )
      process.exitCode = exitCode
    })
