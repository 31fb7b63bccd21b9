/** @file What brokers say of topics, where they differ: one has not heard yet of a topic, or a partition has no leader. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KafkaFault, isFault } from '../../../src/log/kafka/client.js'
import type { Broker, Cluster, TopicMetadata } from '../../../src/log/kafka/kafkajs/internals.js'
import { judged, leaderOf, topicsOf } from '../../../src/log/kafka/kafkajs/leaders.js'

const led = (topic: string, ...leaders: readonly number[]): TopicMetadata =>
  ({ topicErrorCode: 0, topic, partitionMetadata: leaders.map((leader, partitionId) => ({ partitionId, leader, replicas: [1] })) })

/** Brokers 0, 1, ... with what each answers; the first one is asked first. Undefined: it is away. */
const clusterOf = (...answers: readonly (readonly TopicMetadata[] | undefined)[]): Cluster => {
  const nothing = async (): Promise<void> => {}
  const brokerOf = async ({ nodeId }: { readonly nodeId: number }): Promise<Broker> => {
    const topicMetadata = answers[nodeId]
    if (topicMetadata === undefined) throw new Error(`node ${nodeId} is away`)
    const found: Pick<Broker, 'nodeId' | 'metadata'> = { nodeId, metadata: async () => ({ topicMetadata }) }
    return found as Broker
  }
  return {
    connect: nothing, disconnect: nothing, refreshMetadata: nothing, addMultipleTargetTopics: nothing, findBroker: brokerOf,
    getNodeIds: () => answers.map((_, i) => String(i)),
    brokerPool: {
      metadata: { topicMetadata: answers[0] ?? [] },
      findConnectedBroker: () => brokerOf({ nodeId: 0 }), createBroker: () => assert.fail('no broker is made here'),
    },
  }
}
const unknown = new KafkaFault('unknown-topic', 'this server does not host this', { resource: 'new' })

test('a topic that one broker does not list is there if another one lists it', async () => {
  const names = async (cluster: Cluster): Promise<readonly string[]> => (await topicsOf(cluster, ['old', 'new'])).map(({ topic }) => topic).sort()
  assert.deepEqual(await names(clusterOf([led('old', 1)], undefined, [led('old', 1), led('new', 1)])), ['new', 'old'])
  assert.deepEqual(await names(clusterOf([led('old', 1)], [led('old', 1)])), ['old'])
})

test('that a topic is unknown passes while any broker lists it, and is final when none does', async () => {
  assert.ok(isFault(await judged(clusterOf([], [led('new', 1)]), unknown), 'unavailable'))
  assert.equal(await judged(clusterOf([], []), unknown), unknown)
  assert.ok(isFault(await judged(clusterOf(undefined, []), unknown), 'unavailable'), 'whom nobody answers does not know')
  const other = new KafkaFault('fenced', 'another', { resource: 'new' })
  assert.equal(await judged(clusterOf([]), other), other)
})

test('a partition without a leader, or a topic that may not be seen, is no matter of the others', async () => {
  const cluster = clusterOf([led('frail', -1, 0), led('sound', 0), { topicErrorCode: 29, topic: 'closed', partitionMetadata: [] }])
  assert.equal((await leaderOf(cluster, 'sound', 0)).nodeId, 0)
  assert.equal((await leaderOf(cluster, 'frail', 1)).nodeId, 0)
  await assert.rejects(leaderOf(cluster, 'frail', 0), (error) => isFault(error, 'unavailable'))
  await assert.rejects(leaderOf(cluster, 'closed', 0), /Topic authorization failed/)
})
