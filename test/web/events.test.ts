import assert from 'node:assert/strict'
import { test } from 'node:test'
import { retryRecord } from '../../src/pipeline/retries.js'
import { startWebServer, type Changed, type RunProgress } from '../../src/web/index.js'
import { liveQuery, liveRun, noBugs, readingLog, someDocuments } from './live-run.js'

interface Event {
  readonly id: string
  readonly data: RunProgress & { readonly changed: Changed }
}

/** Events of a run as they come. Ends the connection when it is left. */
async function* events(url: string, lastId?: string): AsyncGenerator<Event> {
  const ending = new AbortController()
  const response = await fetch(`${url}/api/runs/live/events`, { signal: ending.signal, headers: lastId === undefined ? {} : { 'last-event-id': lastId } })
  assert.equal(response.headers.get('content-type'), 'text/event-stream')
  assert.ok(response.body)
  let text = ''
  try {
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      text += part
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const fields = new Map(text.slice(0, end).split('\n').map((line): [string, string] => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]))
        text = text.slice(end + 2)
        const data = fields.get('data')
        if (data !== undefined) yield { id: fields.get('id') ?? '', data: JSON.parse(data) as Event['data'] }
      }
    }
  } finally {
    ending.abort()
  }
}

const first = async (stream: AsyncGenerator<Event>, want: (event: Event) => boolean): Promise<Event> => {
  for (;;) {
    const { value, done } = await stream.next()
    assert.ok(done !== true, 'the stream has ended')
    if (want(value)) return value
  }
}

const queries = [liveQuery('a'), liveQuery('b')]

test('events tell what comes, as it comes, and which tables it changed', async () => {
  await using run = await liveRun(queries)
  await run.append(someDocuments(10, 2))
  await run.score()
  await using log = await readingLog(run.home)
  await using server = await startWebServer({ log, host: '127.0.0.1', port: 0, everyMs: 10, onBug: noBugs })
  const stream = events(server.url)
  const begun = await first(stream, () => true)
  assert.equal(begun.data.documents, 10)
  assert.equal(begun.data.changed.queries, null, 'who begins asks for everything')
  await run.append(someDocuments(3, 2, 50))
  const waiting = await first(stream, ({ data }) => data.documents === 13)
  assert.equal(waiting.data.lag, 3)
  await run.score()
  // In one event or in several.
  const changed = new Set<string>()
  await first(stream, ({ data }) => {
    for (const query of data.changed.queries ?? ['all']) changed.add(query)
    if (data.changed.moments) changed.add('moments')
    return data.lag === 0 && data.documents === 13 && changed.size >= 3
  })
  assert.deepEqual([...changed].sort(), ['a', 'b', 'moments'])
  await stream.return(undefined)
})

test('who comes back is told what changed since, by another server over the same log too', async () => {
  await using run = await liveRun(queries)
  await run.append(someDocuments(10, 2))
  await run.score()
  const lastId = await (async () => {
    await using log = await readingLog(run.home)
    await using server = await startWebServer({ log, host: '127.0.0.1', port: 0, everyMs: 10, onBug: noBugs })
    const stream = events(server.url)
    // Once all is read and the rate has fallen the id stays; it is of the topics, so any event's will do.
    const { id } = await first(stream, ({ data }) => data.unread === 0)
    await stream.return(undefined)
    return id
  })()
  await using log = await readingLog(run.home)
  await using server = await startWebServer({ log, host: '127.0.0.1', port: 0, everyMs: 10, onBug: noBugs })
  const stream = events(server.url, lastId)
  const same = await first(stream, () => true)
  assert.equal(same.id, lastId)
  assert.deepEqual(same.data.changed, { queries: [], moments: false, deadLetters: false }, 'nothing came while it was away')
  await stream.return(undefined)
  // While this server runs it knows which tables change, also for who is away meanwhile.
  await run.append([{ id: 'new', text: 'new', influence: [1e6, 0] }])
  await run.score()
  const again = events(server.url, lastId)
  const changed = await first(again, ({ data }) => data.documents === 11 && data.lag === 0)
  assert.deepEqual([...(changed.data.changed.queries ?? ['not told'])].sort(), ['a', 'b'])
  await again.return(undefined)
  // And an id that is no place in this log asks for everything.
  for (const wrong of ['nonsense', '9999-1-1-1-1-1-1-1', '1-2']) {
    const other = events(server.url, wrong)
    assert.equal((await first(other, () => true)).data.changed.queries, null, wrong)
    await other.return(undefined)
  }
})

test('a dead letter that is tried again is told of, when it is asked for and when it is answered', { timeout: 20_000 }, async () => {
  await using run = await liveRun(queries)
  await run.append(someDocuments(4, 2))
  await run.score()
  await using log = await readingLog(run.home)
  await using server = await startWebServer({ log, host: '127.0.0.1', port: 0, everyMs: 10, onBug: noBugs })
  const stream = events(server.url)
  await first(stream, ({ data }) => data.unread === 0)
  const asked = { run: 'live', partition: 0, offset: 0, document: null, attempt: 1, cause: null } as const
  for (const state of ['wanted', 'done'] as const) {
    await run.log.append([retryRecord({ ...asked, state })])
    const { data } = await first(stream, ({ data: { changed } }) => changed.deadLetters)
    assert.deepEqual([data.changed.queries, data.changed.moments], [[], false], state)
  }
  await stream.return(undefined)
})

test('streams are bounded, and a server that closes ends them', async () => {
  await using run = await liveRun(queries)
  await using log = await readingLog(run.home)
  const server = await startWebServer({ log, host: '127.0.0.1', port: 0, everyMs: 10, onBug: noBugs })
  const streams = Array.from({ length: 64 }, () => events(server.url))
  try {
    await Promise.all(streams.map((stream) => first(stream, () => true)))
    const refused = await fetch(`${server.url}/api/runs/live/events`)
    assert.equal(refused.status, 503)
    await refused.body?.cancel()
  } finally {
    const ended = streams.map((stream) => first(stream, () => false).then(() => false, () => true))
    await server[Symbol.asyncDispose]()
    assert.deepEqual(await Promise.all(ended), streams.map(() => true))
  }
})
