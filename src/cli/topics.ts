/** @file `tributary topics apply|diff|list|describe|delete`: the declared topics, and those of the log. */
import { Command } from 'commander'
import { UserError, runId } from '../base/index.js'
import type { TopicPlan, TopicState, TopicWishes } from '../pipeline/topics.js'
import { UsageError, resolveGlobalSettings } from '../settings/index.js'
import { tableOf } from './output.js'
import { exitCodes, givenTo, outputFor } from './shell.js'

const count = (n: number): string => n.toLocaleString('en-US')

/** A whole number that a flag gives; null without it. */
const whole = (flags: Readonly<Record<string, unknown>>, name: string, flag: string, max: number): number | null => {
  const given = flags[name]
  if (given === undefined) return null
  const value = Number(given)
  if (typeof given !== 'string' || !/^\d{1,5}$/.test(given) || value < 1 || value > max)
    throw new UsageError(`${flag} ${String(given)} is not allowed`, { fix: `a whole number from 1 to ${max}` })
  return value
}

const wishesOf = (flags: Readonly<Record<string, unknown>>): TopicWishes => ({
  partitions: whole(flags, 'partitions', '--partitions', 1024),
  replicationFactor: whole(flags, 'replicationFactor', '--replication-factor', 100),
  minInsyncReplicas: whole(flags, 'minInsyncReplicas', '--min-insync-replicas', 100),
})

const withWishes = (command: Command): Command =>
  command
    .option('--partitions <N>', 'partitions of documents and of what lies as it does (default: as they are, or as declared)')
    .option('--replication-factor <N>', "replicas of topics that are made (default: the broker's)")
    .option('--min-insync-replicas <N>', 'replicas that must have a record before it counts (default: left alone)')

const planText = async ({ steps, refused, notes }: TopicPlan): Promise<string> => {
  const { stepText } = await import('../log/kafka/index.js')
  const lines = [
    ...steps.flatMap((step) => [stepText(step), ...(step.consent === null ? [] : [`  needs --yes: ${step.consent}`])]),
    ...refused.flatMap(({ topic, what, fix }) => [`cannot be done: ${topic}: ${what}`, `  instead: ${fix}`]),
    ...notes.map((note) => `left alone: ${note}`),
  ]
  if (steps.length === 0 && refused.length === 0) lines.push('the topics are as declared')
  return `${lines.join('\n')}\n`
}

const applyCommand = (): Command =>
  withWishes(new Command('apply').description('create the declared topics that are missing and mend those that differ; the plan is printed first'))
    .option('--yes', 'also what loses records or cannot be taken back')
    .addHelpText('after', `
Never removes a topic, and no setting that is not declared. Partitions only grow, and only those of documents and of what
lies as it does: a document stays in its partition, new ones spread over all, and workers of runs in progress take up the
new ones within half a minute. A plan of which one part needs --yes is not begun without it.`)
    .action(async (_options: unknown, command: Command) => {
      const given = givenTo(command)
      const wishes = wishesOf(given.flags)
      const settings = resolveGlobalSettings(given)
      const { applyTopics, planOfTopics } = await import('../pipeline/topics.js')
      const output = outputFor(settings)
      const plan = await planOfTopics(settings, wishes)
      const consents = plan.steps.filter(({ consent }) => consent !== null)
      const agreed = given.flags.yes === true || consents.length === 0
      const todo = agreed && plan.refused.length === 0
      if (settings.json) await output.json({ ...plan, applied: todo })
      else await output.write(await planText(plan))
      if (plan.refused.length === 0 && !agreed)
        throw new UsageError(`nothing was done: ${consents.map(({ topic }) => topic).join(', ')} ${consents.length === 1 ? 'needs' : 'need'} your yes`, { fix: 'the same with --yes' })
      await applyTopics(settings, plan, wishes, (line) => output.note(`done: ${line}`))
    })

const diffCommand = (): Command =>
  withWishes(new Command('diff').description('print what apply would do; exit code 1 if there is anything'))
    .action(async (_options: unknown, command: Command) => {
      const given = givenTo(command)
      const wishes = wishesOf(given.flags)
      const settings = resolveGlobalSettings(given)
      const { planOfTopics } = await import('../pipeline/topics.js')
      const plan = await planOfTopics(settings, wishes)
      if (settings.json) await outputFor(settings).json(plan)
      else await outputFor(settings).write(await planText(plan))
      if (plan.steps.length > 0 || plan.refused.length > 0) process.exitCode = exitCodes.failed
    })

const offsets = (of: readonly number[]): string => (of.length <= 8 ? of.map(count).join(' ') : `${of.slice(0, 8).map(count).join(' ')} ...`)

const jsonOf = ({ declaration: { name, description, key, cleanup, retentionMs, internal }, ...there }: TopicState): object =>
  ({ name, description, key, cleanup, retentionMs, internal, ...there })

const listCommand = (): Command =>
  new Command('list').description('print the declared topics, and how they are on the log').action(async (_options: unknown, command: Command) => {
    const settings = resolveGlobalSettings(givenTo(command))
    const { topicStates } = await import('../pipeline/topics.js')
    const states = await topicStates(settings)
    if (settings.log.startsWith('kafka://') && states.every(({ partitions }) => partitions === null))
      outputFor(settings).note('none is there: tributary topics apply (or these credentials may not see them: Describe on the topics)')
    if (settings.json) return outputFor(settings).json(states.map(jsonOf))
    await outputFor(settings).write(tableOf(
      ['TOPIC', 'PARTITIONS', 'REPLICAS', 'CLEANUP', 'NEXT OFFSETS', 'WHAT'],
      states.map(({ topic, partitions, replicationFactor, ends, declaration: { cleanup, description } }) =>
        [topic, partitions ?? 'missing', replicationFactor ?? '', cleanup, offsets(ends), description]),
      { right: ['PARTITIONS', 'REPLICAS'] },
    ))
  })

const stateText = ({ declaration, topic, partitions, replicationFactor, configs, starts, ends }: TopicState): string => {
  const rows: [string, string][] = [
    ['what', declaration.description],
    ['key', declaration.key],
    ['cleanup', declaration.cleanup === 'compact' ? 'the newest of every key is kept' : declaration.retentionMs === null ? 'everything is kept' : `kept for ${count(declaration.retentionMs)} ms`],
    ['partitions', partitions === null ? 'missing: tributary topics apply' : `${partitions}${declaration.partitions === 'documents' ? ', as documents has' : ''}`],
  ]
  if (replicationFactor !== null) rows.push(['replicas', String(replicationFactor)])
  for (const [name, value] of Object.entries(configs).sort()) rows.push([name, value])
  const head = `${topic}\n${tableOf(['', ''], rows).trimStart().split('\n').map((line) => (line === '' ? '' : `  ${line.trimStart()}`)).join('\n')}`
  if (partitions === null) return head
  return `${head}\n${tableOf(['PARTITION', 'FIRST', 'NEXT'], ends.map((end, partition) => [partition, count(starts[partition]), count(end)]), { right: ['PARTITION', 'FIRST', 'NEXT'] })}`
}

const describeTopicCommand = (): Command =>
  new Command('describe')
    .description('print a topic: what it holds, its key, settings and offsets')
    .argument('<TOPIC>', 'name of a declared topic')
    .action(async (name: string, _options: unknown, command: Command) => {
      const settings = resolveGlobalSettings(givenTo(command))
      const { topicStates } = await import('../pipeline/topics.js')
      const states = await topicStates(settings)
      const state = states.find(({ topic, declaration }) => topic === name || declaration.name === name)
      if (state === undefined) throw new UserError(`there is no declared topic "${name}"`, { fix: `topics: ${states.map(({ declaration }) => declaration.name).join(', ')}` })
      if (settings.json) return outputFor(settings).json(jsonOf(state))
      await outputFor(settings).write(stateText(state))
    })

const deleteCommand = (): Command =>
  new Command('delete')
    .description('remove what a run keeps in the topics: tables, moments, positions, its record')
    .requiredOption('--run <NAME>', 'name of the run (required)')
    .option('--yes', 'do it')
    .addHelpText('after', `
Its scores and dead letters are not read any more; they stay in the topics as long as these keep records. Documents and
queries stay. Refused while a worker of the run is at work. Topics themselves are never deleted here.`)
    .action(async (_options: unknown, command: Command) => {
      const given = givenTo(command)
      const { run, yes } = given.flags as { readonly run: string, readonly yes?: boolean }
      const settings = resolveGlobalSettings(given)
      const [{ openLog }, { readRun }] = await Promise.all([import('../pipeline/home.js'), import('../pipeline/runs.js')])
      await using log = await openLog(settings)
      await readRun(log, run)
      if (yes !== true) throw new UsageError(`this removes what run "${run}" computed`, { fix: `tributary topics delete --run ${run} --yes` })
      await log.forget(runId(run))
      if (settings.json) return outputFor(settings).json({ deleted: run })
      await outputFor(settings).write(`what run "${run}" kept is removed\n`)
    })

export const topicsCommand = (): Command => {
  const topics = new Command('topics').description('the topics of the log: create, compare, print, and end what a run keeps')
  for (const command of [applyCommand(), diffCommand(), listCommand(), describeTopicCommand(), deleteCommand()]) topics.addCommand(command)
  return topics
}
