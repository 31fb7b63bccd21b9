/**
 * @file The recipe of exactly-once, simulated: workers over a cluster in memory whose requests and answers are lost, come
 * late or take long; workers are evicted, die and come back as zombies. Whatever happens, every document is in
 * `influence` once, read committed, and the state is what a recomputation gives. Then the recipe is broken, in one
 * place at a time, and the simulation must see it.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { TransientError } from '../../../src/base/index.js'
import { keyOf, type Assignment, type InfluenceValue, type Log } from '../../../src/log/index.js'
import { isFault, kafkaLog, type Clock, type KafkaClient, type TransactionalProducer } from '../../../src/log/kafka/index.js'
import { readAll } from '../contract.js'
import { RUN, document, tables } from '../records.js'
import { FakeCluster, type Fate, type Weather } from './fake.js'

const PARTITIONS = 3
const DOCUMENTS = 60
const SEEDS = 25

/** mulberry32: seeded numbers in [0, 1). */
const randomOf = (seed: number): (() => number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const ticks = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve))
}

/** Until `calm`, requests have accidents; every request takes some turns of the event loop. */
class World {
  readonly cluster = new FakeCluster()
  readonly random: () => number
  calm = false
  #nowMs = 1e12

  constructor(seed: number) {
    this.random = randomOf(seed)
    this.cluster.nowMs = () => this.#nowMs
    this.cluster.weather = async () => {
      await ticks(1 + Math.floor(this.random() * 4))
      return 'fine'
    }
  }

  clock: Clock = {
    nowMs: () => this.#nowMs,
    sleep: async (ms, signal) => {
      if (signal?.aborted === true) return
      // Others go on meanwhile: a turn of the event loop stands for 10 ms.
      await ticks(1 + Math.ceil(ms / 10))
      this.#nowMs += 10
    },
    random: () => this.random(),
  }

  /** Between one process and the cluster. `isDead`: nothing of it goes on. */
  weatherOf(isDead: () => boolean): Weather {
    return async (request) => {
      if (isDead()) return await new Promise<never>(() => undefined)
      const dice = this.calm ? 1 : this.random()
      // A process that was stopped for long comes back as a zombie.
      await ticks(dice < 0.01 ? 150 : Math.floor(this.random() * 3))
      if (isDead()) return await new Promise<never>(() => undefined)
      if (this.calm) return 'fine'
      return fateOf(request, this.random())
    }
  }
}

const fateOf = (request: string, dice: number): Fate => {
  const ofTransaction = request === 'send' || request === 'offsets' || request === 'commit'
  if (dice < 0.02) return 'request lost'
  if (dice < 0.04) return ofTransaction || request === 'init' ? 'answer lost' : 'request lost'
  return dice < 0.06 && ofTransaction ? 'delayed' : 'fine'
}

/** Scores each document by its offset; the table is the sum and the count. */
const work = async (assignment: Assignment, random: () => number): Promise<void> => {
  const restored = await assignment.restore()
  const { partition } = assignment
  const value = restored.state.find(({ topic }) => topic === 'tables')?.value
  let score = value !== undefined && 'top' in value && 'k' in value ? value.top[0].score : 0
  let { offset } = restored.position
  while (!assignment.lost.aborted) {
    const records = await assignment.read(offset, { recordsMax: 4, bytesMax: 1 << 20 })
    await ticks(1 + Math.floor(random() * 5))
    const last = records.at(-1)
    if (last === undefined) continue
    score += records.reduce((sum, record) => sum + record.offset, 0)
    offset = last.offset + 1
    const influence = records.map((record) => ({
      topic: 'influence' as const, key: keyOf(RUN, record.key),
      value: {
        run: RUN, document: record.value?.id ?? '', source: 'web', partition, offset: record.offset, piece: 0, pieces: 1, tokens: 1, tokensTotal: 1,
        loss: 1, gradientNorm: 1, influence: [record.offset],
      } satisfies InfluenceValue,
    }))
    await assignment.commit({ append: [...influence, tables(partition, score)], position: { offset } })
  }
}

type Breakage = (client: KafkaClient) => KafkaClient

const worker = async (world: World, breakage: Breakage, signal: AbortSignal, isDead: () => boolean): Promise<void> => {
  const log = await kafkaLog(breakage(world.cluster.client(world.weatherOf(isDead))), { cluster: 'the simulation', clock: world.clock })
  const working: Promise<void>[] = []
  for await (const assignment of log.assignments(RUN, { signal }))
    working.push(work(assignment, world.random).catch((error: unknown) => {
      if (!(error instanceof TransientError)) throw error
    }))
  await Promise.all(working)
  await log[Symbol.asyncDispose]()
}

/** What the world came to, or the first thing that is wrong with it. */
const simulate = async (seed: number, breakage: Breakage): Promise<void> => {
  const world = new World(seed)
  const open = (): Promise<Log> => kafkaLog(world.cluster.client(), { cluster: 'the simulation', clock: world.clock })
  await using log = await open()
  await log.ensureTopics({ partitions: PARTITIONS })
  await log.append(Array.from({ length: DOCUMENTS }, (_, i) => document(`d${i}`)))
  const ends = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends ?? []

  const stop = new AbortController()
  const dead = new Set<number>()
  const workers = new Map<number, Promise<void>>()
  const failures: unknown[] = []
  const start = (id: number): void => {
    workers.set(id, worker(world, breakage, stop.signal, () => dead.has(id)).catch((error: unknown) => void failures.push(error)))
  }
  try {
    for (const id of [0, 1, 2]) start(id)
    for (let turn = 0; turn < 40; turn++) {
      await ticks(10 + Math.floor(world.random() * 60))
      const dice = world.random()
      if (dice < 0.35) world.cluster.evict((count) => Math.floor(world.random() * count))
      else if (dice < 0.45) world.cluster.compact()
      else if (dice < 0.5) world.cluster.expire()
      else if (dice < 0.6 && dead.size < 3) {
        const victim = Math.floor(world.random() * workers.size)
        dead.add(victim)
        start(workers.size)
      }
    }
    world.calm = true
    // Sessions of the dead end: an eviction of everybody, who lives joins again.
    for (let i = 0; i < 12; i++) {
      world.cluster.evict(() => 0)
      await ticks(20)
    }
    world.cluster.expire()
    const done = async (): Promise<boolean> => (await log.positions(RUN)).every(({ offset }, partition) => offset >= ends[partition])
    for (let turn = 0; !(await done()); turn++) {
      if (failures.length > 0) throw failures[0]
      assert.ok(turn < 1_000, 'the workers come to the end')
      await ticks(20)
    }
    stop.abort()
    await Promise.all([...workers].map(([id, running]) => (dead.has(id) ? undefined : running)))
    if (failures.length > 0) throw failures[0]
  } finally {
    // Nobody of this world goes on, however it ended.
    stop.abort()
    for (const id of workers.keys()) dead.add(id)
  }

  for (let partition = 0; partition < PARTITIONS; partition++) {
    const documents = await readAll(log, 'documents', partition)
    const influence = await readAll(log, 'influence', partition)
    assert.deepEqual(influence.map(({ value }) => value?.offset), documents.map(({ offset }) => offset), 'every document once, in order')
    const [table] = await log.latest('tables', keyOf(RUN, 'q', partition))
    assert.equal(table?.value?.top[0].score ?? 0, documents.reduce((sum, { offset }) => sum + offset, 0), 'the state is that of a recomputation')
  }
}

const intact: Breakage = (client) => client

describe('workers that are paused, evicted, killed and cut off', () => {
  for (let seed = 1; seed <= SEEDS; seed++)
    test(`count every document once, seed ${seed}`, { timeout: 60_000 }, () => simulate(seed, intact))
})

/** Everything of a client but its producers. */
const withProducers = (client: KafkaClient, producer: KafkaClient['producer']): KafkaClient => ({
  admin: client.admin, fetch: client.fetch, join: client.join, producer, [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
})

const breakages: Readonly<Record<string, Breakage>> = {
  'without fencing (an id for each producer)': (client) => {
    let count = 0
    return withProducers(client, (id) => client.producer(`${id}-${count++}-${String(Math.random())}`))
  },
  'with a commit that is tried again': (client) =>
    withProducers(client, async (id) => {
      let producer = await client.producer(id)
      const again: TransactionalProducer = {
        close: () => producer.close(),
        transaction: async (records, offsets) => {
          try {
            return await producer.transaction(records, offsets)
          } catch (error) {
            if (!isFault(error, 'unknown-outcome')) throw error
            producer = await client.producer(id)
            return await producer.transaction(records, offsets)
          }
        },
      }
      return again
    }),
  'with outputs and state in two transactions': (client) =>
    withProducers(client, async (id) => {
      const producer = await client.producer(id)
      return {
        close: () => producer.close(),
        transaction: async (records, offsets) => {
          const outputs = records.filter(({ topic }) => topic === 'influence')
          await producer.transaction(outputs)
          return await producer.transaction(records.filter(({ topic }) => topic !== 'influence'), offsets)
        },
      }
    }),
}

describe('the simulation sees a recipe that is broken', () => {
  for (const [name, breakage] of Object.entries(breakages))
    test(name, { timeout: 120_000 }, async () => {
      for (let seed = 1; seed <= SEEDS; seed++)
        try {
          await simulate(seed, breakage)
        } catch (error) {
          if (error instanceof assert.AssertionError) return
          throw error
        }
      assert.fail(`${SEEDS} seeds passed`)
    })
})

describe('ingesters that collide and lose answers', () => {
  for (let seed = 1; seed <= SEEDS; seed++)
    test(`add every document once and count it once, seed ${seed}`, { timeout: 60_000 }, async () => {
      const world = new World(seed)
      await using log = await kafkaLog(world.cluster.client(), { cluster: 'the simulation', clock: world.clock })
      await log.ensureTopics({ partitions: PARTITIONS })
      const ingest = async (from: number): Promise<number> => {
        await using own = await kafkaLog(world.cluster.client(world.weatherOf(() => false)), { cluster: 'the simulation', clock: world.clock })
        let appended = 0
        for (let i = from; i < from + 40; i += 5) {
          const ids = Array.from({ length: 5 }, (_, at) => `d${i + at}`)
          appended += (await own.append(ids.map((id) => document(id)), { unique: true })).appended
        }
        return appended
      }
      const counts = await Promise.all([ingest(0), ingest(20), ingest(10)])
      await ticks(50) // the markers of the last transaction
      const ids: string[] = []
      for (let partition = 0; partition < PARTITIONS; partition++) ids.push(...(await readAll(log, 'documents', partition)).map(({ value }) => value?.id ?? ''))
      assert.deepEqual(ids.sort(), Array.from({ length: 60 }, (_, i) => `d${i}`).sort())
      assert.equal(counts.reduce((sum, count) => sum + count), 60)
    })
})

