/**
 * @file What others see of our topics on a real broker: consumers that are not ours, with Avro that is not ours, in both
 * formats; and what the others of a group see of a worker that is asked to end.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { after, test } from 'node:test'
import { packageRoot, runId } from '../../src/base/index.js'
import { SchemaRegistry, wireFormat, type Log } from '../../src/log/index.js'
import { kafkaLog, type KafkaLogOptions } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { tagged } from '../log/independent/cases.js'
import { pythonWithFastavro } from '../log/independent/python.js'
import { withBroker } from '../log/kafka/broker.js'
import { testRegistry } from '../log/registry/server.js'
import { scoreCheaply } from './cheap-parts.js'
import { consumers, type Consumed } from './consumer.js'
import { appendDocuments } from './documents.js'
import { processes, type Process } from './processes.js'
import type { WorkerOptions } from './worker.js'

const queries = ['a', 'b']
const schemaOf = (name: string): unknown => JSON.parse(readFileSync(join(packageRoot(), 'schemas', `${name}.avsc`), 'utf8')) as unknown

/** A run over some documents, in this process. */
const scored = async (brokers: readonly string[], options: Omit<KafkaLogOptions, 'cluster'>): Promise<Log> => {
  const log = await kafkaLog(kafkajsClient({ brokers }), { cluster: 'the broker', ...options })
  await log.ensureTopics({ partitions: 2 })
  await appendDocuments(log, 60)
  await scoreCheaply({ log, run: 'r', queries, k: 5 })
  return log
}

await withBroker('readers that are not ours', {}, (broker) => {
  const all = processes()
  after(() => all.end(), { timeout: 60_000 })

  /** What the consumer and fastavro make of a topic, against what our log reads of it. */
  const compare = async (log: Log, prefix: string, python: string, schemas: object, read: (brokers: string, topic: string) => Promise<readonly Consumed[]>): Promise<void> => {
    const found = new Map<string, readonly Consumed[]>()
    for (const topic of ['influence', 'tables'] as const)
      found.set(topic, (await read(broker.plaintext, prefix + topic)).filter(({ key, value }) => value !== null && !key.startsWith('\u001f')))
    const lines = [...found.values()].flat().map(({ value }) => value?.toString('hex'))
    const { stdout, stderr, status } = spawnSync(python, [join(packageRoot(), 'test/kafka/decode_values.py')], {
      input: [JSON.stringify(schemas), ...lines].join('\n'), encoding: 'utf8', timeout: 120_000, maxBuffer: 1 << 28,
    })
    assert.equal(status, 0, stderr)
    const decoded = stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as unknown)
    const at = (partition: number, offset: number): string => `${partition} ${offset}`
    const influence = found.get('influence') ?? []
    const ours: [string, unknown][] = []
    for (const partition of [0, 1])
      for (let offset = 0; ;) {
        const records = await log.read('influence', partition, offset, { recordsMax: 1000, bytesMax: 1 << 22 })
        if (records.length === 0) break
        ours.push(...records.map((record): [string, unknown] => [at(partition, record.offset), tagged(record.value)]))
        offset = records[records.length - 1].offset + 1
      }
    assert.equal(ours.length, 60)
    assert.deepEqual(new Map(influence.map((record, i) => [at(record.partition, record.offset), decoded[i]])), new Map(ours))
    const newest = new Map((found.get('tables') ?? []).map(({ key }, i) => [key, decoded[influence.length + i]]))
    assert.deepEqual(newest, new Map((await log.latest('tables', '')).map(({ key, value }) => [key, tagged(value)])))
  }

  const withPython = (name: string, run: (python: string) => Promise<void>): void => {
    test(name, { timeout: 400_000 }, async (t) => {
      const found = pythonWithFastavro()
      if ('python' in found) return run(found.python)
      assert.notEqual(process.env.CI, 'true', found.missing)
      return t.skip(found.missing)
    })
  }

  withPython("Kafka's console consumer and fastavro read influence and tables, by the schemas of schemas/", async (python) => {
    await using log = await scored([broker.plaintext], { prefix: 'single.' })
    await compare(log, 'single.', python, { single: [schemaOf('influence'), schemaOf('tables')], registry: {} }, consumers['console consumer'])
  })

  withPython('with a registry they read them by the schemas that it gives', async (python) => {
    await using registry = await testRegistry()
    await using log = await scored([broker.plaintext], { prefix: 'wire.', codecs: (schemas) => wireFormat(new SchemaRegistry(registry.url), schemas) })
    const ids = [...registry.schemas].map(([id, { schema }]) => [id, JSON.parse(schema) as unknown])
    await compare(log, 'wire.', python, { single: [], registry: Object.fromEntries(ids) as object }, consumers['console consumer'])
  })

  test('a worker that is asked to end commits, leaves, and the other goes on at once', { timeout: 240_000 }, async () => {
    const prefix = 'leaving.'
    await using log = await kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'the broker', prefix })
    await log.ensureTopics({ partitions: 4 })
    await appendDocuments(log, 200)
    const start = (): Process => {
      // A session longer than this test: nobody waits for it to end.
      const options: WorkerOptions = { brokers: [broker.plaintext], prefix, run: 'r', queries, k: 5, sessionMs: 300_000, requestMs: 10_000, batchMs: 20 }
      return all.start([fileURLToPath(new URL('worker.js', import.meta.url)), JSON.stringify(options)])
    }
    const workers = [start(), start()]
    const begun = async (): Promise<boolean> => (await log.positions(runId('r'))).every(({ offset, detail }) => offset > 0 || detail !== undefined)
    while (!(await begun())) {
      assert.ok(workers.every((worker) => worker.alive()), workers.map((worker) => worker.said()).join('\n'))
      await sleep(50)
    }
    workers[0].child.kill('SIGTERM')
    const [first, second] = await Promise.all(workers.map(({ ended }) => ended))
    assert.deepEqual([first.code, second.code], [0, 0], workers.map((worker) => worker.said()).join('\n'))
    const names = new Set<string>()
    for (const [partition, end] of ((await log.describe()).find(({ topic }) => topic === 'influence')?.ends ?? []).entries())
      for (let offset = 0; offset < end;) {
        const records = await log.read('influence', partition, offset, { recordsMax: 1000, bytesMax: 1 << 22 })
        if (records.length === 0) break
        for (const { value } of records) {
          const name = `${value?.source} ${value?.document}`
          assert.ok(!names.has(name), name)
          names.add(name)
        }
        offset = records[records.length - 1].offset + 1
      }
    assert.equal(names.size, 200)
  })
})
