import assert from 'node:assert/strict'
import { test } from 'node:test'
import { declaredTopics, encodeValue, schemaTopicStore, singleObject, type AvroSchema, type SchemaTopic } from '../../src/log/index.js'

const point = (...fields: readonly unknown[]): AvroSchema => ({ type: 'record', name: 'Point', fields })
const x = { name: 'x', type: 'int' }
const schema = declaredTopics().get('schemas')?.schema ?? 'null'

/** The topic `schemas` in memory, and the offsets that it was read from. */
const memoryTopic = (): SchemaTopic & { readonly records: { key: string; value: Buffer | null }[]; readonly reads: number[] } => {
  const records: { key: string; value: Buffer | null }[] = []
  const reads: number[] = []
  return {
    records,
    reads,
    readToEnd: async (offset) => {
      reads.push(offset)
      return { records: records.slice(offset), next: records.length }
    },
    append: async (key, value) => void records.push({ key, value }),
  }
}

test('a reader of another version finds the writer’s schema in the topic of schemas', async () => {
  const topic = memoryTopic()
  const codecOf = (fields: AvroSchema) => singleObject(schemaTopicStore(schema, topic))({ name: 'points', schema: fields })
  const writer = codecOf(point(x))
  const waits = writer.prepareToWrite()
  assert.ok(waits instanceof Promise)
  await waits
  assert.equal(writer.prepareToWrite(), undefined)
  const bytes = encodeValue(writer, { x: 1 })
  const reader = codecOf(point(x, { name: 'y', type: 'int', default: 2 }))
  await reader.prepareToRead([null, bytes])
  assert.deepEqual(reader.decode(bytes, 0, bytes.length), { value: { x: 1, y: 2 } })
  assert.equal(reader.prepareToRead([bytes]), undefined)
  await codecOf(point(x)).prepareToWrite()
  assert.equal(topic.records.length, 1, 'a schema that is there is not written again')
})

test('a schema that comes later is found later; the topic is read on, not anew', async () => {
  const topic = memoryTopic()
  const store = schemaTopicStore(schema, topic)
  const writers = [point(x), point(x, { name: 'z', type: 'int', default: 0 })].map((schema) => singleObject(schemaTopicStore(declared(), topic))({ name: 'p', schema }))
  const reader = singleObject(store)({ name: 'p', schema: point({ name: 'x', type: 'long' }) })
  for (const [i, writer] of writers.entries()) {
    await writer.prepareToWrite()
    const bytes = encodeValue(writer, { x: i, z: 1 })
    topic.reads.length = 0
    await reader.prepareToRead([bytes])
    assert.deepEqual(topic.reads, [i])
    assert.deepEqual(reader.decode(bytes, 0, bytes.length), { value: { x: i } })
  }
})

const declared = (): AvroSchema => schema

test('a schema that nobody has is looked up once and then said of each value', async () => {
  const topic = memoryTopic()
  const stranger = singleObject({ put: async () => {}, find: async () => undefined })({ name: 'p', schema: point(x) })
  const bytes = encodeValue(stranger, { x: 1 })
  const reader = singleObject(schemaTopicStore(schema, topic))({ name: 'p', schema: point({ name: 'x', type: 'long' }) })
  await reader.prepareToRead([bytes])
  assert.equal(reader.prepareToRead([bytes]), undefined)
  const decoded = reader.decode(bytes, 0, bytes.length)
  assert.match('problem' in decoded ? decoded.problem : '', /not known here/)
})

test('broken records of many fingerprints do not fill the memory', async () => {
  let asked = 0
  const codec = singleObject({ put: async () => {}, find: async () => void asked++ })({ name: 'p', schema: point(x) })
  const broken = Array.from({ length: 600 }, (_, i) => Buffer.from([0xc3, 1, i & 255, i >> 8, 0, 0, 0, 0, 0, 0, 0]))
  await codec.prepareToRead(broken)
  assert.equal(asked, 600)
  await codec.prepareToRead(broken)
  assert.ok(asked > 600, 'the first of them were forgotten')
})

test('a store that fails can be asked again', async () => {
  let fails = 1
  const codec = singleObject({
    put: async () => { if (fails-- > 0) throw new Error('no broker') },
    find: async () => undefined,
  })({ name: 'p', schema: point(x) })
  await assert.rejects(async () => codec.prepareToWrite(), /no broker/)
  await codec.prepareToWrite()
  assert.equal(codec.prepareToWrite(), undefined)
})

test('the schema of the topic of schemas is the one that it will always be', async () => {
  const topic = memoryTopic()
  await schemaTopicStore(schema, topic).put('00', '"int"')
  assert.equal(topic.records[0]?.value?.toString('hex'), 'c3014e7e91bc671c4f5b0a22696e7422')
})

test('a value longer than the first buffer is encoded whole', () => {
  const codec = singleObject({ put: async () => {}, find: async () => undefined })({ name: 'p', schema: point({ name: 's', type: 'string' }) })
  for (const length of [0, 500, 501, 502, 513, 5000, 100_000]) {
    const value = { s: 'ä'.repeat(length) }
    const bytes = encodeValue(codec, value)
    assert.deepEqual(codec.decode(bytes, 0, bytes.length), { value })
  }
})
