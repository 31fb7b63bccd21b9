/**
 * @file Partitions of `documents` for a worker of a run, by a consumer group, and what each is worked with. The recipe:
 *
 *     assigned   → verify the membership: who was evicted while asleep learns it before fencing the rightful owner
 *                → a new producer of (run, partition): the owner before is fenced, what it left open is aborted
 *                → one record of our own into each state topic; read these until it comes back
 *                → tables, moments and the position are one consistent pair
 *     commit     → records, state, position and the group's offset in one transaction, once
 *     any error  → its outcome is unknown: producer and state are thrown away; the partition is offered again, unless the
 *                  error is for good (a missing ACL, a topic that is gone): then the assignments end with it
 *
 * The position lives in the state. The group's offset is for tools that show lag and is never read here.
 */
import { randomUUID } from 'node:crypto'
import { TransientError, UserError, type RunId } from '../../base/index.js'
import type { Assignment, Commit, LogRecord, Position, ReadBounds } from '../log.js'
import { keyOf } from '../topics.js'
import { KafkaFault, isFault, type GroupMember, type KafkaClient, type KafkaRecord, type TransactionalProducer } from './client.js'
import { explained, guarded, patiently, type Clock } from './faults.js'
import { queue, type Queue } from './queue.js'
import type { Reader } from './reader.js'
import type { Topic, Topics } from './topics.js'

/** A partition is offered again after so long at first, doubled up to the second, ms. */
const AGAIN_MS_MIN = 50
const AGAIN_MS_MAX = 5_000
/** A partition that fails so often and for so long without a commit in between is not offered again. */
const FAILURES_MAX = 8
const FAILING_MS_MAX = 180_000
/** What another try may mend. */
const passing = ['fenced', 'unknown-outcome', 'evicted', 'unreachable', 'unavailable', 'closed'] as const

export interface AssignmentParts {
  readonly client: KafkaClient
  readonly clock: Clock
  readonly reader: Reader
  readonly topics: Topics
  readonly cluster: string
  readonly prefix: string
  readonly readDocuments: (partition: number, offset: number, bounds: ReadBounds) => Promise<readonly LogRecord<'documents'>[]>
}

/** The consumer group of a run, and what its transactional ids begin with. */
export const groupOf = (prefix: string, run: RunId): string => `${prefix}tributary-${run}`
export const transactionalIdOf = (prefix: string, run: RunId, partition: number): string => `${groupOf(prefix, run)}-${partition}`

/** Membership in the group of a run, as assignments. `close` gives everything back, the batch in hand included. */
export class Assignments {
  readonly #parts: AssignmentParts
  readonly #run: RunId
  readonly #member: GroupMember
  readonly #offers: Queue<Assignment> = queue()
  readonly #held = new Map<number, Held>()
  readonly #producers = new Set<Held>()
  readonly #failures = new Map<number, Failing>()
  readonly #closing = new AbortController()

  static async join(parts: AssignmentParts, run: RunId): Promise<Assignments> {
    const { client, clock, prefix, topics } = parts
    const documents = await topics.get('documents')
    const member = await patiently(clock, () => client.join(groupOf(prefix, run), documents.kafka))
    return new Assignments(parts, run, member)
  }

  private constructor(parts: AssignmentParts, run: RunId, member: GroupMember) {
    this.#parts = parts
    this.#run = run
    this.#member = member
    void this.#follow()
  }

  offers(): AsyncIterable<Assignment> {
    return this.#offers
  }

  async #follow(): Promise<void> {
    try {
      for await (const { partitions } of this.#member.memberships) {
        if (this.#closing.signal.aborted) break
        for (const [partition, held] of this.#held) if (!partitions.includes(partition)) this.#revoke(partition, held)
        // What is held and stays was not somebody else's in between, or its producer was fenced: a commit will tell.
        for (const partition of partitions) if (this.#held.get(partition)?.lost.aborted !== false) this.#offer(partition)
      }
      this.#offers.end()
    } catch (error) {
      this.#offers.fail(explained(error, this.#parts.cluster))
    }
  }

  #offer(partition: number): void {
    const held = new Held(this.#parts, this.#run, partition, this.#member, (failure) => this.#again(partition, held, failure))
    this.#held.set(partition, held)
    this.#producers.add(held)
    this.#offers.push(held)
  }

  #revoke(partition: number, held: Held): void {
    this.#held.delete(partition)
    this.#failures.delete(partition)
    held.lose()
    void held.close().then(() => this.#producers.delete(held))
  }

  /** A commit was made, or the assignment has to begin anew, if it can. */
  #again(partition: number, held: Held, failure: Failure | undefined): void {
    if (failure === undefined) {
      this.#failures.delete(partition)
      return
    }
    this.#producers.delete(held)
    const isOurs = (): boolean => !this.#closing.signal.aborted && this.#held.get(partition) === held
    if (!isOurs()) return
    const { clock, cluster } = this.#parts
    if (!isFault(failure.error, ...passing)) {
      this.#offers.fail(explained(failure.error, cluster))
      return
    }
    const nowMs = clock.nowMs()
    const before = this.#failures.get(partition)
    const goesOn = before !== undefined && nowMs - before.lastMs <= FAILING_MS_MAX
    const { sinceMs, count } = goesOn ? { sinceMs: before.sinceMs, count: before.count + 1 } : { sinceMs: nowMs, count: 1 }
    this.#failures.set(partition, { sinceMs, lastMs: nowMs, count })
    if (count >= FAILURES_MAX && nowMs - sinceMs > FAILING_MS_MAX) {
      const what = `partition ${partition} of run "${this.#run}" can be worked on no more, for ${FAILING_MS_MAX / 60_000} minutes now`
      this.#offers.fail(new UserError(`${cluster}: ${what}: ${failure.error.message}`, {
        cause: failure.error, fix: 'look at the brokers, then start again: the run goes on from its last commit',
      }))
      return
    }
    void clock.sleep(Math.min(AGAIN_MS_MIN * 2 ** (count - 1), AGAIN_MS_MAX), this.#closing.signal).then(() => {
      if (isOurs()) this.#offer(partition)
    })
  }

  /** Leaves the group. What is held may still commit what is in hand, as long as nobody took it. */
  async leave(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort()
    for (const held of this.#held.values()) held.lose()
    this.#offers.end()
    await this.#member.leave()
  }

  async close(): Promise<void> {
    await this.leave()
    await Promise.all([...this.#producers].map((held) => held.close()))
  }
}

/** What a partition failed with. */
interface Failure {
  readonly error: unknown
}

/** Failures of a partition one after the other. */
interface Failing {
  readonly sinceMs: number
  readonly lastMs: number
  readonly count: number
}

/** One partition, from its offer until it is lost. */
class Held implements Assignment {
  readonly partition: number
  readonly #parts: AssignmentParts
  readonly #run: RunId
  readonly #member: GroupMember
  readonly #lost = new AbortController()
  readonly #outcome: (failure?: Failure) => void
  #producer: TransactionalProducer | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: AssignmentParts, run: RunId, partition: number, member: GroupMember, outcome: (failure?: Failure) => void) {
    this.#parts = parts
    this.#run = run
    this.partition = partition
    this.#member = member
    this.#outcome = outcome
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  lose(): void {
    this.#lost.abort()
  }

  async close(): Promise<void> {
    await this.#last
    const producer = this.#producer
    this.#producer = undefined
    await producer?.close()
  }

  async restore(): Promise<{ position: Position; state: readonly LogRecord[] }> {
    return await this.#alone(() => this.#decisively(() => this.#restore()))
  }

  async #restore(): Promise<{ position: Position; state: readonly LogRecord[] }> {
    const { client, clock, prefix, topics } = this.#parts
    if (this.#lost.signal.aborted) throw new KafkaFault('evicted', `partition ${this.partition} was taken away`)
    await patiently(clock, () => this.#member.verify())
    await this.#producer?.close()
    this.#producer = undefined
    // The topics may have grown since they were looked at: that is how this partition came to be.
    if (this.partition >= (await topics.get('documents')).partitions) await topics.refresh()
    this.#producer = await patiently(clock, () => client.producer(transactionalIdOf(prefix, this.#run, this.partition)))
    return await readState(this.#parts, this.#producer, await topics.states(), this.#run, this.partition)
  }

  async read(offset: number, bounds: ReadBounds): Promise<readonly LogRecord<'documents'>[]> {
    return await this.#parts.readDocuments(this.partition, offset, bounds)
  }

  async commit(commit: Commit): Promise<void> {
    await guarded(this.#parts.cluster, () => this.#alone(() => this.#commit(commit)))
  }

  async #commit({ append, position }: Commit): Promise<void> {
    const { topics, prefix, reader } = this.#parts
    const producer = this.#producer
    if (producer === undefined)
      throw new TransientError(`partition ${this.partition} is not owned (any more): nothing of this commit was kept`)
    const detail = position.detail === undefined ? null : JSON.stringify(position.detail)
    const own = { run: this.#run, partition: this.partition, offset: position.offset, detail }
    // What is refused here was not sent: the assignment stays good.
    const encoded = await topics.encode(
      [...append, { topic: 'positions', key: keyOf(this.#run, this.partition), value: own, partition: this.partition }], this.partition,
    )
    const documents = await topics.get('documents')
    await this.#decisively(async () => {
      reader.note(await producer.transaction(encoded.records, {
        group: groupOf(prefix, this.#run), topic: documents.kafka, offsets: [{ partition: this.partition, offset: position.offset }],
      }))
    })
    encoded.release()
    this.#outcome()
  }

  /** After any error nobody knows: producer and state are of no more use. */
  async #decisively<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      this.lose()
      const producer = this.#producer
      this.#producer = undefined
      await producer?.close()
      // Another owner, or an eviction: the next assignment of the group says who goes on.
      this.#outcome({ error })
      if (isFault(error, 'unreachable', 'unavailable')) throw new TransientError(`partition ${this.partition}: ${error.message}`, { cause: error })
      throw explained(error, this.#parts.cluster)
    }
  }

  async #alone<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action)
    this.#last = result.catch(() => undefined)
    return await result
  }
}

/**
 * The state of a run in a partition: a record of our own is written to each of the topics, which are read until it comes
 * back. Holds the newest record of each of the run's keys.
 */
export const readState = async (
  { reader, clock, topics }: Pick<AssignmentParts, 'reader' | 'clock' | 'topics'>, producer: TransactionalProducer, states: readonly Topic[], run: RunId, partition: number,
): Promise<{ position: Position; state: readonly LogRecord[] }> => {
  const end = `\u001f${randomUUID()}`
  const timestampMs = clock.nowMs()
  reader.note(await producer.transaction(states.map(({ kafka }) => ({ topic: kafka, partition, key: end, value: null, timestampMs }))))
  const prefix = keyOf(run, '')
  const state: LogRecord[] = []
  let position: Position = { offset: 0 }
  for (const topic of states) {
    const newest = new Map<string, KafkaRecord>()
    await reader.until(topic.kafka, partition, 0, end, (record) => {
      if (!record.key.startsWith(prefix)) return
      if (record.value === null) newest.delete(record.key)
      else newest.set(record.key, { ...record, value: Buffer.from(record.value) }) // not the memory of its whole batch
    })
    const records = [...newest.values()].sort((a, b) => (a.key < b.key ? -1 : 1))
    if (topic.name !== 'positions') state.push(...(await topics.decode(topic, partition, records)))
    else for (const { value } of await topics.decode<'positions'>(topic, partition, records)) {
      if (value === undefined) throw new Error(`the position of run "${run}" in partition ${partition} cannot be read`)
      position = value.detail === null ? { offset: value.offset } : { offset: value.offset, detail: JSON.parse(value.detail) as unknown }
    }
  }
  return { position, state }
}
