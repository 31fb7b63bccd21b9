/** @file The declared topics as they are on the cluster, and their records to bytes and back. */
import { UserError } from '../../base/index.js'
import { Encoder } from '../batch.js'
import type { CodecFactory, ValueCodec } from '../codec.js'
import type { TopicDeclaration } from '../declarations.js'
import type { LogRecord, NewRecord } from '../log.js'
import { partitionOf } from '../partition.js'
import type { TopicName, TopicValues } from '../topics.js'
import type { KafkaClient, KafkaRecord, ProducerRecord } from './client.js'
import { patiently, type Clock } from './faults.js'

/** A declared topic that is on the cluster. */
export interface Topic {
  readonly name: TopicName
  /** Its name on the cluster. */
  readonly kafka: string
  readonly partitions: number
  readonly compacted: boolean
  readonly declaration: TopicDeclaration
  readonly codec: ValueCodec
}

/** Records as they are sent, in the order they were given; their values share the encoder's memory. */
export interface Encoded {
  readonly records: readonly ProducerRecord[]
  /** A record's topic each. */
  readonly topics: readonly Topic[]
  /** Gives the memory back: call when nothing is sent any more. */
  release(): void
}

export interface TopicsParts {
  readonly client: KafkaClient
  readonly clock: Clock
  readonly prefix: string
  readonly cluster: string
  readonly declared: ReadonlyMap<TopicName, TopicDeclaration>
  readonly codecs: CodecFactory
}

export class Topics {
  readonly #parts: TopicsParts
  #known = new Map<TopicName, Topic>()

  constructor(parts: TopicsParts) {
    this.#parts = parts
  }

  /** Looks again which topics there are. In the order of their declarations. */
  async refresh(): Promise<readonly Topic[]> {
    const { client, clock, prefix, declared, codecs } = this.#parts
    const found = await patiently(clock, () => client.admin.topics([...declared.keys()].map((name) => prefix + name)))
    const partitions = new Map(found.map((topic) => [topic.topic, topic.partitions]))
    const known = new Map<TopicName, Topic>()
    for (const [name, declaration] of declared) {
      const kafka = prefix + name
      const count = partitions.get(kafka)
      if (count === undefined) continue
      const codec = this.#known.get(name)?.codec ?? codecs({ name: kafka, schema: declaration.schema })
      known.set(name, { name, kafka, partitions: count, compacted: declaration.cleanup === 'compact', declaration, codec })
    }
    this.#known = known
    return [...known.values()]
  }

  /** A topic that is there. Known ones are not asked for again. */
  async find(name: TopicName): Promise<Topic | undefined> {
    if (!this.#known.has(name)) await this.refresh()
    return this.#known.get(name)
  }

  /** @throws UserError if it is not there */
  async get(name: TopicName): Promise<Topic> {
    const topic = await this.find(name)
    if (topic !== undefined) return topic
    const { cluster, prefix } = this.#parts
    throw new UserError(`${cluster} has no topic "${prefix}${name}" yet`, { fix: 'tributary topics apply (if it is there: an ACL is missing, Describe on the topic)' })
  }

  /** The compacted topics that lie as `documents` do and hold what a worker goes on from, positions included. */
  async states(): Promise<readonly Topic[]> {
    const names = [...this.#parts.declared.values()].filter(({ cleanup, partitions }) => cleanup === 'compact' && partitions === 'documents')
    return await Promise.all(names.map(({ name }) => this.get(name)))
  }

  /**
   * @param home the partition of an assignment, for topics that lie as `documents` do
   * @throws RecordRefused for a record over the bounds or off its schema
   */
  async encode(records: readonly NewRecord[], home?: number): Promise<Encoded> {
    const used = new Map<TopicName, Topic>()
    for (const name of new Set(records.map(({ topic }) => topic))) used.set(name, await this.get(name))
    for (const { codec } of used.values()) await codec.prepareToWrite()
    const topics = records.map(({ topic }) => used.get(topic) ?? unknown(topic))
    const encoder = new Encoder()
    records.forEach(({ topic, key, value }, i) => {
      if (value === null && !topics[i].compacted) throw new Error(`topic "${topic}" is not compacted: it takes no tombstone (key "${key}")`)
      encoder.add(topic, key, value, topics[i].codec)
    })
    const timestampMs = this.#parts.clock.nowMs()
    const { bytes, starts, ends, keys } = encoder
    const encoded = records.map(({ key, value, partition }, i): ProducerRecord => {
      const { name, kafka, partitions, declaration } = topics[i]
      if (partition !== undefined && !(Number.isInteger(partition) && partition >= 0 && partition < partitions))
        throw new Error(`topic "${name}" has partitions 0 to ${partitions - 1}, not ${partition}`)
      const from = starts[i] + 4 + keys[i]
      const spread = declaration.partitions === 'documents' ? home : undefined
      return {
        topic: kafka,
        partition: partition ?? spread ?? partitionOf(bytes.subarray(starts[i] + 4, from), partitions),
        key,
        value: value === null ? null : bytes.subarray(from, ends[i]),
        timestampMs,
      }
    })
    return { records: encoded, topics, release: () => encoder.recycle() }
  }

  /** Records of one partition, decoded; tombstones are left out. */
  async decode<Name extends TopicName>(topic: Topic, partition: number, records: readonly KafkaRecord[]): Promise<readonly LogRecord<Name>[]> {
    const { codec } = topic
    await codec.prepareToRead(records.map(({ value }) => value))
    const decoded: LogRecord<Name>[] = []
    for (const { offset, timestampMs, key, value } of records) {
      if (value === null) continue
      const head = { topic: topic.name as Name, partition, offset, key, timestampMs }
      const result = codec.decode(value, 0, value.length)
      if ('value' in result) decoded.push({ ...head, value: result.value as TopicValues[Name] })
      else decoded.push({ ...head, value: undefined, raw: new Uint8Array(value), problem: result.problem })
    }
    return decoded
  }
}

const unknown = (topic: TopicName): never => {
  throw new Error(`topic "${topic}" is not known`)
}
