import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeValue, singleObject, type SchemaStore } from '../../../src/log/index.js'
import { SchemaRegistry, wireFormat } from '../../../src/log/registry/index.js'
import { testRegistry, type TestRegistry } from './server.js'

const point = (...fields: readonly unknown[]) => ({ type: 'record', name: 'Point', fields })
const x = { name: 'x', type: 'int' }

const memoryStore = (): SchemaStore => {
  const texts = new Map<string, string>()
  return { put: async (id, text) => void texts.set(id, text), find: async (id) => texts.get(id) }
}

const check = (title: string, body: (server: TestRegistry, store: SchemaStore) => Promise<void>): void => {
  test(title, { timeout: 60_000 }, async () => {
    const server = await testRegistry()
    try {
      await body(server, memoryStore())
    } finally {
      await server[Symbol.asyncDispose]()
    }
  })
}

/** A codec of its own process, as it were: a client that was asked nothing yet. */
const codecOf = (server: TestRegistry, store: SchemaStore, schema: object) =>
  wireFormat(new SchemaRegistry(server.url, { pause: async () => {} }), store)({ name: 'points', schema: schema as never })

check('a value is 00, the id in four bytes, the body', async (server, store) => {
  server.schemas.set(0x01020303, { schema: '"int"' })
  const codec = codecOf(server, store, point(x))
  assert.throws(() => encodeValue(codec, { x: 1 }), /prepareToWrite/)
  await Promise.all([codec.prepareToWrite(), codec.prepareToWrite()])
  assert.equal(codec.prepareToWrite(), undefined)
  assert.deepEqual(server.requests, ['POST /subjects/points-value', 'POST /subjects/points-value/versions'])
  const bytes = encodeValue(codec, { x: -2 })
  assert.equal(bytes.toString('hex'), '000102030403')
  assert.equal(codec.prepareToRead([bytes, null]), undefined, 'its own schema need not be asked for')
  assert.deepEqual(codec.decode(bytes, 0, bytes.length), { value: { x: -2 } })
  const within = Buffer.concat([Buffer.from('ab'), bytes, Buffer.from('cd')])
  assert.deepEqual(codec.decode(within, 2, 2 + bytes.length), { value: { x: -2 } })
  assert.equal(codec.encode({ x: 1 }, Buffer.alloc(3), 0), -2)
})

check('a reader finds the schemas of other versions in the registry, once', async (server, store) => {
  const old = codecOf(server, store, point(x))
  await old.prepareToWrite()
  const first = encodeValue(old, { x: 5 })
  const reader = codecOf(server, store, point({ name: 'x', type: 'long' }, { name: 'y', type: 'string', default: 'none' }))
  const before = reader.decode(first, 0, first.length)
  assert.match('problem' in before ? before.problem : '', /schema 1, which was not looked up/)
  await reader.prepareToRead([first, first])
  assert.deepEqual(reader.decode(first, 0, first.length), { value: { x: 5, y: 'none' } })
  await reader.prepareToWrite()
  const second = encodeValue(reader, { x: 6, y: 'some' })
  await old.prepareToRead([second])
  const problem = old.decode(second, 0, second.length)
  assert.match('problem' in problem ? problem.problem : '', /schema 2, which this version cannot read/, 'long does not fit int')
  assert.equal(server.requests.filter((request) => request.startsWith('GET')).length, 2)
})

check('a schema in other words is read as the own one; unknown ids and other bytes say what they are', async (server, store) => {
  server.schemas.set(7, { schema: JSON.stringify({ ...point({ ...x, doc: 'across' }), doc: 'a point' }) })
  const codec = codecOf(server, store, point(x))
  const hex = (text: string): Buffer => Buffer.from(text, 'hex')
  await codec.prepareToRead([hex('000000000702'), hex('000000000802')])
  const decode = (text: string) => codec.decode(hex(text), 0, text.length / 2)
  assert.deepEqual(decode('000000000702'), { value: { x: 1 } })
  const problem = (text: string): string => {
    const decoded = decode(text)
    return 'problem' in decoded ? decoded.problem : 'none'
  }
  assert.match(problem('000000000802'), /written with schema 8, which http.* has not/)
  assert.match(problem('0000000007'), /cut short/)
  assert.match(problem('00000000070202'), /1 bytes too many/)
  assert.match(problem('7b7d'), /neither/)
  assert.match(problem(''), /neither/)
})

check('values from before the registry was used are read too, and without one its values say what is needed', async (server, store) => {
  const before = singleObject(store)({ name: 'points', schema: point(x) as never })
  await before.prepareToWrite()
  const single = encodeValue(before, { x: 3 })
  const codec = codecOf(server, store, point(x, { name: 'y', type: 'int', default: 9 }))
  await codec.prepareToWrite()
  const wire = encodeValue(codec, { x: 4, y: 4 })
  await codec.prepareToRead([wire, single])
  assert.deepEqual(codec.decode(single, 0, single.length), { value: { x: 3, y: 9 } })
  const without = before.decode(wire, 0, wire.length)
  assert.match('problem' in without ? without.problem : '', /--schema-registry/)
})

check('a registry that fails can be asked again', async (server, store) => {
  const codec = codecOf(server, store, point(x))
  server.failures.push(401)
  await assert.rejects(async () => codec.prepareToWrite(), /401/)
  await codec.prepareToWrite()
  assert.equal(encodeValue(codec, { x: 1 }).length, 6)
  const reader = codecOf(server, store, point(x))
  server.failures.push(403)
  await assert.rejects(async () => reader.prepareToRead([encodeValue(codec, { x: 1 })]), /403/)
  await reader.prepareToRead([encodeValue(codec, { x: 1 })])
  assert.deepEqual(reader.decode(encodeValue(codec, { x: 8 }), 0, 6), { value: { x: 8 } })
})
