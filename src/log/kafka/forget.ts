/**
 * @file Forgetting a run on a cluster, where nothing can be taken out of a topic: its state gets tombstones, and a record in
 * `forgotten` says from where on what the run writes to `influence` and `dead-letters` counts. What it wrote before is there
 * and is passed over.
 */
import { UserError, type RunId } from '../../base/index.js'
import type { LogRecord, NewRecord } from '../log.js'
import { keyOf, type TopicName } from '../topics.js'
import type { Appender } from './appender.js'
import { groupOf, readState, transactionalIdOf, type AssignmentParts } from './assignments.js'
import { patiently } from './faults.js'

/** By run and partition (keyOf): the first offset that counts. */
export type ForgottenFrom = ReadonlyMap<string, { readonly influence: number; readonly 'dead-letters': number }>

export const forgottenFrom = (records: readonly LogRecord<'forgotten'>[]): ForgottenFrom =>
  new Map(records.flatMap(({ key, value }) => (value === undefined ? [] : [[key, { influence: value.influence, 'dead-letters': value.deadLetters }] as const])))

export interface ForgetParts extends Pick<AssignmentParts, 'client' | 'clock' | 'reader' | 'topics' | 'prefix'> {
  readonly appender: () => Promise<Appender>
  /** Keys of the run's records in `rescored`. */
  readonly rescored: () => Promise<readonly string[]>
}

/** The run itself last: until then it may be done again. @throws UserError if a worker of the run is at work */
export const forgetRun = async (run: RunId, parts: ForgetParts): Promise<void> => {
  const { client, clock, topics, prefix, appender, rescored } = parts
  const group = groupOf(prefix, run)
  const members = await patiently(clock, () => client.admin.groupMembers(group))
  if (members > 0)
    throw new UserError(`${members} ${members === 1 ? 'worker is' : 'workers are'} at work on run "${run}"`, {
      fix: 'stop them, then try again (a worker that was killed counts until its session timeout, kafka: {session-timeout-ms}, is over)',
    })
  const { partitions } = await topics.get('documents')
  for (let partition = 0; partition < partitions; partition++) await forgetPartition(run, partition, parts)
  await patiently(clock, () => client.admin.deleteGroups([group]))
  const ended: NewRecord[] = (await rescored()).map((key) => ({ topic: 'rescored', key, value: null }))
  await (await appender()).append({ ...(await topics.encode([...ended, { topic: 'runs', key: run, value: null }])), unique: false })
}

/** One transaction: tombstones for the state, and from where on the run's records count again. */
const forgetPartition = async (run: RunId, partition: number, { client, clock, reader, topics, prefix }: ForgetParts): Promise<void> => {
  const producer = await patiently(clock, () => client.producer(transactionalIdOf(prefix, run, partition)))
  try {
    const { state } = await readState({ reader, clock, topics }, producer, await topics.states(), run, partition)
    // Whoever wrote for the run is fenced: all it wrote stands before these ends.
    const endOf = async (name: TopicName): Promise<number> => {
      const { kafka } = await topics.get(name)
      return (await patiently(clock, () => client.admin.offsets(kafka, 'latest')))[partition]
    }
    const key = keyOf(run, partition)
    const value = { run, partition, influence: await endOf('influence'), deadLetters: await endOf('dead-letters') }
    const ended: NewRecord[] = [...state, { topic: 'positions' as const, key }].map((record) => ({ topic: record.topic, key: record.key, value: null }))
    const encoded = await topics.encode([...ended, { topic: 'forgotten', key, value }], partition)
    reader.note(await producer.transaction(encoded.records))
    encoded.release()
  } finally {
    await producer.close()
  }
}
