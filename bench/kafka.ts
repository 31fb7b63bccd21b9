/**
 * @file The stream through Kafka: `node dist/bench/kafka.js [documents] [--no-peer]` (default 100,000 of 16 token ids in 4
 * partitions; 10 queries, k = 100). One worker with a null engine, and a broker of the tests beside it: one more process
 * on the same cores.
 *
 * | figure | limit beside it, measured in the same run on the same broker |
 * |---|---|
 * | documents a second, at several --commit-every-ms | the same job in the Kafka Streams library (peer/kafka-streams; needs Maven) |
 * | | the same run on the embedded log |
 * | milliseconds from appending a document to the commit of the tables with it | |
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { packageRoot } from '../src/base/index.js'
import { embeddedLog, keyOf, type Log } from '../src/log/index.js'
import { kafkaLog } from '../src/log/kafka/index.js'
import { kafkajsClient } from '../src/log/kafka/kafkajs.js'
import { silentObserver } from '../src/pipeline/observer.js'
import { startBroker } from '../test/log/kafka/broker.js'
import { fill, nullRun } from './null-run.js'

const documents = Number(process.argv.slice(2).find((given) => /^\d+$/.test(given)) ?? 100_000)
const commitsEveryMs = [100, 1000, 5000]
const partitions = 4

const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-kafka-'))
const seconds = async (action: () => Promise<unknown>): Promise<number> => {
  const from = performance.now()
  await action()
  return (performance.now() - from) / 1000
}
const rate = (took: number): number => Math.round(documents / took)
const all = async (log: Log, run: string, commitEveryMs: number): Promise<number> =>
  await seconds(async () => {
    const done = await nullRun(log, { run, commitEveryMs })
    if (done !== documents) throw new Error(`${done} of ${documents} documents were scored`)
  })

/** Compiles the peer and resolves to a function that runs it; undefined where there is no Maven. */
const peer = (brokers: string): ((output: string, commitEveryMs: number) => number) | undefined => {
  const source = join(packageRoot(), 'bench', 'peer', 'kafka-streams')
  const jars = join(folder, 'jars')
  try {
    execFileSync('mvn', ['-q', '-B', '-f', join(source, 'pom.xml'), 'dependency:copy-dependencies', `-DoutputDirectory=${jars}`, '-DincludeScope=runtime'], { stdio: 'ignore' })
    execFileSync('javac', ['-cp', join(jars, '*'), '-d', folder, join(source, 'Peer.java')])
  } catch (error) {
    console.log(`no peer: ${(error as Error).message.split('\n')[0]}`)
    return undefined
  }
  return (output, commitEveryMs) => Number(execFileSync('java', [
    '-Xmx512m', '-cp', `${join(jars, '*')}:${folder}`, 'Peer', brokers, 'documents', output, String(documents), String(commitEveryMs), '1', join(folder, output),
  ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 300_000 }).trim())
}

/** Milliseconds from appending to the commit, sorted, for documents that come one by one. */
const latencies = async (log: Log, commitEveryMs: number): Promise<readonly number[]> => {
  const found: number[] = []
  const end = new AbortController()
  const observer = { ...silentObserver, committed: ({ appendedMs }: { readonly appendedMs: readonly number[] }): void => {
    const now = Date.now()
    found.push(...appendedMs.map((ms) => now - ms))
  } }
  const run = `latency-${commitEveryMs}`
  const following = nullRun(log, { run, commitEveryMs, follow: true, signal: end.signal, observer })
  for (let seen = -1; seen !== found.length || seen < documents; await pause(200)) seen = found.length
  found.length = 0
  for (let i = 0; i < 100; i++) {
    const id = `late-${commitEveryMs}-${i}`
    const value = { id, idGiven: true, source: 'bench', text: null, tokens: [1, 2, 3], shard: 'late', index: i, extra: null }
    await log.append([{ topic: 'documents', key: keyOf('bench', id), value }])
    await pause(50)
  }
  while (found.length < 100) await pause(100)
  end.abort()
  await following
  return found.sort((a, b) => a - b)
}

const broker = await startBroker({ overrides: {}, jit: 'full' })
try {
  console.log(`load before: ${loadavg()[0].toFixed(1)}; broker: ${broker.kind}; ${documents} documents in ${partitions} partitions`)
  await using embedded = await embeddedLog(join(folder, 'log'))
  await embedded.ensureTopics({ partitions })
  await fill(embedded, documents)
  await using log = await kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'bench', replicationFactor: 1 })
  await log.ensureTopics({ partitions })
  console.log(`append ${rate(await seconds(() => fill(log, documents)))} documents/s`)
  const admin = kafkajsClient({ brokers: [broker.plaintext] })
  await all(log, 'warm', 1000)
  const streams = process.argv.includes('--no-peer') ? undefined : peer(broker.plaintext)
  for (const everyMs of commitsEveryMs) {
    const ours = await all(log, `every-${everyMs}`, everyMs)
    const beside = await all(embedded, `every-${everyMs}`, everyMs)
    let line = `commit every ${everyMs} ms: ${rate(ours)} documents/s, ${(beside / ours).toFixed(2)} of the embedded log (${rate(beside)}/s)`
    if (streams !== undefined) {
      const output = `peer-${everyMs}`
      await admin.admin.createTopics([{ topic: output, partitions, replicationFactor: 1, configs: {} }])
      const theirs = streams(output, everyMs)
      line += `, ${(theirs / ours).toFixed(2)} of Kafka Streams (${rate(theirs)}/s)`
    }
    console.log(line)
  }
  for (const everyMs of [100, 1000]) {
    const found = await latencies(log, everyMs)
    console.log(`append to table, commit every ${everyMs} ms: median ${found[50]} ms, 99 % ${found[98]} ms`)
  }
  await admin[Symbol.asyncDispose]()
  console.log(`load after: ${loadavg()[0].toFixed(1)}; resident ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`)
} finally {
  await broker.dispose()
  rmSync(folder, { recursive: true, force: true })
}
