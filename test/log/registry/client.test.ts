import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { UserError } from '../../../src/base/index.js'
import { SchemaRegistry } from '../../../src/log/registry/index.js'
import { testRegistry, type TestRegistry } from './server.js'

const point = (...fields: readonly unknown[]): string => JSON.stringify({ type: 'record', name: 'Point', fields })
const X = point({ name: 'x', type: 'int' })

/** A client that notes its pauses in place of waiting. */
const clientOf = (url: string): { client: SchemaRegistry; pauses: number[] } => {
  const pauses: number[] = []
  return { client: new SchemaRegistry(url, { pause: async (ms) => void pauses.push(ms) }), pauses }
}

const check = (title: string, body: (server: TestRegistry) => Promise<void>, options: Parameters<typeof testRegistry>[0] = {}): void => {
  test(title, { timeout: 60_000 }, async () => {
    const server = await testRegistry(options)
    try {
      await body(server)
    } finally {
      await server[Symbol.asyncDispose]()
    }
  })
}

/** The UserError of a promise, as text with its fix. */
const errorOf = async (promise: Promise<unknown>): Promise<string> => {
  const error: unknown = await promise.then(() => undefined, (error: unknown) => error)
  assert.ok(error instanceof UserError, String(error))
  return `${error.message} | ${error.fix ?? ''}`
}

check('a schema is registered once and found by its id; what was answered is not asked again', async (server) => {
  const { client } = clientOf(server.url)
  const id = await client.register('documents-value', X)
  assert.equal(await client.register('documents-value', X), id)
  assert.deepEqual(server.requests, [
    'POST /subjects/documents-value', 'POST /subjects/documents-value/versions', 'POST /subjects/documents-value',
  ])
  const texts = await Promise.all([client.schema(id), client.schema(id)])
  assert.deepEqual(texts, [X, X])
  assert.equal(await client.schema(id), X)
  assert.equal(server.requests.filter((request) => request.startsWith('GET')).length, 1)
  assert.equal(await client.schema(99), undefined)
  assert.equal(await client.schema(99), undefined)
  assert.equal(server.requests.filter((request) => request.endsWith('/99')).length, 1)
})

check('user and password of the URL are sent, and a path before the API is kept', async (server) => {
  assert.equal(typeof (await clientOf(server.url).client.register('s-value', X)), 'number')
  assert.ok(server.requests.every((request) => request.includes('/apis/ccompat/v7/subjects/')))
  const { client } = clientOf(server.url)
  assert.doesNotMatch(client.url, /us%40er|pass/)
}, { user: 'us@er', password: 'p:ä/ss', prefix: '/apis/ccompat/v7' })

check('a wrong password is an error that says how to give one, without showing it', async (server) => {
  const said = await errorOf(clientOf(server.url.replace('secret', 'guess')).client.register('s-value', X))
  assert.match(said, /401 Unauthorized.*USER:PASSWORD/)
  assert.doesNotMatch(said, /guess/)
  assert.equal(server.requests.length, 1, 'it is not tried again')
}, { user: 'user', password: 'secret' })

check('an incompatible schema is refused with what the registry says', async (server) => {
  const { client } = clientOf(server.url)
  await client.register('s-value', X)
  const said = await errorOf(client.register('s-value', point({ name: 'y', type: 'int' })))
  assert.match(said, /subject "s-value": it is incompatible.*details:.*config\/s-value/)
  const wider = await client.register('s-value', point({ name: 'x', type: 'long' }, { name: 'y', type: 'int', default: 0 }))
  assert.equal(wider, 2)
})

check('with rights to read alone, what is registered already is found', async (server) => {
  const id = await clientOf(server.url).client.register('s-value', X)
  server.readonlyMode = true
  assert.equal(await clientOf(server.url).client.register('s-value', X), id)
  assert.match(await errorOf(clientOf(server.url).client.register('t-value', X)), /422.*read-only mode.*\/mode/)
})

check('what may pass is tried again with growing pauses, as long as Retry-After asks for', async (server) => {
  const { client, pauses } = clientOf(server.url)
  server.failures.push(503, 'cut', { status: 429, body: '{}', headers: { 'retry-after': '2' } }, 500)
  server.schemas.set(1, { schema: X })
  assert.equal(await client.schema(1), X)
  assert.deepEqual(pauses, [100, 200, 2000, 800])
})

check('what does not pass ends in an error, and can be asked again', async (server) => {
  const { client, pauses } = clientOf(server.url)
  server.schemas.set(1, { schema: X })
  server.failures.push(...Array.from({ length: 7 }, () => 503))
  assert.match(await errorOf(client.schema(1)), /does not answer GET \/schemas\/ids\/1 \(tried 7 times; last: 503 failure 503\)/)
  assert.equal(pauses.length, 6)
  assert.equal(await client.schema(1), X)
})

test('nobody there: the error names the address and the way to look', { timeout: 60_000 }, async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  server.close()
  await once(server, 'close')
  const said = await errorOf(clientOf(`http://u:hidden@127.0.0.1:${address.port}`).client.register('s-value', X))
  assert.match(said, new RegExp(`http://127.0.0.1:${address.port} does not answer.*ECONNREFUSED.*--schema-registry`))
  assert.doesNotMatch(said, /hidden/)
})

check('answers that no schema registry gives are errors', async (server) => {
  const { client } = clientOf(server.url)
  server.failures.push({ status: 200, body: '<html>' })
  assert.match(await errorOf(client.schema(1)), /no JSON object/)
  server.failures.push({ status: 200, body: '{"id": "seven"}' })
  assert.match(await errorOf(client.register('s', X)), /no id of a schema/)
  server.failures.push({ status: 200, body: '{}' })
  assert.match(await errorOf(client.schema(1)), /it has no schema/)
  server.failures.push({ status: 200, body: ' '.repeat((1 << 20) + 1) })
  assert.match(await errorOf(client.schema(1)), /longer than 1048576 bytes/)
  server.failures.push({ status: 403, body: '{"error_code": 40301, "message": "User is denied"}' })
  assert.match(await errorOf(client.schema(1)), /403 User is denied.*granted/)
  server.failures.push({ status: 418, body: 'a teapot' })
  assert.match(await errorOf(client.schema(1)), /418 a teapot/)
  server.schemas.set(1, { schema: 'syntax = "proto3"', schemaType: 'PROTOBUF' })
  assert.equal(await client.schema(1), undefined)
})

test('what is no HTTP address is refused without repeating it', () => {
  for (const url of ['localhost:8081', 'kafka://user:hidden@host', 'http://', '']) {
    assert.throws(() => new SchemaRegistry(url), (error) => error instanceof UserError && !error.message.includes('hidden') && error.fix !== undefined)
  }
})
