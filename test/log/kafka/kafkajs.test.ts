/** @file The adapter on a real broker: what the port promises, where brokers and kafkajs make it hard. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFault, type Fetched, type KafkaClient, type KafkaFaultKind, type KafkaRecord, type Membership } from '../../../src/log/kafka/client.js'
import { kafkajsClient, type KafkajsOptions } from '../../../src/log/kafka/kafkajs.js'
import { USERS, withBroker } from './broker.js'

const at = (topic: string, partition: number, key: string, value: string | Buffer | null = key, timestampMs = 1000) =>
  ({ topic, partition, key, value: typeof value === 'string' ? Buffer.from(value) : value, timestampMs })
const nothing = { replicationFactor: 1, configs: {} }
const bounds = { bytesMax: 1 << 20, waitMsMax: 0 }
const faulty = (...kinds: readonly KafkaFaultKind[]) => (error: unknown): boolean => {
  assert.ok(isFault(error, ...kinds), `${kinds.join(' or ')} is wanted, not ${String((error as { kind?: string }).kind)}: ${String(error)}`)
  return true
}

/** Everything committed in a partition, and where it ends; a commit is seen a little after it was confirmed. */
const readAll = async (client: KafkaClient, topic: string, partition: number, bytesMax = 1 << 20): Promise<{ records: KafkaRecord[]; next: number }> => {
  const records: KafkaRecord[] = []
  const [end] = await client.admin.offsets(topic, 'latest').then((ends) => ends.slice(partition))
  await until(async () => (await client.admin.offsets(topic, 'stable'))[partition] >= end, 'what was committed')
  for (let next = 0; ;) {
    const got: Fetched = await client.fetch(topic, partition, next, { bytesMax, waitMsMax: 0 })
    records.push(...got.records)
    if (got.next === next) return { records, next }
    next = got.next
  }
}

const until = async (done: () => boolean | Promise<boolean>, what: string): Promise<void> => {
  for (const endMs = Date.now() + 60_000; !(await done()); await new Promise((resolve) => setTimeout(resolve, 50)))
    assert.ok(Date.now() < endMs, `${what} did not come`)
}

await withBroker('the kafkajs adapter', { secure: true, kill: true }, (broker) => {
  let count = 0
  const check = (title: string, body: (client: KafkaClient, topic: string) => Promise<void>, options: Partial<KafkajsOptions> = {}): void => {
    const topic = `t${count++}`
    test(title, { timeout: 120_000 }, async () => {
      const client = kafkajsClient({ brokers: [broker.plaintext], sessionMs: 6000, heartbeatMs: 300, ...options })
      try {
        await body(client, topic)
      } finally {
        await client[Symbol.asyncDispose]()
      }
    })
  }

  check('aborted records of several producers on one partition never show, and a reader gets past them', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 1, ...nothing }])
    const other = `${topic}-full`
    await client.admin.createTopics([{ topic: other, partitions: 1, ...nothing, configs: { 'max.message.bytes': '2000' } }])
    const kept: string[] = []
    for (let round = 0; round < 12; round++) {
      const producers = await Promise.all([0, 1, 2, 3].map((i) => client.producer(`${topic}-${i}`)))
      await Promise.all(producers.map(async (producer, i) => {
        const fails = (round + i) % 3 === 0
        const key = `${round}-${i}`
        const records = [at(topic, 0, key), ...(fails ? [at(other, 0, 'big', 'x'.repeat(5000))] : [at(topic, 0, `${key}b`)])]
        if (!fails) kept.push(key, `${key}b`)
        const result = producer.transaction(records)
        if (fails) await assert.rejects(result, faulty('too-large'))
        else await result
        await producer.close()
      }))
    }
    for (const bytesMax of [1, 400, 1 << 20]) {
      const { records, next } = await readAll(client, topic, 0, bytesMax)
      assert.deepEqual(records.map(({ key }) => key).sort(), kept.slice().sort())
      assert.equal(next, (await client.admin.offsets(topic, 'latest'))[0], 'the end is reached behind the last marker')
    }
  })

  check('a transaction says where its records end, and its group offsets go with it', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 2, ...nothing }])
    const producer = await client.producer(topic)
    assert.deepEqual(await producer.transaction([]), [])
    const written = await producer.transaction(
      [at(topic, 0, 'a'), at(topic, 1, 'b'), at(topic, 0, 'ü', null, 5)],
      { group: topic, topic, offsets: [{ partition: 1, offset: 7 }] },
    )
    assert.deepEqual(written.toSorted((a, b) => a.partition - b.partition), [{ topic, partition: 0, end: 2 }, { topic, partition: 1, end: 1 }])
    assert.deepEqual((await readAll(client, topic, 0)).records, [
      { offset: 0, key: 'a', value: Buffer.from('a'), timestampMs: 1000 }, { offset: 1, key: 'ü', value: null, timestampMs: 5 },
    ])
    await until(async () => (await client.admin.groupOffsets(topic, topic))[1] === 7, 'the offset')
    assert.deepEqual(await client.admin.groupOffsets(topic, topic), [null, 7])
    for (let i = 0; i < 20; i++) await producer.transaction([at(topic, 0, `k${i}`)])
    assert.equal((await readAll(client, topic, 0)).records.length, 22)
    await client.admin.deleteGroups([topic, 'no such group'])
    assert.deepEqual(await client.admin.groupOffsets(topic, topic), [null, null])
  })

  check('a producer of the same id fences the one before it', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 1, ...nothing }])
    const zombie = await client.producer(topic)
    await zombie.transaction([at(topic, 0, 'a')])
    const owner = await client.producer(topic)
    await assert.rejects(zombie.transaction([at(topic, 0, 'zombie')]), faulty('fenced'))
    await assert.rejects(zombie.transaction([at(topic, 0, 'zombie')]), faulty('closed'))
    await owner.transaction([at(topic, 0, 'b')])
    assert.deepEqual((await readAll(client, topic, 0)).records.map(({ key }) => key), ['a', 'b'])
  })

  check('more than one send takes in one transaction, and records of megabytes', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 1, ...nothing, configs: { 'max.message.bytes': String(17 << 20) } }])
    const producer = await client.producer(topic)
    const records = Array.from({ length: 60 }, (_, i) => at(topic, 0, `k${i}`, Buffer.alloc(50_000, i)))
    await producer.transaction([...records, at(topic, 0, 'long', Buffer.alloc(16 << 20, 7))])
    const { records: read } = await readAll(client, topic, 0, 1000)
    assert.equal(read.length, 61)
    assert.ok(read.every(({ offset }, i) => offset === i))
    assert.equal(read[60].value?.length, 16 << 20)
    assert.deepEqual(read[5].value, records[5].value)
  })

  check('topics: created, described, grown, set, deleted; what is wrong is said', async (client, topic) => {
    const { admin } = client
    const configs = { 'cleanup.policy': 'compact', 'max.message.bytes': '5000000' }
    assert.deepEqual(await admin.createTopics([{ topic, partitions: 2, replicationFactor: null, configs }]), [topic])
    assert.deepEqual(await admin.createTopics([{ topic, partitions: 2, replicationFactor: null, configs }]), [])
    assert.deepEqual(await admin.configs(topic), configs)
    await admin.growTopic(topic, 3)
    assert.deepEqual(await admin.topics([topic, 'none']), [{ topic, partitions: 3, replicationFactor: 1 }])
    await admin.setConfigs(topic, { 'retention.ms': '77' })
    await until(async () => (await admin.configs(topic))['retention.ms'] === '77', 'the setting')
    assert.deepEqual(await admin.configs(topic), { 'retention.ms': '77' })
    await admin.deleteTopics([topic])
    await assert.rejects(admin.offsets(topic, 'latest'), faulty('unknown-topic'))
    await assert.rejects(client.fetch(topic, 0, 0, bounds), faulty('unknown-topic'))
    await assert.rejects(admin.createTopics([{ topic, partitions: 1, replicationFactor: 3, configs: {} }]), faulty('invalid'))
    await assert.rejects(admin.createTopics([{ topic, partitions: 1, ...nothing, configs: { 'cleanup.policy': 'never' } }]), faulty('invalid'))
  })

  check('offsets by kind and by time; behind the end is out of range', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 2, ...nothing }])
    const producer = await client.producer(topic)
    await producer.transaction([at(topic, 0, 'a', 'a', 100), at(topic, 0, 'b', 'b', 200)])
    assert.deepEqual(await client.admin.offsets(topic, 'earliest'), [0, 0])
    await until(async () => (await client.admin.offsets(topic, 'stable'))[0] === 3, 'the stable end')
    assert.deepEqual(await client.admin.offsets(topic, 'latest'), [3, 0])
    assert.deepEqual(await client.admin.offsetsAt(topic, 150), [1, 0])
    // The commit marker at offset 2 has a time too: that of the broker.
    assert.deepEqual(await client.admin.offsetsAt(topic, Date.now() + 86_400_000), [3, 0])
    assert.deepEqual((await client.fetch(topic, 0, 3, bounds)).records, [])
    await assert.rejects(client.fetch(topic, 0, 99, bounds), faulty('out-of-range'))
  })

  check('a member keeps its partitions over slow work; a second one takes half of them and moves no others', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 4, ...nothing }])
    const seen: { first: Membership[]; second: Membership[] } = { first: [], second: [] }
    const watch = async (into: Membership[], memberships: AsyncIterable<Membership>): Promise<void> => {
      for await (const membership of memberships) into.push(membership)
    }
    const first = await client.join(topic, topic)
    const firstEnds = watch(seen.first, first.memberships)
    await until(() => seen.first.length === 1, 'the first assignment')
    assert.deepEqual(seen.first[0].partitions, [0, 1, 2, 3])
    await new Promise((resolve) => setTimeout(resolve, 7000)) // longer than the session
    await first.verify()
    assert.equal(seen.first.length, 1)
    const second = await client.join(topic, topic)
    const secondEnds = watch(seen.second, second.memberships)
    await until(() => seen.second.at(-1)?.partitions.length === 2 && seen.first.at(-1)?.partitions.length === 2, 'half of them')
    assert.deepEqual([seen.first.at(-1)?.partitions, seen.second.at(-1)?.partitions], [[0, 1], [2, 3]])
    assert.equal(await client.admin.groupMembers(topic), 2)
    await first.leave()
    await firstEnds
    await until(() => seen.second.at(-1)?.partitions.length === 4, 'all of them')
    await second.leave()
    await secondEnds
    await assert.rejects(second.verify(), faulty('evicted', 'unreachable'))
    assert.equal(await client.admin.groupMembers(topic), 0)
  })

  check('a member that is not heard of for a session is told that it was evicted, and joins again', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 1, ...nothing }])
    const seen: Membership[] = []
    const member = await client.join(topic, topic)
    const ends = (async () => {
      for await (const membership of member.memberships) seen.push(membership)
    })()
    await until(() => seen.length === 1, 'the assignment')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000) // as SIGSTOP: no timer runs
    await assert.rejects(member.verify(), faulty('evicted'))
    await until(() => seen.length === 3, 'the eviction and the next assignment')
    assert.deepEqual(seen.map(({ partitions }) => partitions), [[0], [], [0]])
    assert.ok(seen[2].generation > seen[0].generation)
    await member.leave()
    await ends
  }, { sessionMs: 1500, heartbeatMs: 200 })

  const closes = async (options: Partial<KafkajsOptions>, kind: KafkaFaultKind, message: RegExp): Promise<void> => {
    const client = kafkajsClient({ brokers: [broker.plaintext], ...options })
    try {
      await assert.rejects(client.admin.topics(), (error) => faulty(kind)(error) && message.test((error as Error).message) || assert.fail(String(error)))
    } finally {
      await client[Symbol.asyncDispose]()
    }
  }
  const ca = broker.authority?.certificate ?? ''
  const withCa = { ca, cert: null, key: null }

  for (const mechanism of ['plain', 'scram-sha-256', 'scram-sha-512'] as const)
    test(`SASL ${mechanism}, with TLS and without; a wrong password is said`, { timeout: 60_000 }, async () => {
      const sasl = { mechanism, username: 'writer', password: USERS.writer }
      for (const options of [{ brokers: [broker.sasl], sasl }, { brokers: [broker.saslTls], sasl, tls: withCa }]) {
        const client = kafkajsClient(options)
        await client.admin.topics()
        await client[Symbol.asyncDispose]()
      }
      await closes({ brokers: [broker.sasl], sasl: { ...sasl, password: 'wrong' } }, 'authentication', /./)
      await closes({ brokers: [broker.saslTls], sasl: { ...sasl, password: 'wrong' }, tls: withCa }, 'authentication', /./)
    })

  test('TLS with a client\'s certificate; one of another authority, on either side, and a plaintext port are said', { timeout: 60_000 }, async () => {
    assert.ok(broker.authority)
    const { certificate, key } = broker.authority.issue('writer')
    const client = kafkajsClient({ brokers: [broker.tls], tls: { ca, cert: certificate, key } })
    await client.admin.topics()
    await client[Symbol.asyncDispose]()
    const { newAuthority } = await import('./broker/certificates.js')
    const stranger = newAuthority('another')
    await closes({ brokers: [broker.tls], tls: { ca: stranger.certificate, cert: certificate, key } }, 'tls', /certificate/i)
    const wrong = stranger.issue('writer')
    await closes({ brokers: [broker.tls], tls: { ca, cert: wrong.certificate, key: wrong.key } }, 'tls', /./)
    await closes({ brokers: [broker.plaintext], tls: withCa }, 'tls', /./)
  })

  test('a missing ACL is said, with what it is on', { timeout: 60_000 }, async () => {
    const sasl = { mechanism: 'scram-sha-512', username: 'stranger', password: USERS.stranger } as const
    const owner = kafkajsClient({ brokers: [broker.plaintext] })
    await owner.admin.createTopics([{ topic: 'closed-topic', partitions: 1, ...nothing }])
    const client = kafkajsClient({ brokers: [broker.sasl], sasl })
    try {
      await assert.rejects(client.fetch('closed-topic', 0, 0, bounds), faulty('not-authorized'))
      await assert.rejects(client.producer('closed-id'), faulty('not-authorized'))
      await assert.rejects(client.admin.createTopics([{ topic: 'new', partitions: 1, ...nothing }]), faulty('not-authorized'))
    } finally {
      await client[Symbol.asyncDispose]()
      await owner[Symbol.asyncDispose]()
    }
  })

  test('nobody at the address is said', { timeout: 60_000 }, () => closes({ brokers: ['127.0.0.1:1'] }, 'unreachable', /ECONNREFUSED|connect/i))

  check('a broker that is killed and comes back: nothing acknowledged is lost, and the client goes on', async (client, topic) => {
    await client.admin.createTopics([{ topic, partitions: 1, ...nothing }])
    const producer = await client.producer(topic)
    await producer.transaction([at(topic, 0, 'before')])
    await broker.kill()
    await assert.rejects(producer.transaction([at(topic, 0, 'during')]), faulty('unknown-outcome', 'unreachable'))
    await assert.rejects(client.fetch(topic, 0, 0, bounds), faulty('unreachable', 'unavailable'))
    await broker.restart()
    const next = await client.producer(topic)
    await next.transaction([at(topic, 0, 'after')])
    assert.deepEqual((await readAll(client, topic, 0)).records.map(({ key }) => key), ['before', 'after'])
  })
})
