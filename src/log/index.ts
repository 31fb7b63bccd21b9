/**
 * @file The log: topics of records in partitions, positions in them, and commits that are all or nothing. Knows Avro,
 * topics and keys; knows nothing of models, tensors or influence. The law it keeps: what a commit wrote, its records,
 * the state of the compacted topics and the position, is there together or not at all, whoever is killed and when;
 * and a record that was read once reads the same for ever.
 */
export type {
  AppendResult,
  Assignment,
  Commit,
  Lease,
  Log,
  LogRecord,
  NewRecord,
  Position,
  ReadBounds,
  TopicInfo,
} from './log.js'
export {
  keyOf,
  type DeadLetterValue,
  type DocumentValue,
  type ForgottenValue,
  type IdentityValue,
  type InfluenceValue,
  type MomentsValue,
  type PositionValue,
  type QueryValue,
  type RescoredValue,
  type RetryValue,
  type RunValue,
  type SchemaValue,
  type TableRowValue,
  type TablesValue,
  type TopicName,
  type TopicValues,
} from './topics.js'
export { KEY_BYTES_MAX, RecordRefused, VALUE_BYTES_MAX } from './batch.js'
export { declaredTopics, PARTITIONS_MAX, type TopicDeclaration } from './declarations.js'
export { embeddedLog, FORMAT_VERSION, type EmbeddedLogOptions } from './embedded.js'
export type { AvroSchema } from './avro-schema.js'
export type { Decoded } from './avro.js'
export { encodeValue, type CodecFactory, type SchemaStore, type ValueCodec } from './codec.js'
export { partitionOf } from './partition.js'
export { SchemaRegistry, wireFormat, type SchemaRegistryOptions } from './registry/index.js'
export { schemaTopicStore, type SchemaTopic } from './schema-topic.js'
export { Serdes, singleObject } from './single-object.js'
