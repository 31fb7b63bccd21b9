/** @file What ends a worker, on a cluster in memory: errors that no other try mends, one that never passes, and brokers that do not answer. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TransientError, UserError } from '../../../src/base/index.js'
import type { Assignment, Log } from '../../../src/log/index.js'
import { KafkaFault, kafkaLog, type Clock, type KafkaClient, type KafkaFaultKind } from '../../../src/log/kafka/index.js'
import { RUN, document, tables } from '../records.js'
import { FakeCluster } from './fake.js'

/** Every sleep takes as long as it says, and no time at all. */
const newClock = (): Clock => {
  let nowMs = 1e12
  return {
    nowMs: () => nowMs,
    sleep: async (ms) => {
      nowMs += ms
      await new Promise((resolve) => setImmediate(resolve))
    },
    random: () => 0.5,
  }
}

const commitOnce = async (assignment: Assignment): Promise<void> => {
  await assignment.restore()
  await assignment.commit({ append: [tables(assignment.partition, 1)], position: { offset: 1 } })
}

interface Outcome {
  readonly tries: number
  readonly error: unknown
}

/** A worker that commits once for each assignment, until it has no more. */
const outcomeOf = async (client: KafkaClient, clock: Clock, before: (log: Log) => Promise<void> = async () => {}): Promise<Outcome> => {
  await using log = await kafkaLog(client, { cluster: 'the cluster', clock })
  const stop = new AbortController()
  let tries = 0
  try {
    for await (const assignment of log.assignments(RUN, { signal: stop.signal })) {
      tries++
      await before(log)
      await commitOnce(assignment).then(() => stop.abort(), () => undefined)
    }
    return { tries, error: undefined }
  } catch (error) {
    return { tries, error }
  }
}

/** A cluster whose transactions fail, after so many, so many times. */
const failing = async (kind: KafkaFaultKind, { after, times }: { after: number; times: number }): Promise<{ readonly client: KafkaClient; readonly clock: Clock }> => {
  const cluster = new FakeCluster()
  const clock = newClock()
  {
    await using log = await kafkaLog(cluster.client(), { cluster: 'the cluster', clock })
    await log.ensureTopics({ partitions: 1 })
    await log.append([document('d')])
  }
  const inner = cluster.client()
  let left = times
  const client: KafkaClient = {
    admin: inner.admin, fetch: inner.fetch, join: inner.join, [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    producer: async (id) => {
      const producer = await inner.producer(id)
      let done = 0
      return {
        close: () => producer.close(),
        transaction: async (records, offsets) => {
          if (id.includes(RUN) && done++ >= after && left-- > 0) throw new KafkaFault(kind, 'so it is', { resource: 'this' })
          return await producer.transaction(records, offsets)
        },
      }
    },
  }
  return { client, clock }
}

for (const kind of ['not-authorized', 'unknown-topic', 'too-large', 'authentication', 'invalid'] as const)
  for (const [what, after] of [['restored', 0], ['committed', 1]] as const)
    test(`a partition that cannot be ${what} (${kind}) ends the worker at the first try, with what is wrong and a fix`, async () => {
      const { client, clock } = await failing(kind, { after, times: Infinity })
      const { tries, error } = await outcomeOf(client, clock)
      assert.equal(tries, 1)
      assert.ok(error instanceof UserError, String(error))
      assert.match(error.message, /"this"[^]*so it is|refuses the credentials[^]*so it is/)
      assert.ok(error.fix)
    })

for (const kind of ['fenced', 'unknown-outcome', 'evicted', 'unavailable', 'unreachable'] as const)
  test(`what may pass (${kind}) is tried again, and goes on when it has passed`, async () => {
    const { client, clock } = await failing(kind, { after: 1, times: 20 })
    assert.deepEqual(await outcomeOf(client, clock), { tries: 21, error: undefined })
  })

test('what never passes ends the worker after some minutes, with its cause', async () => {
  const { client, clock } = await failing('unknown-outcome', { after: 1, times: Infinity })
  const fromMs = clock.nowMs()
  const { error } = await outcomeOf(client, clock)
  assert.ok(error instanceof UserError && !(error instanceof TransientError), String(error))
  assert.match(error.message, /partition 0 of run "[^"]+" can be worked on no more[^]*so it is/)
  assert.ok(clock.nowMs() - fromMs > 180_000 && clock.nowMs() - fromMs < 300_000)
})

test('a cluster that answers nobody is waited for a minute', async () => {
  const clock = newClock()
  await using log = await kafkaLog(new FakeCluster().client(async () => 'request lost'), { cluster: 'the cluster', clock })
  const fromMs = clock.nowMs()
  await assert.rejects(log.describe(), (error) => error instanceof UserError && /no broker of the cluster answers/.test(error.message))
  assert.ok(clock.nowMs() - fromMs > 60_000 && clock.nowMs() - fromMs < 70_000)
})

test('failures far apart are no row of failures, however many they are', async () => {
  const { client, clock } = await failing('unknown-outcome', { after: 1, times: 50 })
  assert.deepEqual(await outcomeOf(client, clock, async () => clock.sleep(200_000)), { tries: 51, error: undefined })
})
