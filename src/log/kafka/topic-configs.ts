/** @file A declared topic (topics/*.yaml) as Kafka has it: name, partitions, configuration. */
import { VALUE_BYTES_MAX } from '../batch.js'
import type { TopicDeclaration } from '../declarations.js'
import type { NewKafkaTopic } from './client.js'

/** What a topic takes of one batch of records: the longest value there may be, and room for its key and head. */
export const MESSAGE_BYTES_MAX = VALUE_BYTES_MAX + (1 << 20)

export interface TopicPlacement {
  /** Before every name, so that several homes share a cluster; empty by default. */
  readonly prefix: string
  /** Of `documents` and of the topics that follow it. */
  readonly documentsPartitions: number
  /** Null: the broker's default. */
  readonly replicationFactor: number | null
  /** Null: the broker's default. */
  readonly minInsyncReplicas: number | null
}

/** @returns the topic as it is to be created, its configuration whole: setting it replaces all entries */
export const kafkaTopic = (
  { name, partitions, cleanup, retentionMs }: Pick<TopicDeclaration, 'name' | 'partitions' | 'cleanup' | 'retentionMs'>,
  { prefix, documentsPartitions, replicationFactor, minInsyncReplicas }: TopicPlacement,
): NewKafkaTopic => ({
  topic: prefix + name,
  partitions: name === 'documents' || partitions === 'documents' ? documentsPartitions : partitions,
  replicationFactor,
  configs: {
    'cleanup.policy': cleanup,
    'max.message.bytes': String(MESSAGE_BYTES_MAX),
    // Kafka's own default is a week; a topic that is kept for ever has to say so.
    ...(cleanup === 'delete' ? { 'retention.ms': String(retentionMs ?? -1) } : {}),
    ...(minInsyncReplicas === null ? {} : { 'min.insync.replicas': String(minInsyncReplicas) }),
  },
})
