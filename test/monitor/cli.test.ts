import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseAddress, resolveSettings } from '../../src/settings/index.js'
import { temporaryFolder, tributaryIn, writeLines } from '../cli/tributary.js'

describe('--listen, --log-level, --log-format', () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  const shard = writeLines(folder, 'd.jsonl', [{ id: 'a', text: 'one' }, { id: 'b', text: 'two' }, { id: 'c', text: '' }])

  test('as JSON, standard error is nothing but lines of JSON: progress, dead letters, where metrics are', async () => {
    const { code, stderr } = await tributary(`ingest ${shard} --json --listen 0 --log-format json --log-level debug`)
    assert.equal(code, 0, stderr)
    const lines = stderr.trimEnd().split('\n').map((line) => JSON.parse(line) as { level: string; pipeline: string; trace: string; msg: string; causes?: unknown; done?: number })
    assert.ok(lines.every(({ pipeline }) => pipeline === 'ingest'))
    assert.match(lines[0].trace, /^[0-9a-f]{32}$/)
    assert.ok(lines.every(({ trace }) => trace === lines[0].trace), 'one trace a process')
    const given = await tributary(`ingest ${shard} --log-format json`, { TRACEPARENT: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' })
    assert.match(given.stderr, /^(\{.*"trace":"4bf92f3577b34da6a3ce929d0e0e4736".*\}\n)+$/)
    assert.match(lines[0].msg, /http:\/\/127\.0\.0\.1:\d+\/metrics/)
    assert.deepEqual(lines.find(({ msg }) => msg === 'dead letters')?.causes, { 'ingest/empty': 1 })
    assert.equal(lines.find(({ msg }) => msg === 'progress')?.done, 3)
  })

  test('without them there are no log lines; TRIBUTARY_DEBUG brings them, and --quiet leaves them', async () => {
    const line = /^\S+Z info ready pid=\d+ pipeline=ingest$/m
    assert.doesNotMatch((await tributary(`ingest ${shard}`)).stderr, line)
    assert.match((await tributary(`ingest ${shard} --quiet`, { TRIBUTARY_DEBUG: '1' })).stderr, line)
    assert.doesNotMatch((await tributary(`ingest ${shard} --log-level error`, { TRIBUTARY_DEBUG: '1' })).stderr, line)
  })

  test('an address that makes no sense is wrong usage', async () => {
    for (const given of ['localhost', '127.0.0.1:99999', 'a b:1', 'http://x:1']) {
      const { code, stderr } = await tributary(['ingest', shard, '--listen', given])
      assert.equal(code, 2, stderr)
      assert.match(stderr, /--listen/)
    }
  })

  test('a port alone is one of this machine', () => {
    const of = (listen: string): string | null => resolveSettings('ingest', { flags: { paths: ['x'], listen }, env: {} }).listen
    for (const [given, host, port] of [['9464', '127.0.0.1', 9464], [':9464', '127.0.0.1', 9464], ['0.0.0.0:1', '0.0.0.0', 1], ['[::1]:0', '::1', 0], ['box:80', 'box', 80]] as const)
      assert.deepEqual(parseAddress(of(given) ?? ''), { host, port })
    assert.equal(resolveSettings('ingest', { flags: { paths: ['x'] }, env: {} }).listen, null)
  })
})
