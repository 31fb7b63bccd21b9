/**
 * @file The log on an Apache Kafka cluster, over the port in client.ts: the same contract as the embedded log. Everything
 * is written in transactions and read committed. assignments.ts has the recipe that makes a worker exactly-once,
 * appender.ts that of everybody else.
 *
 * Names on the cluster: topics `PREFIX` + name; group `PREFIX`tributary-RUN; transactional ids `PREFIX`tributary-RUN-P
 * of workers, `PREFIX`tributary-ingest and `PREFIX`tributary-append of everybody else.
 *
 * Memory: reader.ts (at most 16 answers of 4 MiB), identities.ts for whoever ingests (21 to 43 bytes a document), views
 * of compacted topics (at most `VIEW_BYTES_MAX` each), the state of the partitions that are owned.
 */
import { join } from 'node:path'
import { UserError, pause, type RunId } from '../../base/index.js'
import { encodeValue, type CodecFactory, type SchemaStore } from '../codec.js'
import { PARTITIONS_MAX, declaredTopics, type TopicDeclaration } from '../declarations.js'
import { embeddedLog } from '../embedded.js'
import type { AppendResult, Assignment, Lease, Log, LogRecord, NewRecord, Position, ReadBounds, TopicInfo } from '../log.js'
import { schemaTopicStore } from '../schema-topic.js'
import { Serdes, singleObject } from '../single-object.js'
import { keyOf, type TopicName } from '../topics.js'
import { Appender } from './appender.js'
import { Assignments } from './assignments.js'
import type { KafkaClient } from './client.js'
import { explained, guarded, patiently, type Clock } from './faults.js'
import { forgetRun, forgottenFrom, type ForgottenFrom } from './forget.js'
import { Reader } from './reader.js'
import { kafkaTopic } from './topic-configs.js'
import { Topics, type Topic } from './topics.js'
import { Views } from './views.js'

/** How often the ends are looked at for what others appended, ms. */
const POLL_MS = 200
/** How old the knowledge of runs that were reset may be, ms. */
const FORGOTTEN_MS = 1_000
const RUN_BYTES_MAX = 200

export interface KafkaLogOptions {
  /** The cluster as the user named it, for messages. */
  readonly cluster: string
  /** Before every name on the cluster, so that several homes share one; empty by default. */
  readonly prefix?: string
  /** The folder of the leases, which are of this machine; without it `lease` is refused. */
  readonly leases?: string
  /** Format of values; by default Avro's single-object encoding, with the schemas in the topic `schemas`. */
  readonly codecs?: (schemas: SchemaStore) => CodecFactory
  readonly readonly?: boolean
  /** Of topics that are made; the broker's defaults without them. */
  readonly replicationFactor?: number
  readonly minInsyncReplicas?: number
  /** Instead of topics/*.yaml. */
  readonly topics?: ReadonlyMap<TopicName, TopicDeclaration>
  readonly clock?: Clock
}

const systemClock: Clock = {
  nowMs: Date.now,
  sleep: pause,
  random: Math.random,
}

/** Opens the log on a cluster; closing it closes the client. @throws UserError if the folder of leases cannot be opened */
export const kafkaLog = async (client: KafkaClient, options: KafkaLogOptions): Promise<Log> => {
  const leases = options.leases === undefined || options.readonly === true ? undefined : await embeddedLog(join(options.leases, 'leases'))
  return new KafkaLog(client, options, leases)
}

class KafkaLog implements Log {
  readonly #client: KafkaClient
  readonly #options: KafkaLogOptions
  readonly #leases: Log | undefined
  readonly #clock: Clock
  readonly #prefix: string
  readonly #declared: ReadonlyMap<TopicName, TopicDeclaration>
  readonly #topics: Topics
  readonly #reader: Reader
  readonly #views: Views
  readonly #assignments = new Set<Assignments>()
  /** Partitions of `documents` that were read to their end, and the end then. */
  readonly #caughtUp = new Map<number, number>()
  readonly #closing = new AbortController()
  #appenders: Promise<{ readonly ingest: Appender; readonly others: Appender }> | undefined
  #forgotten: { readonly atMs: number; readonly from: ForgottenFrom } | undefined

  constructor(client: KafkaClient, options: KafkaLogOptions, leases: Log | undefined) {
    const { cluster, prefix = '', topics = declaredTopics(), codecs = singleObject, clock = systemClock } = options
    this.#client = client
    this.#options = options
    this.#leases = leases
    this.#clock = clock
    this.#prefix = prefix
    this.#declared = topics
    this.#reader = new Reader(client, clock)
    this.#topics = new Topics({ client, clock, prefix, cluster, declared: topics, codecs: codecs(this.#schemaStore()) })
    this.#views = new Views(this.#reader)
  }

  /* ------------------------------------------------------ writing ------------------------------------------------- */

  async ensureTopics({ partitions }: { readonly partitions?: number } = {}): Promise<void> {
    const { cluster, replicationFactor = null, minInsyncReplicas = null } = this.#options
    if (partitions !== undefined && !(Number.isInteger(partitions) && partitions >= 1 && partitions <= PARTITIONS_MAX))
      throw new UserError(`${partitions} partitions are not possible`, { fix: `--partitions 1 to ${PARTITIONS_MAX}` })
    await this.#guarded(async () => {
      const known = new Map((await this.#topics.refresh()).map((topic) => [topic.name, topic]))
      const documents = known.get('documents')
      if (documents !== undefined && partitions !== undefined && documents.partitions !== partitions)
        throw new UserError(`topic "${documents.kafka}" at ${cluster} has ${documents.partitions} partitions, not ${partitions}`, {
          fix: 'leave out --partitions, or use another cluster or prefix',
        })
      const missing = [...this.#declared.values()].filter(({ name }) => !known.has(name))
      if (missing.length === 0) return
      const declared = this.#declared.get('documents')?.partitions
      const documentsPartitions = documents?.partitions ?? partitions ?? (typeof declared === 'number' ? declared : 1)
      const placement = { prefix: this.#prefix, documentsPartitions, replicationFactor, minInsyncReplicas }
      await patiently(this.#clock, () => this.#client.admin.createTopics(missing.map((topic) => kafkaTopic(topic, placement))))
      await this.#topics.refresh()
    })
  }

  async append(records: readonly NewRecord[], { unique = false } = {}): Promise<AppendResult> {
    this.#mustWrite()
    if (records.length === 0) return { appended: 0, duplicates: 0 }
    return await this.#guarded(async () => {
      const encoded = await this.#topics.encode(records)
      const identified = encoded.topics.some(({ compacted, declaration }) => !compacted && declaration.unique)
      if (unique && identified && encoded.topics.some(({ compacted }) => compacted))
        throw new Error('records of compacted topics and of others cannot be appended uniquely by one call')
      const { ingest, others } = await this.#appendersNow()
      const result = await (identified ? ingest : others).append({ ...encoded, unique })
      encoded.release()
      return result
    })
  }

  async #appendersNow(): Promise<{ readonly ingest: Appender; readonly others: Appender }> {
    this.#appenders ??= this.#makeAppenders()
    this.#appenders.catch(() => (this.#appenders = undefined))
    return await this.#appenders
  }

  async #makeAppenders(): Promise<{ readonly ingest: Appender; readonly others: Appender }> {
    const identities = await this.#topics.get('identities')
    // An identity's own schema never changes: it is written as single-object encoding always, and not read back.
    const serdes = new Serdes(identities.declaration.schema, () => undefined)
    const values = new Map<string, Buffer>()
    const identityValue = (topic: TopicName): Buffer => {
      const value = values.get(topic) ?? encodeValue(serdes, { topic })
      values.set(topic, value)
      return value
    }
    const parts = { client: this.#client, clock: this.#clock, reader: this.#reader, identities, identityValue }
    return {
      ingest: new Appender({ ...parts, transactionalId: `${this.#prefix}tributary-ingest`, keepsIdentities: true }),
      others: new Appender({ ...parts, transactionalId: `${this.#prefix}tributary-append`, keepsIdentities: false }),
    }
  }

  #schemaStore(): SchemaStore {
    const declaration = this.#declared.get('schemas')
    if (declaration === undefined) throw new Error('topic "schemas" is not declared')
    return schemaTopicStore(declaration.schema, {
      readToEnd: async (offset) => {
        const { kafka } = await this.#topics.get('schemas')
        const records = []
        const answers = this.#reader.toEnd(kafka, 0, offset)
        for (;;) {
          const { done, value } = await answers.next()
          if (done === true) return { records, next: value }
          records.push(...value.records)
        }
      },
      append: async (key, value) => {
        const topic = await this.#topics.get('schemas')
        const { others } = await this.#appendersNow()
        const record = { topic: topic.kafka, partition: 0, key, value, timestampMs: this.#clock.nowMs() }
        await others.append({ records: [record], topics: [topic], unique: false })
      },
    })
  }

  /* ------------------------------------------------------ reading ------------------------------------------------- */

  async describe(): Promise<readonly TopicInfo[]> {
    return await this.#guarded(async () => {
      const topics = (await this.#topics.refresh()).filter(({ declaration }) => !declaration.internal)
      return await Promise.all(topics.map((topic) => this.#describe(topic)))
    })
  }

  async #describe({ name, kafka, partitions, compacted }: Topic): Promise<TopicInfo> {
    const starts = await patiently(this.#clock, () => this.#client.admin.offsets(kafka, 'earliest'))
    const stable = await this.#reader.settled(kafka)
    if (compacted) return { topic: name, partitions, starts, ends: stable }
    // Behind the last record stand the marks of its transaction: who counts what is left must not count them.
    const ends = await Promise.all(stable.map((end, partition) => this.#reader.endOf(kafka, partition, starts[partition], end)))
    return { topic: name, partitions, starts, ends }
  }

  async read<Name extends TopicName>(name: Name, partition: number, offset: number, bounds: ReadBounds): Promise<readonly LogRecord<Name>[]> {
    return await this.#guarded(async () => {
      const topic = await this.#topics.get(name)
      if (!(Number.isInteger(partition) && partition >= 0 && partition < topic.partitions))
        throw new Error(`topic "${name}" has partitions 0 to ${topic.partitions - 1}, not ${partition}`)
      const counts = await this.#counting(name, partition)
      for (let next = offset; ; ) {
        const read = await this.#reader.read(topic.kafka, partition, next, bounds)
        if (name === 'documents')
          if (read.records.length === 0) this.#caughtUp.set(partition, read.next)
          else this.#caughtUp.delete(partition)
        if (read.records.length === 0) return []
        const decoded = await this.#topics.decode<Name>(topic, partition, read.records)
        const records = counts === undefined ? decoded : decoded.filter(counts)
        if (records.length > 0) return records
        next = read.next
      }
    })
  }

  /** Whether a record counts: not one that a run wrote before it was reset. Undefined: all do. */
  async #counting(name: TopicName, partition: number): Promise<((record: LogRecord) => boolean) | undefined> {
    if (name !== 'influence' && name !== 'dead-letters') return undefined
    if (this.#forgotten === undefined || this.#clock.nowMs() - this.#forgotten.atMs > FORGOTTEN_MS)
      this.#forgotten = { atMs: this.#clock.nowMs(), from: forgottenFrom(await this.#latest('forgotten', '')) }
    const { from } = this.#forgotten
    if (from.size === 0) return undefined
    return ({ value, offset }) => {
      const run = value !== undefined && 'run' in value ? value.run : null
      return run === null || offset >= (from.get(keyOf(run, partition))?.[name] ?? 0)
    }
  }

  async latest<Name extends TopicName>(name: Name, prefix = ''): Promise<readonly LogRecord<Name>[]> {
    return await this.#guarded(() => this.#latest(name, prefix))
  }

  async #latest<Name extends TopicName>(name: Name, prefix: string): Promise<readonly LogRecord<Name>[]> {
    const topic = await this.#topics.get(name)
    if (!topic.compacted) throw new Error(`topic "${name}" is not compacted: it has no newest values`)
    const found: LogRecord<Name>[] = []
    for (const [partition, records] of (await this.#views.newest(topic, prefix)).entries())
      found.push(...(await this.#topics.decode<Name>(topic, partition, records)))
    return found.sort((a, b) => (a.key < b.key ? -1 : 1))
  }

  async positions(run: RunId): Promise<readonly Position[]> {
    return await this.#guarded(async () => {
      const positions = new Map((await this.#latest('positions', keyOf(run, ''))).map(({ value }) => [value?.partition, value]))
      const { partitions } = await this.#topics.get('documents')
      return Array.from({ length: partitions }, (_, partition) => {
        const { offset = 0, detail = null } = positions.get(partition) ?? {}
        return detail === null ? { offset } : { offset, detail: JSON.parse(detail) as unknown }
      })
    })
  }

  /* ------------------------------------------------- owning and waiting --------------------------------------------- */

  async *assignments(run: RunId, { signal }: { readonly signal: AbortSignal }): AsyncIterable<Assignment> {
    if (signal.aborted) return
    this.#mustWrite()
    if (run === '' || Buffer.byteLength(run) > RUN_BYTES_MAX || /[\u0000-\u001f]/.test(run))
      throw new UserError(`"${run}" cannot name a run`, { fix: `use 1 to ${RUN_BYTES_MAX} printable characters` })
    const assignments = await this.#guarded(() => Assignments.join({
      client: this.#client, clock: this.#clock, reader: this.#reader, topics: this.#topics, cluster: this.#options.cluster, prefix: this.#prefix,
      readDocuments: (partition, offset, bounds) => this.read('documents', partition, offset, bounds),
    }, run))
    this.#assignments.add(assignments)
    const leave = (): void => void assignments.leave()
    signal.addEventListener('abort', leave)
    if (signal.aborted) leave()
    try {
      yield* assignments.offers()
    } finally {
      signal.removeEventListener('abort', leave)
      await assignments.leave()
    }
  }

  async forget(run: RunId): Promise<void> {
    this.#mustWrite()
    await this.#guarded(async () => {
      await forgetRun(run, {
        client: this.#client, clock: this.#clock, reader: this.#reader, topics: this.#topics, prefix: this.#prefix,
        appender: async () => (await this.#appendersNow()).others,
        rescored: async () => (await this.#latest('rescored', keyOf(run, ''))).map(({ key }) => key),
      })
      this.#forgotten = undefined
    })
  }

  async grown({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const ends = async (): Promise<readonly number[]> =>
      await this.#guarded(async () => {
        const topic = await this.#topics.find('documents')
        return topic === undefined ? [] : await patiently(this.#clock, () => this.#client.admin.offsets(topic.kafka, 'stable'))
      })
    const ended = AbortSignal.any([signal, this.#closing.signal])
    const before = await ends()
    // What came between a read that found the end and this call counts as grown.
    const missed = [...this.#caughtUp].filter(([partition, end]) => before[partition] > end)
    for (const [partition] of missed) this.#caughtUp.delete(partition)
    if (missed.length > 0) return
    while (!ended.aborted) {
      await this.#clock.sleep(POLL_MS, ended)
      if (ended.aborted) return
      if ((await ends()).some((end, partition) => end > (before[partition] ?? 0))) return
    }
  }

  lease(name: string, purpose: string): Lease {
    this.#mustWrite()
    if (this.#leases === undefined) throw new Error('the log was opened without a folder for leases')
    return this.#leases.lease(name, purpose)
  }

  #mustWrite(): void {
    if (this.#closing.signal.aborted) throw new Error('the log is closed')
    if (this.#options.readonly === true) throw new Error(`the log at ${this.#options.cluster} was opened for reading only`)
  }

  async #guarded<T>(action: () => Promise<T>): Promise<T> {
    return await guarded(this.#options.cluster, action)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort()
    await Promise.all([...this.#assignments].map((assignments) => assignments.close()))
    const appenders = await this.#appenders?.catch(() => undefined)
    await Promise.all([appenders?.ingest.close(), appenders?.others.close()])
    await this.#leases?.[Symbol.asyncDispose]()
    try {
      await this.#client[Symbol.asyncDispose]()
    } catch (error) {
      throw explained(error, this.#options.cluster)
    }
  }
}
