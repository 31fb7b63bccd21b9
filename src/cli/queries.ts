/** @file `tributary queries add FILE.jsonl | list | remove ID...` */
import { Command } from 'commander'
import { addQueries, listQueries, readQueries, removeQueries } from '../pipeline/queries.js'
import { resolveGlobalSettings } from '../settings/index.js'
import { excerptOf, tableOf } from './output.js'
import { givenTo, outputFor } from './shell.js'

export const queriesCommand = (): Command => {
  const queries = new Command('queries').description('add, list and remove queries').addHelpText('after', lineHelp)

  queries
    .command('add')
    .description('add the queries of a file: all of them or, if a line is wrong, none')
    .argument('<FILE>', 'lines {id, prompt, completion, group?, task?, answer?, steps?}')
    .option('--replace', 'a query of the same id and other content is replaced, not refused')
    .addHelpText('after', lineHelp)
    .action(async (file: string, _options: unknown, command: Command) => {
      const given = givenTo(command)
      const settings = resolveGlobalSettings(given)
      const output = outputFor(settings)
      const read = readQueries(file)
      const { openLog } = await import('../pipeline/home.js')
      await using log = await openLog(settings)
      const result = await addQueries(log, read, { replace: given.flags.replace === true })
      if (settings.json) return output.json(result)
      await output.write(
        `${result.added} added, ${result.alreadyThere} already there` +
          `${result.replaced > 0 ? `, ${result.replaced} replaced` : ''}\n`,
      )
    })

  queries
    .command('list')
    .description('print the queries')
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveGlobalSettings(givenTo(command))
      const output = outputFor(settings)
      const { openLogForReading } = await import('../pipeline/home.js')
      await using log = await openLogForReading(settings)
      const all = await listQueries(log)
      if (settings.json)
        return output.json(all.map(({ extra, ...query }) => ({ ...(extra === null ? {} : JSON.parse(extra)), ...query })))
      if (all.length === 0) return output.note('no queries yet: tributary queries add FILE.jsonl')
      await output.write(
        tableOf(
          ['ID', 'GROUP', 'TASK', 'PROMPT', 'COMPLETION'],
          all.map(({ id, group, task, prompt, completion }) => [
            id, group ?? '', task ?? '', excerptOf(prompt, 60), excerptOf(completion, 30),
          ]),
        ),
      )
    })

  queries
    .command('remove')
    .description('remove queries; runs keep the queries they began with')
    .argument('<ID...>', 'ids of queries')
    .action(async (ids: string[], _options: unknown, command: Command) => {
      const settings = resolveGlobalSettings(givenTo(command))
      const output = outputFor(settings)
      const { openLog } = await import('../pipeline/home.js')
      await using log = await openLog(settings)
      await removeQueries(log, ids)
      if (settings.json) return output.json({ removed: [...new Set(ids)] })
      await output.write(`${new Set(ids).size} removed\n`)
    })
  return queries
}

const lineHelp = `
A line of the file: {"id": "mali", "prompt": "The capital of Mali is", "completion": " Bamako.", "group": "facts"}
  id, prompt, completion  are needed; the completion begins with its space, if it has one
  group, task             gather queries in tables and reports
  answer, steps           what a document must hold to be a hit: the answer, or the answers of the steps
  other fields            are kept`
