/** @file The insides of kafkajs that src/log/kafka/kafkajs/internals.ts leans on: another version has to be looked at anew. */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { packageRoot } from '../../../src/base/index.js'
import { KAFKAJS_VERSION, MemberAssignment, MemberMetadata, createErrorFromCode, newCluster, newEncoder } from '../../../src/log/kafka/kafkajs/internals.js'
import { assign } from '../../../src/log/kafka/kafkajs/assign.js'

const require = createRequire(import.meta.url)

test('kafkajs is pinned to the version whose insides are used', () => {
  const { dependencies } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { dependencies: Record<string, string> }
  assert.equal(dependencies.kafkajs, KAFKAJS_VERSION)
  assert.equal((require('kafkajs/package.json') as { version: string }).version, KAFKAJS_VERSION)
})

test('its encoder, group protocol, errors and cluster are as they were', async () => {
  const bytes = newEncoder().writeInt8(1).writeInt16(2).writeInt32(3).writeInt64(4).writeString('é')
    .writeArray([newEncoder().writeInt32(5)]).buffer
  assert.equal(Buffer.from(bytes).toString('hex'), '010002000000030000000000000004' + '0002c3a9' + '0000000100000005')
  const userData = Buffer.from('own')
  assert.deepEqual(MemberMetadata.decode(MemberMetadata.encode({ version: 0, topics: ['t'], userData })), { version: 0, topics: ['t'], userData })
  assert.deepEqual(MemberAssignment.decode(MemberAssignment.encode({ version: 0, assignment: { t: [2, 1] }, userData }))?.assignment, { t: [2, 1] })
  assert.equal((createErrorFromCode(47) as Error & { type: string }).type, 'INVALID_PRODUCER_EPOCH')
  const cluster = newCluster({
    brokers: ['127.0.0.1:1'], clientId: 'test', ssl: undefined, sasl: undefined, connectionTimeout: 100, authenticationTimeout: 100,
    reauthenticationThreshold: 100, requestTimeout: 100, enforceRequestTimeout: true, metadataMaxAge: 100,
    retry: { retries: 0, initialRetryTime: 1, maxRetryTime: 1 }, allowAutoTopicCreation: false, maxInFlightRequests: null, isolationLevel: 1,
  })
  for (const name of ['connect', 'disconnect', 'refreshMetadata', 'addMultipleTargetTopics', 'getNodeIds', 'findBroker'] as const)
    assert.equal(typeof cluster[name], 'function', name)
  assert.equal(typeof cluster.brokerPool.findConnectedBroker, 'function')
  assert.equal(cluster.brokerPool.metadata, null)
  await assert.rejects(cluster.connect())
  await cluster.disconnect()
})

test('assigned partitions stay where they are, as evenly as can be', () => {
  const of = (claims: Parameters<typeof assign>[0], count: number): object => Object.fromEntries(assign(claims, Array.from({ length: count }, (_, i) => i)))
  const claim = (member: string, owned: readonly number[] = [], generation = owned.length > 0 ? 1 : -1) => ({ member, owned, generation })
  assert.deepEqual(of([claim('a')], 3), { a: [0, 1, 2] })
  assert.deepEqual(of([claim('a', [0, 1, 2, 3]), claim('b')], 4), { a: [0, 1], b: [2, 3] })
  assert.deepEqual(of([claim('a', [0, 3]), claim('b', [1, 2])], 4), { a: [0, 3], b: [1, 2] })
  assert.deepEqual(of([claim('a', [0, 1, 2]), claim('b', [3, 4]), claim('c')], 5), { a: [0, 1], b: [3, 4], c: [2] })
  assert.deepEqual(of([claim('a', [0, 1], 3), claim('b', [0, 1], 2)], 2), { a: [0], b: [1] }, 'the later generation has it')
  assert.deepEqual(of([claim('a'), claim('b'), claim('c')], 2), { a: [0], b: [1], c: [] })
  assert.deepEqual(of([claim('a', [7])], 1), { a: [0] }, 'what is no partition is not kept')
})
