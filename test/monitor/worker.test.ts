import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageRoot } from '../../src/base/index.js'
import type { Log } from '../../src/log/index.js'
import { listen, monitor, monitorRoutes, type Monitor } from '../../src/monitor/index.js'
import { pipelineContext, type WorkResult } from '../../src/pipeline/context.js'
import { score } from '../../src/pipeline/score.js'
import { resolveSettings } from '../../src/settings/index.js'
import { freePorts } from '../free-ports.js'
import { withPart } from '../log/with-part.js'
import { append, documentOf, driveFit, homeWith, influenceOf, readAll, temporary } from '../pipeline/drive.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { toolOr } from './tools.js'

const watched = (run: string): Monitor => monitor({ work: { pipeline: 'score', run }, versions: { version: '1', node: '2', onnxruntime: '3' } })

/** Samples of the text format by name and labels, in the order of the labels' names. */
const samplesOf = (text: string): ReadonlyMap<string, number> =>
  new Map(
    text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => {
      const [, name, labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? assert.fail(line)
      return [`${name}{${[...labels.matchAll(/\w+="[^"]*"/g)].map(String).sort().join(',')}}`, Number(value)]
    }),
  )

describe('a worker, watched', () => {
  let home: string
  let log: Log
  let model: string
  const runWith = (run: string, watch: Monitor, { signal, follow = false, ...more }: { signal?: AbortSignal; follow?: boolean; long?: 'split'; context?: number } = {}): Promise<WorkResult> => {
    const flags = { home, model, run, follow, factors: 'f', threads: 1, batchTokens: 128, k: 5, commitEveryMs: 0, ...more }
    return score(resolveSettings('score', { flags, env: {} }), pipelineContext(log, { observer: watch.observer, ...(signal === undefined ? {} : { signal }) }))
  }
  before(async () => {
    model = await tinyCheckpoint(temporary())
    ;({ home, log } = await homeWith([...Array.from({ length: 60 }, (_, i) => documentOf(i)), documentOf(60, { text: 'a' })]))
    await driveFit(log, home, model)
  })

  test('metrics after a run are what the topics hold', async () => {
    const watch = watched('counted')
    watch.watch(log)
    const result = await runWith('counted', watch)
    const samples = samplesOf((await watch.metrics()).text)
    const sum = (name: string, ...labels: readonly string[]): number =>
      [...samples].reduce((total, [key, value]) => (key.startsWith(`${name}{`) && labels.every((label) => key.includes(label)) ? total + value : total), 0)
    const own = 'run="counted"'
    const influence = await influenceOf(log, 'counted')
    assert.equal(influence.length, 60)
    assert.equal(sum('tributary_documents_total', own), 60)
    assert.equal(sum('tributary_tokens_total', own), influence.reduce((total, { tokens }) => total + tokens, 0))
    assert.equal(sum('tributary_batch_tokens_sum', own), result.tokens)
    assert.equal(sum('tributary_batch_sequences_sum', own), 60)
    assert.equal(sum('tributary_dead_letters_total', own, 'stage="tokenize"', 'cause="too_short"'), 1)
    assert.equal(sum('tributary_end_to_end_latency_seconds_count', own), 61)
    assert.ok(sum('tributary_end_to_end_latency_seconds_sum', own) > 0)
    const topics = await Promise.all((['influence', 'dead-letters'] as const).map((topic) => readAll(log, topic)))
    const written = topics.flat().filter(({ value }) => value?.run === 'counted').length
    assert.ok(sum('tributary_committed_records_total', own) > written, 'tables and moments too')
    for (const partition of [0, 1]) {
      const end = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends[partition]
      assert.equal(samples.get(`tributary_committed_offset{partition="${partition}",${own}}`), end)
      assert.equal(samples.get(`tributary_consumer_lag_records{partition="${partition}",${own}}`), 0)
    }
    const commits = sum('tributary_stage_duration_seconds_count', own, 'stage="commit"')
    assert.ok(commits > 0)
    assert.equal(sum('tributary_commits_total', own, 'result="committed"'), commits)
    assert.equal(sum('tributary_commits_total', own, 'result="fenced"') + sum('tributary_commits_total', own, 'result="failed"'), 0)
    assert.equal(sum('tributary_stage_duration_seconds_count', own, 'stage="compute"'), sum('tributary_batch_tokens_count', own))
    for (const stage of ['read', 'tokenize', 'insert', 'restore', 'prepare', 'compile']) assert.ok(sum('tributary_stage_duration_seconds_count', own, `stage="${stage}"`) > 0, stage)
    assert.ok(sum('tributary_table_changes_total', own) >= 3 * 4 * 5, 'at least the rows of three queries')
    assert.equal(sum('tributary_query_cache_requests_total', own, 'kind="gradients"', 'result="miss"'), 3)
    assert.equal(sum('tributary_query_cache_requests_total', own, 'kind="gradients"', 'result="hit"'), 0)
    assert.equal(sum('tributary_assigned_partitions', own), 2)
    assert.ok(sum('tributary_engine_weights_bytes', own) > 50_000 && sum('tributary_engine_bound_bytes', own) > 0)
    assert.equal(sum('tributary_ready', own), 1)
    assert.equal(sum('tributary_healthy', own), 1)
    assert.equal(samples.get('tributary_build_info{node="2",onnxruntime="3",version="1"}'), 1)
    assert.ok(sum('process_resident_memory_bytes') > 1e7 && sum('tributary_native_memory_bytes') > 0)

    const again = watched('again')
    await runWith('again', again)
    const second = samplesOf((await again.metrics()).text)
    assert.equal(second.get('tributary_query_cache_requests_total{kind="gradients",result="hit",run="again"}'), 3)
  })

  test('documents in pieces are counted once each, their pieces beside', async () => {
    const watch = watched('pieces')
    await runWith('pieces', watch, { long: 'split', context: 8 })
    const samples = samplesOf((await watch.metrics()).text)
    const sum = (name: string): number => [...samples].reduce((total, [key, value]) => (key.startsWith(`${name}{`) ? total + value : total), 0)
    const { length } = await influenceOf(log, 'pieces')
    assert.ok(length > 60)
    assert.deepEqual([sum('tributary_documents_total'), sum('tributary_pieces_total')], [60, length])
  })

  test('a commit that is refused is counted as what it is', async () => {
    const watch = watched('refused')
    const lost = new AbortController()
    const refusing = withPart(log, {
      assignments: async function* (run, options) {
        for await (const assignment of log.assignments(run, options))
          yield {
            partition: assignment.partition, lost: lost.signal, restore: () => assignment.restore(), read: (...args) => assignment.read(...args),
            commit: () => Promise.reject(new Error('refused')),
          }
      },
    })
    const settings = resolveSettings('score', { flags: { home, model, run: 'refused', factors: 'f', threads: 1, batchTokens: 128, k: 5, commitEveryMs: 0 }, env: {} })
    await assert.rejects(score(settings, pipelineContext(refusing, { observer: watch.observer })), /refused/)
    const samples = samplesOf((await watch.metrics()).text)
    assert.equal([...samples].reduce((sum, [key, value]) => (key.startsWith('tributary_commits_total{') && key.includes('result="failed"') ? sum + value : sum), 0), 1)
  })

  test('a real Prometheus scrapes a worker that follows the log, and evaluates the rules', async (t) => {
    const prometheus = toolOr(t, 'prometheus')
    if (prometheus === undefined) return
    const watch = watched('live')
    watch.watch(log)
    await using server = await listen(monitorRoutes(watch), { host: '127.0.0.1', port: 0 })
    const status = async (path: string): Promise<number> => (await fetch(`${server.url}${path}`)).status
    assert.deepEqual([await status('/healthz'), await status('/readyz')], [200, 503], 'healthy before it is ready')
    const stop = new AbortController()
    const working = runWith('live', watch, { signal: stop.signal, follow: true })
    try {
      await until(async () => (await status('/readyz')) === 200)
      await using running = await startPrometheus(prometheus, temporary(), server.port)
      const value = async (query: string): Promise<number | undefined> => {
        const answer = await fetch(`${running.url}/api/v1/query?${new URLSearchParams({ query }).toString()}`)
        const { data } = (await answer.json()) as { data?: { result: readonly { value: readonly [number, string] }[] } }
        const sample = data?.result[0]?.value[1]
        return sample === undefined ? undefined : Number(sample)
      }
      await until(async () => (await value('sum(tributary_documents_total{run="live"})')) === 60)
      assert.equal(await value('up{job="tributary"}'), 1)
      await append(log, Array.from({ length: 5 }, (_, i) => documentOf(100 + i)))
      await until(async () => (await value('sum(tributary_documents_total{run="live"})')) === 65)
      await until(async () => (await value('run:tributary_consumer_lag_records:sum{run="live"}')) === 0)
      await until(async () => (await value('run:tributary_documents:rate5m{run="live"}') ?? 0) > 0)
      const { data } = (await (await fetch(`${running.url}/api/v1/rules`)).json()) as { data: { groups: readonly { rules: readonly { name: string; health: string; lastError?: string }[] }[] } }
      const evaluated = data.groups.flatMap(({ rules }) => rules)
      assert.ok(evaluated.length >= 17)
      for (const { name, health, lastError } of evaluated) assert.equal(health, 'ok', `${name}: ${lastError}`)
      const { data: alerts } = (await (await fetch(`${running.url}/api/v1/alerts`)).json()) as { data: { alerts: readonly { state: string; labels: { alertname: string } }[] } }
      assert.deepEqual(alerts.alerts.filter(({ labels }) => /Stalled|Down|Unhealthy|Commits/.test(labels.alertname)), [])
      assert.deepEqual([await status('/healthz'), await status('/readyz')], [200, 200])
    } finally {
      stop.abort()
      await working
    }
    await watch.ended()
    assert.equal(((await (await fetch(`${server.url}/healthz`)).json()) as { state: string }).state, 'done')
    assert.deepEqual([await status('/healthz'), await status('/nothing')], [200, 404])
    await watch.ended(new Error('its engine is gone'))
    assert.deepEqual([await status('/healthz'), await status('/readyz')], [503, 503])
  })

  test('an address that is taken is said with the fix', async () => {
    await using server = await listen(monitorRoutes(watched('x')), { host: '127.0.0.1', port: 0 })
    await assert.rejects(listen(monitorRoutes(watched('y')), { host: '127.0.0.1', port: server.port }), /127\.0\.0\.1:\d+ is in use/)
  })
})

/** Asks again until it is so; a minute and a half is for a busy machine. */
const until = async (isSo: () => Promise<boolean>): Promise<void> => {
  for (const endMs = performance.now() + 90_000; performance.now() < endMs; await sleep(100)) if (await isSo().catch(() => false)) return
  assert.fail(`it never came to be: ${String(isSo)}`)
}

/** A Prometheus with the rules of deploy/, every second, until disposed. Its port is looked for anew if another took it. */
const startPrometheus = async (program: string, folder: string, scraped: number): Promise<AsyncDisposable & { readonly url: string }> => {
  const own = readFileSync(join(packageRoot(), 'deploy', 'prometheus', 'prometheus.yml'), 'utf8')
  const config = own
    .replace(/_interval: 15s/g, '_interval: 1s')
    .replace('- rules.yml', `- ${JSON.stringify(join(packageRoot(), 'deploy', 'prometheus', 'rules.yml'))}`)
    .replaceAll('127.0.0.1:9464', `127.0.0.1:${scraped}`)
  writeFileSync(join(folder, 'prometheus.yml'), config)
  for (let attempt = 0; attempt < 3; attempt++) {
    const [port] = await freePorts(1)
    const url = `http://127.0.0.1:${port}`
    const child = spawn(program, [
      `--config.file=${join(folder, 'prometheus.yml')}`, `--storage.tsdb.path=${join(folder, `data${attempt}`)}`, `--web.listen-address=${url.slice(7)}`, '--log.level=error',
    ], { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (part: Buffer) => (said += part.toString('utf8')))
    const ended = once(child, 'exit')
    let isOver = false
    void ended.then(() => (isOver = true), () => (isOver = true))
    await until(async () => isOver || (await fetch(`${url}/-/ready`)).status === 200)
    if (isOver) {
      if (said.includes('address already in use')) continue
      assert.fail(`prometheus ended: ${said}`)
    }
    return {
      url,
      [Symbol.asyncDispose]: async () => {
        child.kill('SIGKILL')
        await ended
      },
    }
  }
  return assert.fail('no free port for Prometheus in three attempts')
}
