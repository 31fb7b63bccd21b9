/**
 * @file A schema registry over HTTP within the test's process: subjects with versions, global ids, compatibility BACKWARD
 * against the newest version (judged by avsc, as readers judge it), basic authentication, and failures on demand.
 */
import avro from 'avsc'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

export interface TestRegistry extends AsyncDisposable {
  /** With user and password if it asks for them. */
  readonly url: string
  /** "METHOD path" of every request so far. */
  readonly requests: string[]
  /** The next answers, in place of the real ones; `cut` closes the connection. */
  readonly failures: (number | 'cut' | { readonly status: number; readonly body: string; readonly headers?: Readonly<Record<string, string>> })[]
  /** Schemas by id. Anything may be put in. */
  readonly schemas: Map<number, { readonly schema: string; readonly [more: string]: unknown }>
  /** What may not be registered any more. */
  readonlyMode: boolean
}

export interface TestRegistryOptions {
  readonly user?: string
  readonly password?: string
  /** Before every path. */
  readonly prefix?: string
}

export const testRegistry = async ({ user = '', password = '', prefix = '' }: TestRegistryOptions = {}): Promise<TestRegistry> => {
  const subjects = new Map<string, number[]>()
  const registry = {
    requests: [] as string[],
    failures: [] as TestRegistry['failures'],
    schemas: new Map<number, { readonly schema: string }>(),
    readonlyMode: false,
  }
  const { schemas } = registry
  const idOf = (text: string): number | undefined => [...schemas].find(([, { schema }]) => same(schema, text))?.[0]

  const answer = (method: string, path: string, body: string): [number, object] => {
    const byId = /^\/schemas\/ids\/(\d+)$/.exec(path)
    if (method === 'GET' && byId !== null) {
      const found = schemas.get(Number(byId[1]))
      return found === undefined ? [404, { error_code: 40403, message: 'Schema not found' }] : [200, found]
    }
    const bySubject = /^\/subjects\/([^/]+)(\/versions)?$/.exec(path)
    if (method !== 'POST' || bySubject === null) return [404, { error_code: 404, message: 'HTTP 404 Not Found' }]
    const subject = decodeURIComponent(bySubject[1])
    const { schema: text } = JSON.parse(body) as { readonly schema: string }
    const versions = subjects.get(subject) ?? []
    const there = versions.find((id) => same(schemas.get(id)?.schema ?? '', text))
    if (bySubject[2] === undefined) {
      if (versions.length === 0) return [404, { error_code: 40401, message: `Subject '${subject}' not found.` }]
      if (there === undefined) return [404, { error_code: 40403, message: 'Schema not found' }]
      return [200, { subject, id: there, version: versions.indexOf(there) + 1, schema: text }]
    }
    if (there !== undefined) return [200, { id: there }]
    if (registry.readonlyMode) return [422, { error_code: 42205, message: `Subject ${subject} is in read-only mode` }]
    const newest = schemas.get(versions.at(-1) ?? -1)?.schema
    const problem = newest === undefined ? undefined : unreadable(text, newest)
    if (problem !== undefined)
      return [409, { error_code: 409, message: `Schema being registered is incompatible with an earlier schema for subject "${subject}", details: [${problem}]` }]
    const id = idOf(text) ?? 1 + Math.max(0, ...schemas.keys())
    schemas.set(id, { schema: text })
    subjects.set(subject, [...versions, id])
    return [200, { id }]
  }

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url = '' } = request
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    registry.requests.push(`${method} ${url}`)
    const failure = registry.failures.shift()
    if (failure === 'cut') return void request.socket.destroy()
    const send = (status: number, body: string, headers: Readonly<Record<string, string>> = {}): void => {
      response.writeHead(status, { 'content-type': 'application/vnd.schemaregistry.v1+json', ...headers }).end(body)
    }
    if (typeof failure === 'number') return send(failure, JSON.stringify({ error_code: failure * 100 + 1, message: `failure ${failure}` }))
    if (failure !== undefined) return send(failure.status, failure.body, failure.headers)
    const expected = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
    if (user !== '' && request.headers.authorization !== expected) return send(401, JSON.stringify({ error_code: 401, message: 'Unauthorized' }))
    const [status, body] = url.startsWith(prefix) ? answer(method, url.slice(prefix.length), Buffer.concat(parts).toString()) : [404, {}]
    send(status, JSON.stringify(body))
  }

  const server = createServer((request, response) => void handle(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const who = user === '' ? '' : `${encodeURIComponent(user)}:${encodeURIComponent(password)}@`
  return Object.assign(registry, {
    url: `http://${who}127.0.0.1:${address.port}${prefix}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  })
}

const same = (a: string, b: string): boolean => JSON.stringify(JSON.parse(a === '' ? 'null' : a)) === JSON.stringify(JSON.parse(b))

/** Why a reader of the first schema cannot read what the second wrote. */
const unreadable = (reader: string, writer: string): string | undefined => {
  try {
    avro.Type.forSchema(JSON.parse(reader) as avro.Schema).createResolver(avro.Type.forSchema(JSON.parse(writer) as avro.Schema))
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
