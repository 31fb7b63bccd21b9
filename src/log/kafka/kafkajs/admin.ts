/** @file Topics, their configuration, offsets and groups: kafkajs's admin client, and ListOffsets for what it leaves out. */
import { setTimeout as sleep } from 'node:timers/promises'
import kafkajsFace, { type Admin } from 'kafkajs'
import { KafkaFault, isFault, type KafkaAdmin, type KafkaTopic, type OffsetKind } from '../client.js'
import { connect, timingsOf, type KafkajsOptions } from './connect.js'
import { faultOf } from './faults.js'
import { adminOf } from './internals.js'
import { again, leaderOf, onEach, topicsOf } from './leaders.js'

const { ConfigResourceTypes } = kafkajsFace // CommonJS: node sees no named exports

/** Longest wait for what the controller has accepted to be known everywhere: a minute was seen on several busy brokers. */
const settleMsMax = 120_000
const settlePauseMs = 50
/** DescribeConfigs: set for the topic itself. */
const topicConfig = 1

const timestamps: Readonly<Record<OffsetKind, { readonly timestamp: number; readonly isolationLevel: number }>> = {
  earliest: { timestamp: -2, isolationLevel: 1 },
  latest: { timestamp: -1, isolationLevel: 0 },
  stable: { timestamp: -1, isolationLevel: 1 },
}

export interface OwnAdmin {
  readonly admin: KafkaAdmin
  close(): Promise<void>
}

export const newAdmin = (options: KafkajsOptions): OwnAdmin => {
  const { requestMs } = timingsOf(options)
  const cluster = connect(options)
  const kafkajs = adminOf(cluster, { retries: 4, initialRetryTime: 50, maxRetryTime: 1000 })
  const call = async <Result>(resource: string, work: (admin: Admin) => Promise<Result>): Promise<Result> => {
    try {
      await cluster.connect()
      return await work(kafkajs)
    } catch (error) {
      throw faultOf(error, resource)
    }
  }

  const topics = async (names?: readonly string[]): Promise<readonly KafkaTopic[]> => again(cluster, 'the cluster', async () =>
    (await topicsOf(cluster, names)).map(({ topic, partitionMetadata }) => ({
      topic, partitions: partitionMetadata.length, replicationFactor: partitionMetadata[0].replicas.length,
    })))

  const partitionsOf = async (topic: string): Promise<number> => {
    const [found] = await topics([topic])
    if (found === undefined) throw new KafkaFault('unknown-topic', `there is no topic "${topic}"`, { resource: topic })
    return found.partitions
  }

  const offsetsFor = async (topic: string, { timestamp, isolationLevel }: { timestamp: number; isolationLevel: number }): Promise<readonly number[]> => {
    const count = await partitionsOf(topic)
    return Promise.all(Array.from({ length: count }, (_, partition) => again(cluster, topic, async () => {
      const broker = await leaderOf(cluster, topic, partition)
      const { responses } = await broker.listOffsets({ replicaId: -1, isolationLevel, topics: [{ topic, partitions: [{ partition, timestamp }] }] })
      return Number(responses[0].partitions[0].offset)
    })))
  }

  const settled = async (resource: string, done: () => Promise<boolean>): Promise<void> => {
    for (const endMs = Date.now() + settleMsMax; !(await done()); await sleep(settlePauseMs))
      if (Date.now() > endMs) throw new KafkaFault('unavailable', `${resource}: what was asked for is not there after ${settleMsMax / 1000} s`, { resource })
  }

  /** Every broker that answers knows all of its partitions, and each has a leader that answers: nobody is told that it is not there. */
  const usable = async (topic: string, partitions: number): Promise<boolean> => {
    try {
      const known = await again(cluster, topic, () => onEach(cluster, async (broker) =>
        (await broker.metadata([topic])).topicMetadata.find((one) => one.topic === topic)?.partitionMetadata.length ?? 0))
      if (known.some((count) => count < partitions)) return false
      return (await offsetsFor(topic, timestamps.latest)).length >= partitions
    } catch (error) {
      if (isFault(error, 'unknown-topic', 'unavailable')) return false
      throw error
    }
  }

  const admin: KafkaAdmin = {
    topics,
    configs: async (topic) => {
      const { resources } = await call(topic, (client) =>
        client.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] }))
      return Object.fromEntries(resources.flatMap(({ configEntries }) => configEntries)
        .filter((entry) => Number(entry.configSource) === topicConfig)
        .map(({ configName, configValue }) => [configName, configValue]))
    },
    createTopics: async (wanted) => {
      const there = new Set((await topics(wanted.map(({ topic }) => topic))).map(({ topic }) => topic))
      const missing = wanted.filter(({ topic }) => !there.has(topic))
      for (const { topic, partitions, replicationFactor, configs } of missing)
        await call(topic, (client) => client.createTopics({
          waitForLeaders: false, timeout: requestMs,
          topics: [{
            topic, numPartitions: partitions, replicationFactor: replicationFactor ?? -1,
            configEntries: Object.entries(configs).map(([name, value]) => ({ name, value })),
          }],
        }))
      for (const { topic, partitions } of missing) await settled(topic, () => usable(topic, partitions))
      return missing.map(({ topic }) => topic)
    },
    growTopic: async (topic, partitions) => {
      await call(topic, (client) => client.createPartitions({ topicPartitions: [{ topic, count: partitions }] }))
      await settled(topic, () => usable(topic, partitions))
    },
    setConfigs: async (topic, configs) => {
      await call(topic, (client) => client.alterConfigs({
        validateOnly: false,
        resources: [{
          type: ConfigResourceTypes.TOPIC, name: topic,
          configEntries: Object.entries(configs).map(([name, value]) => ({ name, value })),
        }],
      }))
    },
    deleteTopics: async (names) => {
      if (names.length === 0) return
      await call(names.join(), (client) => client.deleteTopics({ topics: [...names] }))
      await settled(names.join(), async () => (await topics(names)).length === 0)
    },
    offsets: (topic, kind) => offsetsFor(topic, timestamps[kind]),
    offsetsAt: async (topic, timestampMs) => {
      const found = await offsetsFor(topic, { timestamp: timestampMs, isolationLevel: 1 })
      const ends = await offsetsFor(topic, timestamps.stable)
      return found.map((offset, partition) => (offset < 0 ? ends[partition] : Math.min(offset, ends[partition])))
    },
    groupOffsets: async (group, topic) => {
      const count = await partitionsOf(topic)
      const found = await call(group, (client) => client.fetchOffsets({ groupId: group, topics: [topic] }))
      const offsets = new Map(found.flatMap(({ partitions }) => partitions).map(({ partition, offset }) => [partition, Number(offset)]))
      return Array.from({ length: count }, (_, partition) => {
        const offset = offsets.get(partition) ?? -1
        return offset < 0 ? null : offset
      })
    },
    groupMembers: async (group) => {
      const { groups } = await call(group, (client) => client.describeGroups([group]))
      return groups.find(({ groupId }) => groupId === group)?.members.length ?? 0
    },
    deleteGroups: async (groups) => {
      for (const group of groups)
        try {
          await cluster.connect()
          await kafkajs.deleteGroups([group])
        } catch (error) {
          const refusal = (error as { groups?: readonly { readonly error: Error & { readonly type?: string } }[] }).groups?.[0]?.error
          if (refusal?.type !== 'GROUP_ID_NOT_FOUND') throw faultOf(refusal ?? error, group)
        }
    },
  }
  return {
    admin,
    close: async () => {
      await cluster.disconnect().catch(() => {})
    },
  }
}
