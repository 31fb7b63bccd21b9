/** @file `tributary status`: topics, runs with their positions and lag, factor sets, dead letters, size. */
import { Command } from 'commander'
import { runId } from '../base/index.js'
import type { Log, TopicInfo } from '../log/index.js'
import type { DeadLetterCount } from '../pipeline/dead-letters.js'
import { formatBytes, resolveGlobalSettings } from '../settings/index.js'
import { bytesOnDisk, factorSets, type FactorSet } from './home.js'
import { tableOf } from './output.js'
import { givenTo, outputFor } from './shell.js'

interface RunStatus {
  readonly run: string
  readonly createdMs: number
  /** A partition of `documents` each. */
  readonly positions: readonly number[]
  readonly lags: readonly number[]
  readonly lag: number
}

/** How many dead letters failed at a stage, and the last cause. */
type DeadLetterStatus = DeadLetterCount

export interface Status {
  readonly home: string
  readonly bytes: number
  readonly topics: readonly TopicInfo[]
  readonly queries: number
  readonly runs: readonly RunStatus[]
  readonly factors: readonly FactorSet[]
  readonly deadLetters: readonly DeadLetterStatus[]
}

/** Reads the whole topic, a block at a time; holds a line per (run, stage). */
const deadLettersOf = async (log: Log): Promise<readonly DeadLetterStatus[]> => {
  const { DeadLetterCounts, readDeadLetters } = await import('../pipeline/dead-letters.js')
  const counts = new DeadLetterCounts()
  for await (const record of readDeadLetters(log)) counts.add(record)
  return [...counts.of()].sort((a, b) => (a.run ?? '').localeCompare(b.run ?? '') || (a.stage < b.stage ? -1 : 1))
}

const runsOf = async (log: Log, topics: readonly TopicInfo[]): Promise<readonly RunStatus[]> => {
  const ends = topics.find(({ topic }) => topic === 'documents')?.ends ?? []
  if (!topics.some(({ topic }) => topic === 'runs')) return []
  const runs: RunStatus[] = []
  for (const { key, value } of await log.latest('runs')) {
    const positions = (await log.positions(runId(key))).map(({ offset }) => offset)
    const lags = ends.map((end, partition) => Math.max(0, end - (positions[partition] ?? 0)))
    runs.push({ run: key, createdMs: value?.createdMs ?? 0, positions, lags, lag: lags.reduce((sum, lag) => sum + lag, 0) })
  }
  return runs
}

/** What is in a home. */
export const statusOf = async (log: Log, home: string, factorsFolder: string): Promise<Status> => {
  const topics = await log.describe()
  return {
    home,
    bytes: await bytesOnDisk(home),
    topics,
    queries: topics.some(({ topic }) => topic === 'queries') ? (await log.latest('queries')).length : 0,
    runs: await runsOf(log, topics),
    factors: await factorSets(factorsFolder),
    deadLetters: await deadLettersOf(log),
  }
}

const count = (n: number): string => n.toLocaleString('en-US')

const statusText = (status: Status): string => {
  const kept = ({ ends, starts }: TopicInfo): number => ends.reduce((sum, end, at) => sum + end - starts[at], 0)
  const parts = [`home ${status.home}, ${formatBytes(status.bytes)}\n`]
  parts.push(
    tableOf(
      ['TOPIC', 'PARTITIONS', 'RECORDS', 'NEXT OFFSETS'],
      status.topics.map((info) => [
        info.topic,
        info.partitions,
        // A compacted topic's offsets count what was written, not what is kept.
        info.topic === 'queries' ? count(status.queries) : info.topic === 'runs' ? count(status.runs.length) : count(kept(info)),
        info.ends.length <= 8 ? info.ends.map(count).join(' ') : `${info.ends.slice(0, 8).map(count).join(' ')} ...`,
      ]),
      { right: ['PARTITIONS', 'RECORDS'] },
    ),
  )
  if (status.runs.length > 0)
    parts.push(
      tableOf(
        ['RUN', 'BEGAN', 'LAG', 'POSITIONS (LAG)'],
        status.runs.map(({ run, createdMs, lag, positions, lags }) => [
          run,
          new Date(createdMs).toISOString().slice(0, 19).replace('T', ' '),
          count(lag),
          positions.slice(0, 8).map((offset, at) => `${count(offset)} (${count(lags[at] ?? 0)})`).join(' ') +
            (positions.length > 8 ? ' ...' : ''),
        ]),
        { right: ['LAG'] },
      ),
    )
  else parts.push('no runs yet: tributary score --run NAME ...\n')
  if (status.factors.length > 0)
    parts.push(
      tableOf(
        ['FACTORS', 'STRATEGY', 'DOCUMENTS', 'STATE', 'MODEL'],
        status.factors.map(({ name, strategy, documents, stage, complete, model }) => [
          name, strategy ?? '?', documents === null ? '?' : count(documents), complete ? 'complete' : `unfinished${stage === null ? '' : ` (${stage})`}`, model ?? '?',
        ]),
        { right: ['DOCUMENTS'] },
      ),
    )
  else parts.push('no factors yet: tributary fit --model DIR --factors NAME --documents N\n')
  if (status.deadLetters.length > 0)
    parts.push(
      tableOf(
        ['DEAD LETTERS', 'STAGE', 'RUN', 'LAST CAUSE'],
        status.deadLetters.map(({ stage, run, count: n, lastCause }) => [count(n), stage, run ?? '', lastCause]),
        { right: ['DEAD LETTERS'] },
      ),
    )
  else parts.push('no dead letters\n')
  return parts.join('\n')
}

export const statusCommand = (): Command =>
  new Command('status')
    .description('print topics, offsets, runs with their lag, factor sets and dead letters')
    .action(async (_options: unknown, command: Command) => {
      const settings = resolveGlobalSettings(givenTo(command))
      const output = outputFor(settings)
      const { homePaths, openLogForReading } = await import('../pipeline/home.js')
      await using log = await openLogForReading(settings)
      const status = await statusOf(log, settings.home, homePaths(settings.home).factors)
      if (settings.json) await output.json(status)
      else await output.write(statusText(status))
    })
