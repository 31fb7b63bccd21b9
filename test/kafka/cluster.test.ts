/**
 * @file Three brokers, two workers, and documents that are still arriving, while the broker is killed that leads a partition,
 * coordinates the transactions, or coordinates the group; it comes back while they work. Topics have three replicas, of which
 * two must have a record. A consumer that is not ours finds every document once, and the tables that all scores at once come to.
 *
 *     TRIBUTARY_CLUSTER_ROUNDS=5 npm test -- kafka/cluster      more rounds of the three
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { runId } from '../../src/base/index.js'
import type { Log } from '../../src/log/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { connect } from '../../src/log/kafka/kafkajs/connect.js'
import { again, topicsOf } from '../../src/log/kafka/kafkajs/leaders.js'
import { hasCaughtUp } from '../../src/pipeline/caught-up.js'
import { withCluster, type TestNode } from '../log/kafka/broker.js'
import { consumerName } from './consumer.js'
import { assertCountedOnce, contentsOf, k, queries } from './counted.js'
import { trickleDocuments } from './documents.js'
import { processes, type Process } from './processes.js'
import type { WorkerOptions } from './worker.js'

const rounds = Number(process.env.TRIBUTARY_CLUSTER_ROUNDS ?? 1)
/** There before the workers start: chunks of many batches, so that a broker that is killed is killed in the middle of some. */
const documentsFirst = 240
/** Between two appends of the documents that arrive while they work, until the broker is back. */
const appendPauseMs = 100
const partitions = 3
const run = 'r'
const msMax = 120_000

/** A topic without replicas: a partition of it has no leader while its broker is away, which is nobody else's concern. */
const frail = 'frail'

/** Who is killed, as the leader of partition 0 of a topic: the cluster's own have one partition each. */
const victims = {
  'leads a partition': (prefix: string) => `${prefix}documents`,
  'coordinates transactions': () => '__transaction_state',
  'coordinates the group': () => '__consumer_offsets',
} as const

await withCluster('several brokers', (cluster) => {
  const all = processes()
  const watcher = connect({ brokers: cluster.addresses })
  before(async () => {
    await using client = kafkajsClient({ brokers: cluster.addresses })
    await client.admin.createTopics([{ topic: frail, partitions: cluster.nodes.length, replicationFactor: 1, configs: {} }])
  }, { timeout: 60_000 })
  after(async () => {
    await all.end()
    await watcher.disconnect()
  }, { timeout: 60_000 })

  /** The node that leads each partition; -1: none does. */
  const leadersOf = (topic: string): Promise<readonly number[]> => again(watcher, topic, async () => {
    const [{ partitionMetadata }] = await topicsOf(watcher, [topic])
    return partitionMetadata.toSorted((a, b) => a.partitionId - b.partitionId).map(({ leader }) => leader)
  })
  const leaderOf = async (topic: string): Promise<TestNode> => {
    const [leader] = await leadersOf(topic)
    return cluster.nodes.find(({ id }) => id === leader) ?? assert.fail(`partition 0 of ${topic} has no leader`)
  }

  /** Until it is so; no worker ends meanwhile. */
  const until = async (workers: readonly Process[], what: string, done: () => Promise<boolean>): Promise<void> => {
    for (const endMs = Date.now() + msMax; !(await done()); await sleep(100)) {
      const said = workers.map((worker) => worker.said()).join('\n')
      assert.ok(workers.every((worker) => worker.alive()), `a worker has ended: ${said}`)
      assert.ok(Date.now() < endMs, `${what} did not come within ${msMax / 1000} s: ${said}`)
    }
  }

  const start = (prefix: string): Process => {
    const options: WorkerOptions = {
      brokers: cluster.addresses, prefix, run, queries, k, sessionMs: 6_000, requestMs: 4_000, batchMs: 20, follow: true,
    }
    return all.start([fileURLToPath(new URL('worker.js', import.meta.url)), JSON.stringify(options)])
  }

  /** Resolves to the number of documents when all of them are scored. */
  const killed = async (log: Log, prefix: string, topic: string, seed: number): Promise<number> => {
    await trickleDocuments(log, { from: 0, end: documentsFirst, pauseMs: 0, seed })
    const workers = [start(prefix), start(prefix)]
    const back = new AbortController()
    const arriving = trickleDocuments(log, { from: documentsFirst, pauseMs: appendPauseMs, seed: seed + 1, signal: back.signal })
    try {
      await until(workers, 'the middle', async () => (await log.positions(runId(run))).every(({ offset, detail }) => offset > 0 || detail !== undefined))
      const victim = await leaderOf(topic)
      await victim.kill()
      await until(workers, 'a partition without a leader', async () => (await leadersOf(frail)).includes(-1))
      assert.ok((await log.describe()).length > 0, 'topics that have a leader are read while others have none')
      await victim.restart()
    } finally {
      back.abort()
      await arriving
    }
    await until(workers, 'the end', () => hasCaughtUp(log, runId(run)))
    for (const { child } of workers) child.kill('SIGTERM')
    for (const worker of workers) assert.equal((await worker.ended).code, 0, worker.said())
    return arriving
  }

  for (let round = 1; round <= rounds; round++)
    for (const [which, topicOf] of Object.entries(victims))
      test(`every document counts once when the broker dies that ${which}, read by ${consumerName}: round ${round}`, { timeout: 240_000 }, async (t) => {
        const prefix = `${which.replaceAll(' ', '-')}-${round}.`
        await using log = await kafkaLog(kafkajsClient({ brokers: cluster.addresses }), { cluster: 'the cluster', prefix, replicationFactor: 3, minInsyncReplicas: 2 })
        await log.ensureTopics({ partitions })
        const documents = await killed(log, prefix, topicOf(prefix), round)
        t.diagnostic(`${documents} documents`)
        assertCountedOnce(await contentsOf(cluster.addresses.join(), prefix), { run, documents, cheaply: true }, prefix)
      })
})
