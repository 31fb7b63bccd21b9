import assert from 'node:assert/strict'
import { get as httpGet } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { keyOf, type Log } from '../../src/log/index.js'
import { AnalysesDesk, LogWatch, apiRoutes, startWebServer, type Analyse, type Explain, type WebServer } from '../../src/web/index.js'
import { liveQuery, liveRun, noBugs, readingLog, someDocuments, type GivenDocument, type LiveRun } from './live-run.js'

const queries = [liveQuery('Ashnia'), liveQuery('Beldia', { informationNats: 0 }), liveQuery('sum', { group: 'reasoning', task: 'sums', answer: '8' })]
const documents: readonly GivenDocument[] = [
  ...someDocuments(60, 3),
  { id: 'eight', text: 'It is 18, or 8.5, but 4 + 4 = 8.', influence: [50, 40, 30], gradientNorm: 10 },
  { id: 'not eight', text: 'It is 18, or 8.5.', influence: [49, -50, 29] },
]

const analyse: Analyse = (run) => Promise.resolve({ run, documents: 62, ranked: 'documents', lag: 5, findings: [], figures: [] })

describe('the API', () => {
  let run: LiveRun
  let log: Log
  let server: WebServer
  const bugs: unknown[] = []
  const explain: Explain = ({ query, partition, offset, piece }) =>
    Promise.resolve({ score: 3, tokens: [{ text: `${query.id} ${partition} ${offset} ${piece}`, term: 3 }], layers: [{ layer: 'mlp', term: 3 }] })

  before(async () => {
    run = await liveRun(queries)
    await run.append(documents)
    await run.score()
    await run.append(someDocuments(5, 3, 100))
    await run.log.append([{
      topic: 'dead-letters', key: keyOf('live', 'x'),
      value: {
        run: 'live', stage: 'score', cause: 'its loss is NaN', topic: 'documents', partition: 1, offset: 3, shard: null, index: null, document: 'x', piece: 0,
        original: new TextEncoder().encode('<b>'),
      },
    }])
    log = await readingLog(run.home)
    server = await startWebServer({ log, host: '127.0.0.1', port: 0, everyMs: 20, onBug: (bug) => bugs.push(bug), explain, analyse })
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
    await log[Symbol.asyncDispose]()
    await run[Symbol.asyncDispose]()
    assert.deepEqual(bugs, [])
  })

  /** A request whose headers, Host among them, are as given. */
  const request = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    new Promise<{ status: number; headers: NodeJS.Dict<string | string[]>; body: string }>((resolve, reject) => {
      const sent = httpGet(`${server.url}${path}`, { headers, method }, (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (part: string) => (body += part)).on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
      })
      sent.on('error', reject)
    })
  const get = async <T>(path: string): Promise<T> => {
    const { status, body } = await request(`/api${path}`)
    assert.equal(status, 200, body)
    return JSON.parse(body) as T
  }

  test('tells topics, runs and lag', async () => {
    const { runs, run: first } = await get<{ runs: { run: string; lag: number; queries: number }[]; run: string }>('/status')
    assert.equal(first, 'live')
    assert.deepEqual(runs.map(({ run, lag, queries }) => ({ run, lag, queries })), [{ run: 'live', lag: 5, queries: 3 }])
    const progress = await get<{ documents: number; lag: number; partitions: { lag: number }[]; activity: { scored: number; history: { documents: number[] } }; deadLetters: number }>('/runs/live/progress')
    assert.equal(progress.documents, documents.length + 5)
    assert.equal(progress.lag, 5)
    assert.equal(progress.partitions.reduce((sum, { lag }) => sum + lag, 0), 5)
    assert.equal(progress.activity.scored, documents.length)
    assert.equal(progress.activity.history.documents.reduce((sum, n) => sum + n, 0), documents.length)
    assert.equal(progress.deadLetters, 1)
  })

  test('gives each of the four tables, best first', async () => {
    interface Table { rows: { rank: number; document: string; score: number; scorePerNat: number | null }[]; scored: number }
    for (const end of ['top', 'bottom'] as const)
      for (const by of ['raw', 'normed'] as const) {
        const { rows, scored } = await get<Table>(`/runs/live/table?query=Ashnia&end=${end}&by=${by}&k=7`)
        const scores = documents.map(({ id, influence, ...more }) => ({ id, score: influence[0] / (by === 'raw' ? 1 : (more.gradientNorm ?? 2)) }))
        const best = scores.map(({ score }) => score).sort((a, b) => (end === 'top' ? b - a : a - b)).slice(0, 7)
        assert.deepEqual(rows.map(({ score }) => score), best.map(Math.fround), `${end} ${by}`)
        assert.deepEqual(rows.map(({ rank }) => rank), [0, 1, 2, 3, 4, 5, 6])
        assert.deepEqual(rows.map(({ scorePerNat }) => scorePerNat), rows.map(({ score }) => score / 2))
        assert.equal(scored, documents.length)
      }
    const { rows } = await get<Table>('/runs/live/table?query=Beldia')
    assert.equal(rows[0].scorePerNat, null, 'no information, no score per nat')
  })

  test('marks the answer where it stands as a word, not within another number', async () => {
    const { rows } = await get<{ rows: { document: string; hasAnswer: boolean; excerpt: { text: string; marks: [number, number][] } }[] }>('/runs/live/table?query=sum&k=2')
    assert.deepEqual(rows.map(({ document, hasAnswer }) => [document, hasAnswer]), [['eight', true], ['not eight', false]])
    const [{ excerpt }] = rows
    assert.deepEqual(excerpt.marks.map(([from, to]) => [excerpt.text.slice(from, to), from]), [['8', excerpt.text.length - 2]])
  })

  test("finds a document's scores on every query, with what they are among all documents", async () => {
    const { rows: [{ partition, offset }] } = await get<{ rows: { partition: number; offset: number }[] }>('/runs/live/table?query=Ashnia&k=1')
    const document = await get<{ document: string; text: string; isCut: boolean }>(`/documents/${partition}/${offset}?characters=5`)
    assert.deepEqual({ document: document.document, text: document.text, isCut: document.isCut }, { document: 'eight', text: 'It is', isCut: true })
    const { pieces: [piece] } = await get<{ pieces: { scores: { query: string; raw: number; perNat: number | null; normed: number; z: number }[] }[] }>(`/runs/live/documents/${partition}/${offset}`)
    assert.deepEqual(piece.scores.map(({ query, raw, perNat, normed }) => [query, raw, perNat, normed]), [['Ashnia', 50, 25, 5], ['Beldia', 40, null, 4], ['sum', 30, 15, 3]])
    const values = documents.map(({ influence }) => influence[0])
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length)
    assert.ok(Math.abs(piece.scores[0].z - (50 - mean) / deviation) < 1e-9)
  })

  test('correlates queries as a textbook does', async () => {
    const { pearson, count, queries: names } = await get<{ pearson: number[][]; count: number; queries: string[] }>('/runs/live/correlation?query=sum&query=Ashnia')
    assert.deepEqual(names, ['sum', 'Ashnia'])
    assert.equal(count, documents.length)
    const [x, y] = [2, 0].map((q) => documents.map(({ influence }) => influence[q]))
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
    const about = (a: readonly number[], b: readonly number[]): number => mean(a.map((value, i) => (value - mean(a)) * (b[i] - mean(b))))
    assert.ok(Math.abs(pearson[0][1] - about(x, y) / Math.sqrt(about(x, x) * about(y, y))) < 1e-12)
    assert.deepEqual([pearson[0][0], pearson[1][1]], [1, 1])
  })

  test('gives curves as far as the tables reach', async () => {
    const { curves: [curve] } = await get<{ curves: { ranks: number[]; scores: number[] }[] }>('/runs/live/curves?query=Ashnia')
    assert.deepEqual([curve.ranks[0], curve.ranks.at(-1)], [0, 49])
    assert.deepEqual(curve.scores, [...curve.scores].sort((a, b) => b - a))
  })

  test('searches with a cursor: every document once, whatever the steps', async () => {
    interface Found { hits: { document: string; excerpt: { text: string; marks: [number, number][] } }[]; cursor: string | null; left: number }
    const all: string[] = []
    let cursor: string | null = null
    let steps = 0
    do {
      const found: Found = await get<Found>(`/documents?search=RIVERS&source=books&limit=7${cursor === null ? '' : `&cursor=${cursor}`}`)
      all.push(...found.hits.map(({ document }) => document))
      for (const { excerpt } of found.hits) assert.deepEqual(excerpt.marks.map(([from, to]) => excerpt.text.slice(from, to)), ['rivers'])
      cursor = found.cursor
      steps++
    } while (cursor !== null && steps < 100)
    const expected = [...someDocuments(60, 3), ...someDocuments(5, 3, 100)].filter(({ source }) => source === 'books').map(({ id }) => id)
    assert.deepEqual(all.sort(), expected.sort())
    const phrase = await get<Found>(`/documents?search=${encodeURIComponent('"number 7 about"')}`)
    assert.deepEqual(phrase.hits.map(({ document }) => document), ['d7'])
  })

  test('lists dead letters, their bytes as text', async () => {
    const { counts, letters } = await get<{ counts: unknown[]; letters: { cause: string; original: string }[] }>('/dead-letters?run=live')
    assert.deepEqual(counts, [{ run: 'live', stage: 'score', count: 1 }])
    assert.deepEqual(letters.map(({ cause, original }) => [cause, original]), [['its loss is NaN', '<b>']])
    assert.deepEqual((await get<{ letters: unknown[] }>('/dead-letters?run=other')).letters, [])
  })

  test('explains through whoever computes', async () => {
    const { rows: [{ partition, offset }] } = await get<{ rows: { partition: number; offset: number }[] }>('/runs/live/table?query=sum&k=1')
    const { tokens, score } = await get<{ tokens: unknown[]; score: number }>(`/runs/live/explain?query=sum&partition=${partition}&offset=${offset}`)
    assert.deepEqual([score, tokens], [3, [{ text: `sum ${partition} ${offset} 0`, term: 3 }]])
  })

  test('every answer is as its description says', async () => {
    const watch = new LogWatch(log, { now: Date.now, everyMs: 20 })
    const routes = apiRoutes({ log, watch, now: Date.now, version: '0', explain, analyses: new AnalysesDesk(analyse, { now: Date.now, signal: new AbortController().signal }) })
    const given: Readonly<Record<string, Record<string, string>>> = { table: { query: 'sum' }, curves: { query: 'sum' }, explain: { query: 'sum', partition: '0', offset: '0' } }
    const { paths } = await get<{ openapi: string; paths: Record<string, unknown> }>('/openapi.json')
    for (const { name, path, params, result } of routes) {
      assert.ok(path in paths, `${path} is described`)
      const at: Record<string, string> = { run: 'live', partition: '0', offset: '0' }
      const address = Object.keys(params).reduce((text, key) => text.replace(`{${key}}`, at[key]), path)
      const answer = await get<unknown>(`${address}?${new URLSearchParams(given[name] ?? {}).toString()}`)
      assert.deepEqual(result.parse(answer), answer, `${name} tells no more and no less than described`)
    }
    watch.close()
  })

  test('refuses what is not allowed, and says which parameter', async () => {
    const refused = async (path: string): Promise<[number, string]> => {
      const { status, headers, body } = await request(path)
      assert.equal(headers['content-type'], 'application/problem+json')
      const { detail, status: told } = JSON.parse(body) as { detail: string; status: number }
      assert.equal(told, status)
      return [status, detail]
    }
    assert.deepEqual((await refused('/api/runs/none'))[0], 404)
    assert.deepEqual((await refused('/api/runs/live/table?query=none'))[0], 404)
    assert.deepEqual((await refused('/api/documents/0/999999'))[0], 404)
    assert.deepEqual((await refused('/api/documents/77/0'))[0], 404)
    for (const [path, parameter] of [
      ['/api/runs/live/table?query=sum&k=0', /^k: /], ['/api/runs/live/table?query=sum&k=9e9', /^k: /], ['/api/runs/live/table?query=sum&k=201', /^k: /],
      ['/api/runs/live/table', /^query: /], ['/api/runs/live/table?query=sum&by=size', /^by: /], ['/api/runs/live/table?query=sum&x=1', /^x: there is no such parameter/],
      ['/api/documents?cursor=1.x', /^cursor: /], ['/api/documents?limit=101', /^limit: /], ['/api/documents/-1/0', /^partition: /],
      [`/api/documents?search=${'x'.repeat(1001)}`, /^search: /], ['/api/runs/live/table?query=sum&query=Ashnia', /^query: /],
    ] as const) {
      const [status, detail] = await refused(path)
      assert.equal(status, 400, path)
      assert.match(detail, parameter)
    }
    assert.deepEqual((await request('/api/status', {}, 'POST')).status, 405)
    assert.deepEqual((await refused('/../package.json'))[0], 404)
    assert.deepEqual((await refused('/%2e%2e/%2e%2e/package.json'))[0], 404)
    assert.deepEqual((await refused('/tsconfig.json'))[0], 404)
  })

  test('answers no page of another site, and no name that was pointed here', async () => {
    const { port } = server
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, 'live.localhost']) assert.equal((await request('/api/runs', { host })).status, 200, host)
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', 'localhost.evil.example']) assert.equal((await request('/api/runs', { host })).status, 421, host)
    assert.ok([400, 421].includes((await request('/api/runs', { host: 'a@127.0.0.1' })).status), 'that is no host')
    assert.equal((await request('/api/runs', { origin: 'http://evil.example' })).status, 403)
    assert.equal((await request('/api/runs', { origin: 'null' })).status, 403)
    assert.equal((await request('/api/runs', { origin: server.url })).status, 200)
    assert.equal((await request('/api/runs', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).status, 403)
    assert.equal((await request('/', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).status, 200)
  })

  test('every answer forbids what a page must not do, errors too', async () => {
    for (const path of ['/', '/main.js', '/api/runs', '/api/none', '/none']) {
      const { headers } = await request(path)
      assert.match(String(headers['content-security-policy']), /default-src 'none'; script-src 'self';.*frame-ancestors 'none'.*trusted-types 'none'/, path)
      assert.equal(headers['x-content-type-options'], 'nosniff')
      assert.equal(headers['access-control-allow-origin'], undefined)
    }
    const { headers } = await request('/main.js')
    assert.equal((await request('/main.js', { 'if-none-match': String(headers.etag) })).status, 304)
  })
})

test('an error that nobody meant is told without its inside, under a trace id that the server has, too', async () => {
  await using run = await liveRun([liveQuery('q')])
  await run.append(someDocuments(1, 1))
  const told: [string, string][] = []
  await using server = await startWebServer({
    log: run.log, host: '127.0.0.1', port: 0, onBug: (error, trace) => told.push([String(error), trace]), explain: () => Promise.reject(new Error('secret inside')),
  })
  const ask = async (headers: Record<string, string>): Promise<{ status: number; trace: string; text: string }> => {
    const response = await fetch(`${server.url}/api/runs/live/explain?query=q&partition=0&offset=0`, { headers })
    const text = await response.text()
    return { status: response.status, trace: (JSON.parse(text) as { trace: string }).trace, text }
  }
  const own = '4bf92f3577b34da6a3ce929d0e0e4736'
  const answers = [await ask({ traceparent: `00-${own}-00f067aa0ba902b7-01` }), await ask({}), await ask({ traceparent: '00-<b>-1-1' })]
  assert.deepEqual(answers.map(({ status }) => status), [500, 500, 500])
  assert.equal(answers[0].trace, own)
  for (const { trace, text } of answers) assert.ok(/^[0-9a-f]{32}$/.test(trace) && !text.includes('secret'), text)
  assert.equal(new Set(answers.map(({ trace }) => trace)).size, 3)
  assert.deepEqual(told, answers.map(({ trace }) => ['Error: secret inside', trace]))
})

test('a server that computes nothing says so', async () => {
  await using run = await liveRun([liveQuery('q')])
  await run.append(someDocuments(1, 1))
  await using server = await startWebServer({ log: run.log, host: '127.0.0.1', port: 0, onBug: noBugs })
  const response = await fetch(`${server.url}/api/runs/live/explain?query=q&partition=0&offset=0`)
  assert.equal(response.status, 501)
  assert.equal(((await (await fetch(`${server.url}/api/status`)).json()) as { canExplain: boolean }).canExplain, false)
})

test('analyses are computed one at a time, kept while nothing comes, and told as behind when something has', async () => {
  let nowMs = 0
  const asked: string[] = []
  const ends: (() => void)[] = []
  const desk = new AnalysesDesk((run) => new Promise((resolve) => {
    asked.push(run)
    ends.push(() => resolve(`${run} ${asked.length}`))
  }), { now: () => nowMs, signal: new AbortController().signal })
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const [first, same, other] = [desk.get('a', '1'), desk.get('a', '1'), desk.get('b', '1')]
  await turn()
  assert.deepEqual(asked, ['a'], 'the second run waits, the same one is asked for once')
  ends[0]()
  assert.deepEqual([await first, await same], [{ result: 'a 1', isCurrent: true }, { result: 'a 1', isCurrent: true }])
  await turn()
  ends[1]()
  assert.deepEqual(await other, { result: 'b 2', isCurrent: true })
  assert.deepEqual(await desk.get('a', '2'), { result: 'a 1', isCurrent: false })
  await turn()
  assert.equal(asked.length, 2, 'not again so soon')
  nowMs = 60_000
  assert.deepEqual(await desk.get('a', '2'), { result: 'a 1', isCurrent: false }, 'what is there is told while the next is computed')
  await turn()
  ends[2]()
  await turn()
  assert.deepEqual(await desk.get('a', '2'), { result: 'a 3', isCurrent: true })
})
