/**
 * @file Workers on a real broker that are killed, stopped past their session and let come back; the broker killed and
 * started again; ends of transactions whose requests or answers are lost or late. After each round a consumer that is not
 * ours finds every document once in `influence`, and the tables and moments that all scores at once come to.
 *
 *     TRIBUTARY_CHAOS_ROUNDS=200 npm test -- kafka/chaos                            more of them
 *     TRIBUTARY_CHAOS_SEED=17 TRIBUTARY_CHAOS_ROUNDS=1 npm test -- kafka/chaos      one again
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { declaredTopics, singleObject, type InfluenceValue, type Log, type MomentsValue, type TablesValue, type TopicName } from '../../src/log/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { withBroker } from '../log/kafka/broker.js'
import { addQueries, driveFit, queries as driveQueries, temporary } from '../pipeline/drive.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { newRound, type Round } from './chaos.js'
import { consume, consumerName } from './consumer.js'
import { appendDocuments, documentOf, scoresOf, tokensOf } from './documents.js'
import { processes } from './processes.js'
import { startProxy } from './proxy.js'
import { assertRecomputed } from './recompute.js'

const rounds = Number(process.env.TRIBUTARY_CHAOS_ROUNDS ?? 20)
const seedFirst = Number(process.env.TRIBUTARY_CHAOS_SEED ?? 1)
/** Rounds at a time, on one broker. */
const waveRounds = 7
const documents = 240
const k = 7
const prefix = 'chaos.'
/** In the order that a run has them in. */
const queries = driveQueries.map(({ id }) => id).sort()
/** One round in ten is of the real command line with a real model. */
const isReal = (seed: number): boolean => seed % 10 === 5

const proxy = await startProxy()
await withBroker('chaos', { kill: true, proxy: proxy.port }, (broker) => {
  const all = processes()
  const home = temporary()
  const model = join(home, 'model')
  let log: Log
  before(async () => {
    proxy.upstream = broker.proxied
    log = await kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'the broker', prefix, leases: home })
    await log.ensureTopics({ partitions: 3 })
    await appendDocuments(log, documents)
    await addQueries(log)
    await tinyCheckpoint(model)
    await driveFit(log, home, model, { documents: 30, strategy: 'kfac' })
  }, { timeout: 120_000 })
  after(async () => {
    await all.end()
    await log[Symbol.asyncDispose]()
    await proxy.close()
  }, { timeout: 60_000 })

  let restarting: Promise<void> | undefined
  const restartBroker = (): Promise<void> => (restarting ??= (async () => {
    await broker.kill()
    await broker.restart()
  })().finally(() => (restarting = undefined)))

  const valuesOf = async <Value>(topic: TopicName): Promise<readonly (readonly [string, Value])[]> => {
    const { schema } = declaredTopics().get(topic) ?? assert.fail(topic)
    const codec = singleObject({ put: () => Promise.resolve(), find: () => Promise.resolve(undefined) })({ name: topic, schema })
    return (await consume(broker.plaintext, prefix + topic)).flatMap(({ key, value }) => {
      if (value === null || key.startsWith('\u001f')) return []
      const decoded = codec.decode(value, 0, value.length)
      assert.ok('value' in decoded, `${topic} "${key}" cannot be read`)
      return [[key, decoded.value as Value] as const]
    })
  }

  const check = (run: string, seed: number, found: Contents): void => {
    const about = `round ${seed}`
    const influence = found.influence.flatMap(([, value]) => (value.run === run ? [value] : []))
    const names = influence.map(({ source, document }) => `${source}/${document}`).sort()
    const wanted = Array.from({ length: documents }, (_, i) => documentOf(i)).map(({ source, id }) => `${source}/${id}`).sort()
    assert.deepEqual(names, wanted, `every document once: ${about}`)
    if (!isReal(seed)) for (const { document, influence: scores } of influence) {
      const { text } = documentOf(Number(document.slice(1)))
      assert.deepEqual([...scores], scoresOf(tokensOf(text ?? '').slice(0, 64), queries.length).influence, `${document}: ${about}`)
    }
    // The newest record of a key is the last one of its partition.
    assertRecomputed({ run, queries, k, influence, tables: new Map(found.tables), moments: new Map(found.moments) }, about)
  }

  for (let from = seedFirst; from < seedFirst + rounds; from += waveRounds) {
    const seeds = Array.from({ length: Math.min(waveRounds, seedFirst + rounds - from) }, (_, i) => from + i)
    test(`every document counts once, read by ${consumerName}: rounds ${seeds.join(', ')}`, { timeout: 300_000 }, async (t) => {
      const args = ['score', '--model', model, '--factors', 'f', '--batch-tokens', '128', '--threads', '1', '--commit-every-ms', '0', '--join', 'dense']
      const wave = new Map<string, Round>()
      for (const seed of seeds) {
        const round = newRound({
          seed, processes: all, brokers: `127.0.0.1:${proxy.port}`, prefix, queries, k, restartBroker, ...(isReal(seed) ? { commandLine: { home, args } } : {}),
        })
        wave.set(round.run, round)
      }
      proxy.fateOf = (transactionalId) => wave.get(/tributary-(round-\d+)-\d+$/.exec(transactionalId)?.[1] ?? '')?.fateOf() ?? 'fine'
      const outcomes = await Promise.allSettled([...wave.values()].map((round) => round.go()))
      await restarting
      const found: Contents = { influence: await valuesOf('influence'), tables: await valuesOf('tables'), moments: await valuesOf('moments') }
      const failures = seeds.flatMap((seed, i) => {
        const outcome = outcomes[i]
        try {
          if (outcome.status === 'rejected') throw outcome.reason
          t.diagnostic(`round ${seed}: ${outcome.value}`)
          check(`round-${seed}`, seed, found)
          return []
        } catch (error) {
          return [`round ${seed}: ${error instanceof Error ? error.message : String(error)}\nagain: TRIBUTARY_CHAOS_SEED=${seed} TRIBUTARY_CHAOS_ROUNDS=1 npm test -- kafka/chaos`]
        }
      })
      assert.deepEqual(failures, [])
    })
  }
})

interface Contents {
  readonly influence: readonly (readonly [string, InfluenceValue])[]
  readonly tables: readonly (readonly [string, TablesValue])[]
  readonly moments: readonly (readonly [string, MomentsValue])[]
}
