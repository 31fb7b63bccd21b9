/**
 * @file Workers on a real broker that are killed, stopped past their session and let come back, while documents are still
 * arriving; the broker killed and started again; ends of transactions whose requests or answers are lost or late. After each
 * round a consumer that is not ours finds every document once in `influence`, and the tables and moments that all scores at
 * once come to.
 *
 *     TRIBUTARY_CHAOS_ROUNDS=200 npm test -- kafka/chaos                            more of them
 *     TRIBUTARY_CHAOS_SEED=17 TRIBUTARY_CHAOS_ROUNDS=1 npm test -- kafka/chaos      one again
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Log } from '../../src/log/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { withBroker } from '../log/kafka/broker.js'
import { addQueries, driveFit, temporary } from '../pipeline/drive.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { newRound, type Round } from './chaos.js'
import { consumerName } from './consumer.js'
import { assertCountedOnce, contentsOf, k, queries } from './counted.js'
import { appendDocuments, trickleDocuments } from './documents.js'
import { processes } from './processes.js'
import { startProxy } from './proxy.js'

const rounds = Number(process.env.TRIBUTARY_CHAOS_ROUNDS ?? 20)
const seedFirst = Number(process.env.TRIBUTARY_CHAOS_SEED ?? 1)
/** Rounds at a time, on one broker. */
const waveRounds = 7
/** Before a wave's workers start, and when its last documents have come. */
const documentsFirst = 120
const documents = 240
/** Between two appends: the documents of a wave come for some ten seconds. */
const appendPauseMs = 250
/** One round in ten is of the real command line with a real model. */
const isReal = (seed: number): boolean => seed % 10 === 5

const proxy = await startProxy()
await withBroker('chaos', { kill: true, proxy: proxy.port }, (broker) => {
  const all = processes()
  const home = temporary()
  const model = join(home, 'model')
  const open = (prefix: string): Promise<Log> => kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'the broker', prefix, leases: home })
  before(async () => {
    proxy.upstream = broker.proxied
    await using log = await open('model.')
    await log.ensureTopics({ partitions: 1 })
    await appendDocuments(log, 30)
    await tinyCheckpoint(model)
    await driveFit(log, home, model, { documents: 30, strategy: 'kfac' })
  }, { timeout: 120_000 })
  after(async () => {
    await all.end()
    await proxy.close()
  }, { timeout: 60_000 })

  let restarting: Promise<void> | undefined
  const restartBroker = (): Promise<void> => (restarting ??= (async () => {
    await broker.kill()
    await broker.restart()
  })().finally(() => (restarting = undefined)))

  for (let from = seedFirst; from < seedFirst + rounds; from += waveRounds) {
    const seeds = Array.from({ length: Math.min(waveRounds, seedFirst + rounds - from) }, (_, i) => from + i)
    test(`every document counts once, read by ${consumerName}: rounds ${seeds.join(', ')}`, { timeout: 300_000 }, async (t) => {
      const args = ['score', '--model', model, '--factors', 'f', '--batch-tokens', '128', '--threads', '1', '--commit-every-ms', '0', '--join', 'dense']
      // Topics of its own: a round is the same again by itself.
      const prefix = `wave-${from}.`
      await using log = await open(prefix)
      await log.ensureTopics({ partitions: 3 })
      await addQueries(log)
      await trickleDocuments(log, { from: 0, end: documentsFirst, pauseMs: 0, seed: from })
      const arriving = new AbortController()
      const arrived = once(arriving.signal, 'abort').then(() => trickleDocuments(log, { from: documentsFirst, end: documents, pauseMs: appendPauseMs, seed: from + 1 }))
      const wave = new Map<string, Round>()
      for (const seed of seeds) {
        const round = newRound({
          seed, processes: all, brokers: `127.0.0.1:${proxy.port}`, prefix, queries, k, restartBroker, arrived, ...(isReal(seed) ? { commandLine: { home, args } } : {}),
        })
        wave.set(round.run, round)
      }
      proxy.fateOf = (transactionalId) => {
        const round = wave.get(/tributary-(round-\d+)-\d+$/.exec(transactionalId)?.[1] ?? '')
        if (round !== undefined) arriving.abort() // somebody is at work
        return round?.fateOf() ?? 'fine'
      }
      const outcomes = await Promise.allSettled([...wave.values()].map((round) => round.go()))
      await restarting
      const found = await contentsOf(broker.plaintext, prefix)
      const failures = seeds.flatMap((seed, i) => {
        const outcome = outcomes[i]
        try {
          if (outcome.status === 'rejected') throw outcome.reason
          t.diagnostic(`round ${seed}: ${outcome.value}`)
          assertCountedOnce(found, { run: `round-${seed}`, documents, cheaply: !isReal(seed) }, `round ${seed}`)
          return []
        } catch (error) {
          return [`round ${seed}: ${error instanceof Error ? error.message : String(error)}\nagain: TRIBUTARY_CHAOS_SEED=${seed} TRIBUTARY_CHAOS_ROUNDS=1 npm test -- kafka/chaos`]
        }
      })
      assert.deepEqual(failures, [])
    })
  }
})
