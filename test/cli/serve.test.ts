/** @file `serve`, `score --serve` and the demo's page as processes: they answer while they work, and end in order. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { TransientError } from '../../src/base/index.js'
import { analyseBeside } from '../../src/cli/analyse-beside.js'
import { openLog } from '../../src/pipeline/home.js'
import { globalSettings } from '../../src/settings/index.js'
import { makeRun } from '../pipeline/made-run.js'
import { queries, textOf } from '../pipeline/drive.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { start, temporaryFolder, tributaryIn, writeLines } from './tributary.js'

const timeout = 240_000

interface Running {
  readonly child: ChildProcess
  /** The first group of a pattern in what it has said on both streams; waits for it. */
  says(pattern: RegExp): Promise<string>
  /** Its end: exit code, and what was said. */
  ended(): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>
}

const children: ChildProcess[] = []
after(() => {
  for (const child of children) child.kill('SIGKILL')
})

const running = (child: ChildProcess): Running => {
  children.push(child)
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (part: Buffer) => (stdout += part.toString('utf8')))
  child.stderr?.on('data', (part: Buffer) => (stderr += part.toString('utf8')))
  const closed = once(child, 'close') as Promise<[number | null]>
  return {
    child,
    says: async (pattern) => {
      for (;;) {
        const found = pattern.exec(`${stdout}\n${stderr}`)
        if (found !== null) return found[1] ?? found[0]
        assert.ok(child.exitCode === null && child.signalCode === null, `it has ended without saying ${String(pattern)}:\n${stdout}\n${stderr}`)
        await sleep(20)
      }
    },
    ended: async () => {
      const [code] = await closed
      return { code, stdout, stderr }
    },
  }
}

const statusOf = async (url: string): Promise<number> => {
  const response = await fetch(url)
  await response.body?.cancel()
  return response.status
}
const jsonOf = async <T>(url: string): Promise<T> => {
  const response = await fetch(url)
  const text = await response.text()
  assert.equal(response.status, 200, `${url}: ${text}`)
  return JSON.parse(text) as T
}
/** Asks until an answer is as wanted; the test's own limit ends it. */
const until = async <T>(ask: () => Promise<T>, isWanted: (answer: T) => boolean): Promise<T> => {
  for (;;) {
    const answer = await ask()
    if (isWanted(answer)) return answer
    await sleep(50)
  }
}

describe('serve', () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  before(async () => {
    await using log = await openLog({ home: join(folder, '.tributary') }, { partitions: 2 })
    await makeRun(log, 'made', { documents: 60, queries: 2 })
  })

  test('answers page, API, metrics and health until Ctrl-C, then ends in order', { timeout }, async () => {
    const server = running(start(folder, ['serve', '--listen', '0', '--run', 'made']))
    const url = await server.says(/(http:\/\/127\.0\.0\.1:\d+)\n/)
    assert.match(await (await fetch(url)).text(), /<title>tributary/)
    for (const path of ['/main.js', '/style.css', '/healthz', '/readyz', '/api/openapi.json']) assert.equal(await statusOf(`${url}${path}`), 200, path)
    assert.match(await (await fetch(`${url}/metrics`)).text(), /^tributary_build_info\{/m)
    assert.equal((await jsonOf<{ run: string }>(`${url}/api/status`)).run, 'made')
    assert.equal((await jsonOf<{ rows: unknown[] }>(`${url}/api/runs/made/table?query=q0&k=5`)).rows.length, 5)
    // Computed by a process of its own, the first one waited for.
    const { documents, figures } = await jsonOf<{ documents: number; figures: unknown[] }>(`${url}/api/runs/made/analyses`)
    assert.deepEqual([documents, figures.length], [66, 20])
    // Whoever watches does not keep it from ending.
    const events = await fetch(`${url}/api/runs/made/events`)
    server.child.kill('SIGINT')
    const { code, stdout, stderr } = await server.ended()
    assert.deepEqual([code, stdout, stderr], [130, `${url}\n`, ''])
    await events.text().catch(() => undefined)
    await assert.rejects(fetch(url))
  })

  test('tells its address as JSON, and ends so by SIGTERM', { timeout }, async () => {
    const server = running(start(folder, ['serve', '--listen', '0', '--json']))
    const { url } = JSON.parse(await server.says(/(\{.*\})\n/)) as { url: string }
    assert.equal(await statusOf(`${url}/readyz`), 200)
    server.child.kill('SIGTERM')
    assert.equal((await server.ended()).code, 143)
  })

  test('an address in use, a home that is not there and an address that makes no sense are said, and how to mend it', { timeout }, async () => {
    const other = createServer().listen(0, '127.0.0.1')
    try {
      await once(other, 'listening')
      const { port } = other.address() as AddressInfo
      const taken = await tributary(`serve --listen ${port}`)
      assert.deepEqual([taken.code, taken.stdout], [1, ''])
      assert.match(taken.stderr, new RegExp(`^error: the address 127\\.0\\.0\\.1:${port} is in use\nfix: another --listen HOST:PORT`))
    } finally {
      other.close()
    }
    const nowhere = await tributary('serve --listen 0 --home nowhere')
    assert.deepEqual([nowhere.code, nowhere.stdout], [1, ''])
    assert.match(nowhere.stderr, /^error: [^]*nowhere[^]*\nfix: /)
    assert.ok(!existsSync(join(folder, 'nowhere')))
    const nonsense = await tributary('serve --listen some-where')
    assert.equal(nonsense.code, 2)
    assert.match(nonsense.stderr, /--listen/)
  })

  test('analyses beside: what the process says of its failure is told, and a server that closes ends it', { timeout }, async () => {
    const analyse = analyseBeside({ ...globalSettings({}), home: join(folder, '.tributary') })
    const result = (await analyse('made', new AbortController().signal)) as { run: string; documents: number }
    assert.deepEqual([result.run, result.documents], ['made', 66])
    await assert.rejects(analyse('none', new AbortController().signal), (error: unknown) => error instanceof TransientError && /"none" could not be computed: error: there is no run "none"\nfix: runs: made/.test(error.message))
    const closing = new AbortController()
    const left = analyse('made', closing.signal)
    closing.abort()
    await assert.rejects(left, TransientError)
  })
})

describe('score --serve', () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  const done = async (line: string): Promise<void> => {
    const { code, stdout, stderr } = await tributary(line)
    assert.equal(code, 0, `${line}\n${stdout}${stderr}`)
  }
  const documents = (from: number, count: number) => Array.from({ length: count }, (_, i) => ({ id: `d${from + i}`, text: `${textOf(from + i)} ${from + i}` }))
  const scoring = ['score', '--model', 'model', '--factors', 'f', '--threads', '1', '-k', '10', '--serve', '--listen', '0']
  before(async () => {
    await tinyCheckpoint(join(folder, 'model'))
    writeLines(folder, 'a.jsonl', documents(0, 40))
    writeLines(folder, 'b.jsonl', documents(40, 7))
    writeLines(folder, 'queries.jsonl', queries)
    await done('ingest a.jsonl --partitions 2 --quiet')
    await done('queries add queries.jsonl')
    await done('fit --model model --factors f --documents 40 --strategy kfac --threads 1 --quiet')
  }, { timeout })

  test('serves while it scores, follows what comes, explains and analyses, and ends at Ctrl-C with all committed', { timeout }, async () => {
    const worker = running(start(folder, [...scoring, '--run', 'live', '--follow']))
    const url = await worker.says(/the live page: (http:\/\/127\.0\.0\.1:\d+) /)
    assert.match(await (await fetch(url)).text(), /<title>tributary/)
    interface Progress { readonly documents: number; readonly lag: number; readonly activity: { readonly scored: number } }
    const progress = async (): Promise<Progress | undefined> => {
      const response = await fetch(`${url}/api/runs/live/progress`)
      const answer = (await response.json()) as Progress
      return response.ok ? answer : undefined // the run's record is not written yet
    }
    await until(progress, (now) => now?.lag === 0 && now.activity.scored === 40)
    await until(() => statusOf(`${url}/readyz`), (status) => status === 200)
    assert.equal(await statusOf(`${url}/healthz`), 200)
    await until(async () => (await fetch(`${url}/metrics`)).text(), (text) => [...text.matchAll(/^tributary_documents_total\{.*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0) === 40)

    const { rows } = await jsonOf<{ rows: { partition: number; offset: number; score: number }[] }>(`${url}/api/runs/live/table?query=water&k=1`)
    const { score, tokens } = await jsonOf<{ score: number; tokens: { term: number }[] }>(`${url}/api/runs/live/explain?query=water&partition=${rows[0].partition}&offset=${rows[0].offset}`)
    const size = tokens.reduce((sum, { term }) => sum + Math.abs(term), 0)
    assert.ok(Math.abs(score - rows[0].score) <= 2e-5 * size && Math.abs(tokens.reduce((sum, { term }) => sum + term, 0) - score) <= 2e-5 * size)
    assert.equal((await jsonOf<{ documents: number }>(`${url}/api/runs/live/analyses`)).documents, 40)

    await done('ingest b.jsonl --quiet')
    await until(progress, (now) => now?.documents === 47 && now.lag === 0)
    worker.child.kill('SIGINT')
    const { code, stdout, stderr } = await worker.ended()
    assert.equal(code, 0, `${stdout}${stderr}`) // nothing was left to do
    assert.match(stdout, /run "live": 47 documents/)
    assert.match(stderr, /finishing the batch in hand/)
    assert.doesNotMatch(stderr, /\n {4}at /)
    await assert.rejects(fetch(url))
    assert.match((await tributary('topk --run live -k 1 --query water')).stdout, /of 47 scored/)
  })

  test('without --follow the page ends with the scoring', { timeout }, async () => {
    const worker = running(start(folder, [...scoring, '--run', 'once']))
    const url = await worker.says(/the live page: (http:\/\/127\.0\.0\.1:\d+) /)
    const { code, stdout } = await worker.ended()
    assert.deepEqual([code, /run "once": (\d+) documents/.exec(stdout)?.[1] !== undefined], [0, true], stdout)
    await assert.rejects(fetch(url))
  })

  test('an address in use ends it before anything is scored', { timeout }, async () => {
    const other = createServer().listen(0, '127.0.0.1')
    try {
      await once(other, 'listening')
      const taken = await tributary(['score', '--model', 'model', '--factors', 'f', '--threads', '1', '--serve', '--run', 'never', '--listen', String((other.address() as AddressInfo).port)])
      assert.equal(taken.code, 1)
      assert.match(taken.stderr, /is in use\nfix: another --listen/)
    } finally {
      other.close()
    }
    assert.doesNotMatch((await tributary('status')).stdout, /never/)
  })
})

test('npm start -- --serve shows the demo while it happens, and Ctrl-C ends it where it can go on', { timeout }, async () => {
  const folder = temporaryFolder()
  const demo = fileURLToPath(new URL('../../demo/run.js', import.meta.url))
  const begun = running(spawn(process.execPath, [demo, '--home', 'home', '--documents', '120', '--serve', '--listen', '0'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] }))
  const url = await begun.says(/The live page: (http:\/\/127\.0\.0\.1:\d+)/)
  assert.match(await (await fetch(url)).text(), /<title>tributary/)
  assert.equal((await jsonOf<{ runs: unknown[] }>(`${url}/api/status`)).runs.length, 0)
  await begun.says(/120 documents appended/)
  await until(() => jsonOf<{ hits: unknown[] }>(`${url}/api/documents?limit=5`), ({ hits }) => hits.length === 5)
  begun.child.kill('SIGINT')
  const { code, stdout, stderr } = await begun.ended()
  assert.equal(code, 130, `${stdout}${stderr}`)
  assert.match(stdout, /Stopped while (fitting|scoring)\. "npm start" goes on from there\./)
  assert.doesNotMatch(stderr, /\n {4}at /)
  assert.ok(readdirSync(join(folder, 'home')).includes('log') && readFileSync(join(folder, 'home', 'corpus', readdirSync(join(folder, 'home', 'corpus'))[0])).length > 0)
})
