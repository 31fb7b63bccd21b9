/**
 * @file Appending exactly once, whatever becomes of the answers. One transactional id for all processes: whoever opens
 * it fences the others, so between that and the next fencing nobody else appends by it, and what was read once of the
 * identities stays whole.
 *
 * A transaction carries a receipt: a tombstone in `identities` under a key of its own. If a commit's answer is lost, the
 * id is opened again, which decides the commit, and a second receipt is written; reading the topic up to that one tells
 * whether the first is there. Only then is a transaction that is not there repeated. Nothing is guessed or done twice.
 */
import { randomUUID } from 'node:crypto'
import { TransientError } from '../../base/index.js'
import type { AppendResult } from '../log.js'
import { isFault, type KafkaClient, type ProducerRecord, type TransactionalProducer } from './client.js'
import { PATIENCE_MS, patiently, type Clock } from './faults.js'
import { IdentitySet, identityOf } from './identities.js'
import type { Reader } from './reader.js'
import type { TopicName } from '../topics.js'
import type { Topic } from './topics.js'

/** Nobody's key: no key of a topic begins with the separator. */
const receiptKey = (): string => `\u001f${randomUUID()}`

const RETRY_MS_MIN = 20
const RETRY_MS_MAX = 2_000

export interface AppenderParts {
  readonly client: KafkaClient
  readonly clock: Clock
  readonly reader: Reader
  readonly transactionalId: string
  /** The topic `identities` on the cluster, one partition. */
  readonly identities: Topic
  /** The value of an identity. */
  readonly identityValue: (topic: TopicName) => Buffer
  /** Whether this appender keeps the identities; the other one leaves them alone. */
  readonly keepsIdentities: boolean
}

export interface Appending {
  readonly records: readonly ProducerRecord[]
  readonly topics: readonly Topic[]
  readonly unique: boolean
}

export class Appender {
  readonly #parts: AppenderParts
  readonly #known = new IdentitySet()
  #producer: TransactionalProducer | undefined
  /** The next record of `identities` to read; undefined: none was read yet. */
  #next: number | undefined
  /** One at a time. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: AppenderParts) {
    this.#parts = parts
  }

  async append(appending: Appending): Promise<AppendResult> {
    const result = this.#last.then(() => this.#appendNow(appending))
    this.#last = result.catch(() => undefined)
    return await result
  }

  async close(): Promise<void> {
    await this.#last
    await this.#discard()
  }

  async #appendNow(appending: Appending): Promise<AppendResult> {
    const { clock, reader } = this.#parts
    const startedMs = clock.nowMs()
    /** The transaction whose outcome is not known, and what it comes to if it is there. */
    let open: { readonly receipt: string; readonly result: AppendResult } | undefined
    for (let retryMs = RETRY_MS_MIN; ; retryMs = Math.min(2 * retryMs, RETRY_MS_MAX)) {
      try {
        if (this.#producer === undefined) {
          const there = await this.#open(open?.receipt)
          if (there && open !== undefined) return open.result
          open = undefined
        }
        const producer = this.#producer
        if (producer === undefined) continue
        const { records, identities } = await this.#fresh(producer, appending)
        const result = { appended: records.length, duplicates: appending.records.length - records.length }
        if (records.length === 0) return result
        open = { receipt: receiptKey(), result }
        reader.note(await producer.transaction([...records, ...identities, this.#record(open.receipt, null)]))
        for (const { key } of identities) this.#known.add(key)
        return result
      } catch (error) {
        await this.#discard()
        if (!isFault(error, 'fenced', 'unknown-outcome', 'unreachable', 'unavailable')) throw error
        if (clock.nowMs() - startedMs > PATIENCE_MS)
          throw open === undefined ? error : new TransientError('nobody knows whether these records were appended: the cluster gives no answer', { cause: error })
        await clock.sleep(retryMs * clock.random())
      }
    }
  }

  /**
   * Takes the id and reads what others appended meanwhile, up to a receipt of its own. Returns whether another one was
   * there: everything before is decided then.
   */
  async #open(receipt: string | undefined): Promise<boolean> {
    const { client, clock, reader, transactionalId, identities, keepsIdentities } = this.#parts
    // Who keeps no identities looks for receipts alone, and they come behind what is there now.
    this.#next ??= keepsIdentities ? 0 : (await patiently(clock, () => client.admin.offsets(identities.kafka, 'latest')))[0]
    this.#producer = await patiently(clock, () => client.producer(transactionalId))
    const end = receiptKey()
    reader.note(await this.#producer.transaction([this.#record(end, null)]))
    let there = false
    this.#next = await reader.until(identities.kafka, 0, this.#next, end, ({ key, value }) => {
      if (key === receipt) there = true
      else if (value !== null && keepsIdentities) this.#known.add(key)
    })
    return there
  }

  async #discard(): Promise<void> {
    const producer = this.#producer
    this.#producer = undefined
    await producer?.close()
  }

  #record(key: string, value: Buffer | null): ProducerRecord {
    return { topic: this.#parts.identities.kafka, partition: 0, key, value, timestampMs: this.#parts.clock.nowMs() }
  }

  /** What is to be written: all, or what is not there already; and its identities. */
  async #fresh(producer: TransactionalProducer, { records, topics, unique }: Appending): Promise<Fresh> {
    const live = unique ? await this.#live(producer, { records, topics, unique }) : undefined
    const seen = new Set<string>()
    const fresh: ProducerRecord[] = []
    const identities: ProducerRecord[] = []
    records.forEach((record, i) => {
      const topic = topics[i]
      if (unique && !topic.declaration.unique) throw new Error(`topic "${topic.name}" is not declared unique`)
      if (topic.compacted) {
        const at = `${record.topic} ${record.partition} ${record.key}`
        if (live?.has(at) === true) return
        live?.add(at)
      } else if (topic.declaration.unique) {
        const identity = identityOf(topic.name, record.key)
        const there = seen.has(identity) || this.#known.has(identity)
        if (unique && there) return
        seen.add(identity)
        if (!there) identities.push(this.#record(identity, this.#parts.identityValue(topic.name)))
      }
      fresh.push(record)
    })
    return { records: fresh, identities }
  }

  /** The live keys of the compacted partitions that records go to, as "topic partition key". */
  async #live(producer: TransactionalProducer, { records, topics }: Appending): Promise<Set<string>> {
    const { reader, clock } = this.#parts
    const live = new Set<string>()
    const end = receiptKey()
    const places = new Map<string, ProducerRecord>()
    records.forEach(({ topic, partition }, i) => {
      if (topics[i].compacted) places.set(`${topic} ${partition}`, { topic, partition, key: end, value: null, timestampMs: clock.nowMs() })
    })
    if (places.size === 0) return live
    reader.note(await producer.transaction([...places.values()]))
    for (const [at, { topic, partition }] of places)
      await reader.until(topic, partition, 0, end, ({ key, value }) => {
        if (value === null) live.delete(`${at} ${key}`)
        else live.add(`${at} ${key}`)
      })
    return live
  }
}

interface Fresh {
  readonly records: readonly ProducerRecord[]
  readonly identities: readonly ProducerRecord[]
}
