/**
 * @file The log on Apache Kafka, over a small port (client.ts) that an adapter of a client library implements. Knows
 * Kafka's transactions, groups and offsets; knows nothing of any library. The law it keeps is the log's own, whoever is
 * paused, killed or cut off, and whichever answer is lost.
 */
export * from './client.js'
export { guarded, type Clock } from './faults.js'
export { kafkaLog, type KafkaLogOptions } from './kafka-log.js'
export { REQUEST_BYTES_MAX, sendsOf, sizeOf } from './sends.js'
export { MESSAGE_BYTES_MAX, kafkaTopic, type TopicPlacement } from './topic-configs.js'
export { actualTopics, carryOut, planAt } from './topic-admin.js'
export { planTopics, stepText, type ActualTopic, type Difference, type Refusal, type Step, type TopicPlan, type Wanted } from './topic-plan.js'
