/** @file `tributary export --run NAME --format ruis-demo --out DIR` */
import { Command } from 'commander'
import { readRun } from '../pipeline/runs.js'
import { commandFields, rankedOf, resolveSettings } from '../settings/index.js'
import { addOptions } from './options.js'
import { givenTo, outputFor, untilInterrupted } from './shell.js'

export const exportCommand = (): Command =>
  addOptions(new Command('export').description('write a run in the form of others: the demo of Ruis et al.'), commandFields.export)
    .addHelpText('after', `
  ruis-demo   a folder: training_ids, training_sequences, training_sources, test_ids, prompts, completions (.json);
              influences_dot, influences_cos (f32), ranks, ranks_normed (u32), each [queries, documents] (.npy).
              The documents are those among the first or last -k of any query; ranks count over all documents scored.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('export', givenTo(command))
      const { openLogForReading } = await import('../pipeline/home.js')
      const { writeRuisDemo } = await import('../pipeline/outputs/ruis-demo.js')
      const output = outputFor(settings)
      await using log = await openLogForReading(settings)
      const run = await readRun(log, settings.run)
      const { out, force, rows, format } = settings
      const result = await untilInterrupted(settings, (parts) => writeRuisDemo(log, run, { out, force, rows, ...parts }))
      if (result === undefined) return
      if (settings.json) return await output.json({ run: run.run, format, out, ...result })
      await output.write(`${out}: ${result.documents.toLocaleString('en-US')} ${rankedOf(run)} of ${result.scored.toLocaleString('en-US')}, ${result.queries} queries\n`)
    })
