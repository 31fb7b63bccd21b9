/** @file `tributary scores --run NAME --format jsonl|npy|parquet --out PATH` */
import { Command } from 'commander'
import { readRun } from '../pipeline/runs.js'
import { commandFields, resolveSettings, UsageError } from '../settings/index.js'
import { addOptions } from './options.js'
import { givenTo, outputFor, untilInterrupted } from './shell.js'
import { countsOf } from './work.js'

export const scoresCommand = (): Command =>
  addOptions(new Command('scores').description('write every score of a run, of every query with every document'), commandFields.scores)
    .addHelpText('after', `
  jsonl    a line per (query, document): query, document, source, influence, influencePerNat, influenceNormed,
           piece, pieces, tokens, tokensTotal, loss, gradientNorm, partition, offset
  npy      a folder: influence.npy, influence_per_nat.npy, influence_normed.npy, each f32 [queries, documents];
           queries.json has the rows, documents.jsonl the columns
  parquet  the columns of jsonl; the queries stand in its metadata
What is written is there whole or not at all.`)
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveSettings('scores', givenTo(command))
      const { format, out, force } = settings
      if (out === '-' && format !== 'jsonl')
        throw new UsageError(`--format ${format} cannot go to standard output`, { fix: 'give --out a path' })
      const { openLogForReading } = await import('../pipeline/home.js')
      const { writeScores } = await import('../pipeline/outputs/index.js')
      const output = outputFor(settings)
      await using log = await openLogForReading(settings)
      const run = await readRun(log, settings.run)
      const result = await untilInterrupted(settings, (parts) => writeScores(log, run, { format, out, force, ...parts, write: (text) => output.write(text) }))
      if (result === undefined || out === '-') return
      if (settings.json) return await output.json({ run: run.run, format, out, queries: run.queries.length, ...result })
      await output.write(`${out}: ${countsOf(result)}, ${run.queries.length} queries\n`)
    })
