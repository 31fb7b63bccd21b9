/**
 * @file Commits that are on their way while the next batches are computed. On a cluster in memory, one accident at a time at
 * every single request that a worker makes: whatever it is, every document counts once and the state is the same. Then
 * commits that take long, fail or are outlived by their partition, on a log that is watched.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { TransientError, runId } from '../../src/base/index.js'
import { declaredTopics, keyOf, singleObject, type Assignment, type CodecFactory, type Commit, type Log, type ValueCodec } from '../../src/log/index.js'
import { kafkaLog, type Clock } from '../../src/log/kafka/index.js'
import { ownership } from '../../src/pipeline/ownership.js'
import type { Scorer } from '../../src/pipeline/score-chunk.js'
import { scorePartitions, type PassResult, type ScoreParts } from '../../src/pipeline/score-partitions.js'
import { FakeCluster, type Fate, type Weather } from '../log/kafka/fake.js'
import { withPart } from '../log/with-part.js'
import { influenceOf } from './drive.js'

const run = runId('r')
const queries = ['a', 'b']
const partitions = 2
const documents = 18

const ticks = async (count: number): Promise<void> => {
  for (let i = 0; i < count; i++) await new Promise<void>((resolve) => setImmediate(resolve))
}
/** Simulations at a time. */
const together = 16
/** A sleep is a few turns of the event loop: nothing waits in earnest. */
const clock: Clock = { nowMs: () => 1e12, sleep: (ms, signal) => ticks(signal?.aborted === true ? 0 : 1 + Math.ceil(ms / 50)), random: () => 0.5 }

const score: Scorer = async (batch) => {
  await ticks(1)
  return {
    losses: Float32Array.from(batch, ({ tokens }) => tokens.length),
    gradientNorms: Float32Array.from(batch, ({ tokens }) => 1 + (tokens[0] % 5)),
    influence: batch.map(({ tokens, offset }) => Float32Array.of(Math.sin(tokens[0] + offset), Math.cos(tokens[1] * offset))),
  }
}

/** Batches of three documents, a commit each. */
const work = async (log: Log, parts: Partial<ScoreParts> = {}): Promise<PassResult> => {
  const release = new AbortController()
  try {
    return await scorePartitions(ownership(log.assignments(run, { signal: release.signal })), {
      log, run, queries, k: 5, scorer: score, options: { context: 32, long: 'truncate', vocabulary: 100 },
      tokenizer: { encodeDocument: () => assert.fail('nothing is tokenized here'), encodeQuery: () => assert.fail('nor here'), decodeToken: String, decode: String },
      bounds: { tokensMax: 64, sequencesMax: 3, lengthMax: 64 }, follow: false, signal: new AbortController().signal, now: Date.now, commitEveryMs: 0, ...parts,
    })
  } finally {
    release.abort()
  }
}

/** One set of codecs for all the logs: to make them takes longer than a simulation. */
const codecs = new Map<string, ValueCodec>()
const topics = declaredTopics()
const codecOf: CodecFactory = (topic) => {
  const codec = codecs.get(topic.name) ?? singleObject({ put: () => Promise.resolve(), find: () => Promise.resolve(undefined) })(topic)
  codecs.set(topic.name, codec)
  return codec
}

const open = (cluster: FakeCluster, weather?: Weather): Promise<Log> =>
  kafkaLog(cluster.client(weather), { cluster: 'the simulation', clock, topics, codecs: () => codecOf })

const clusterWithDocuments = async (): Promise<FakeCluster> => {
  const cluster = new FakeCluster()
  await using log = await open(cluster)
  await log.ensureTopics({ partitions })
  await log.append(Array.from({ length: documents }, (_, i) => {
    const tokens = Array.from({ length: 2 + (i % 5) }, (_, t) => (i * 31 + t) % 100)
    const value = { id: `d${i}`, idGiven: true, source: 'web', text: null, tokens, shard: 's', index: i, extra: null }
    return { topic: 'documents' as const, key: keyOf('web', value.id), value, partition: i % partitions }
  }))
  return cluster
}

/** Everything that a run came to: every score, tables, moments and positions. */
const outcomeOf = async (cluster: FakeCluster): Promise<unknown> => {
  await using log = await open(cluster)
  const influence = await influenceOf(log)
  assert.deepEqual(influence.map(({ document }) => document).sort(), Array.from({ length: documents }, (_, i) => `d${i}`).sort(), 'every document once')
  const valuesOf = async (topic: 'tables' | 'moments') => (await log.latest(topic)).map(({ key, value }) => [key, value])
  return { influence, tables: await valuesOf('tables'), moments: await valuesOf('moments'), positions: await log.positions(run) }
}

type Accident = Exclude<Fate, 'fine'> | 'fenced' | 'evicted'

/** A run whose worker has an accident at one of its requests; false if it makes fewer. */
const accident = async (kind: Accident | undefined, at: number): Promise<{ happened: boolean; outcome: unknown; done: PassResult }> => {
  const cluster = await clusterWithDocuments()
  let requests = 0
  let happened = false
  const weather: Weather = async () => {
    const now = requests++
    await ticks(1 + (now % 3)) // so that two requests that go out together come back apart
    if (kind === undefined || now !== at) return 'fine'
    happened = true
    if (kind === 'fenced') for (let partition = 0; partition < partitions; partition++) await (await cluster.client().producer(`tributary-${run}-${partition}`)).close()
    else if (kind === 'evicted') cluster.evict(() => 0)
    else return kind
    return 'fine'
  }
  const log = await open(cluster, weather)
  const done = await work(log)
  await log[Symbol.asyncDispose]()
  cluster.expire()
  await ticks(5) // what was late
  return { happened, outcome: await outcomeOf(cluster), done }
}

describe('an accident at every request', () => {
  let wanted: unknown
  for (const [nth, kind] of (['request lost', 'answer lost', 'delayed', 'fenced', 'evicted'] as const).entries())
    test(kind, { timeout: 240_000 }, async () => {
      wanted ??= (await accident(undefined, 0)).outcome
      // Every second request by one half of the kinds, the others by the other.
      let at = nth % 2
      for (let happened = true; happened; at += 2 * together)
        for (const [i, result] of (await Promise.all(Array.from({ length: together }, (_, i) => accident(kind, at + 2 * i)))).entries()) {
          const about = `${kind} at request ${at + 2 * i}`
          assert.deepEqual(result.outcome, wanted, about)
          if (!result.happened || kind === 'request lost') assert.equal(result.done.documents, documents, `counted as done: ${about}`)
          else assert.ok(result.done.documents <= documents)
          happened &&= result.happened
        }
      assert.ok(at > 60, `${at} requests are too few to say something`)
    })
})

/**
 * A run whose worker stops at one of its requests and is thrown out of its group; another one takes over. Then the first goes on where it
 * was, as a zombie does (`comesBack`), or never does again.
 */
const stopped = async (at: number, comesBack: boolean): Promise<{ happened: boolean; outcome: unknown; done: number }> => {
  const cluster = await clusterWithDocuments()
  let requests = 0
  let goOn: () => void = () => undefined
  const gate = new Promise<void>((resolve) => (goOn = resolve))
  let stop: () => void = () => undefined
  const stops = new Promise<void>((resolve) => (stop = resolve))
  const weather: Weather = async () => {
    const now = requests++
    await ticks(1 + (now % 3))
    if (now < at) return 'fine'
    stop()
    await gate
    return 'fine'
  }
  const first = await open(cluster, weather)
  const zombie = work(first)
  const happened = await Promise.race([zombie.then(() => false), stops.then(() => true)])
  let done = 0
  if (happened) {
    await ticks(8) // what it asked for before arrives: to join after the eviction would make it a member that nobody evicts
    cluster.evict(() => 0)
    cluster.expire()
    await using second = await open(cluster)
    const working = work(second)
    // Half of the time the first comes back while the other is at work.
    if (comesBack && at % 4 < 2) await ticks(40).then(goOn)
    done = (await working).documents
  }
  if (comesBack || !happened) {
    goOn()
    done += (await zombie).documents
  }
  await ticks(5)
  const outcome = await outcomeOf(cluster)
  goOn() // so that nothing of the dead one goes on behind the test
  await zombie
  await first[Symbol.asyncDispose]()
  return { happened, outcome, done }
}

describe('a worker that stops at any request', () => {
  for (const comesBack of [false, true])
    test(comesBack ? 'and comes back when another has its partitions' : 'for good', { timeout: 240_000 }, async () => {
      const wanted = (await accident(undefined, 0)).outcome
      let at = 0
      for (let happened = true; happened; at += together)
        for (const [i, result] of (await Promise.all(Array.from({ length: together }, (_, i) => stopped(at + i, comesBack)))).entries()) {
          const about = `stopped at request ${at + i}`
          assert.deepEqual(result.outcome, wanted, about)
          if (comesBack) assert.equal(result.done, documents, `counted as done by either of them: ${about}`)
          happened &&= result.happened
        }
      assert.ok(at > 60, `${at} requests are too few to say something`)
    })
})

test('a chunk that is gone on with is the one that was begun, though its offsets have gaps and documents came meanwhile', async () => {
  const cluster = new FakeCluster()
  await using log = await open(cluster)
  await log.ensureTopics({ partitions: 1 })
  // Each in a transaction of its own: between two documents lies a marker. The later ones are shorter or longer: some would go first.
  const append = async (from: number, to: number): Promise<void> => {
    for (let i = from; i < to; i++) {
      const value = { id: `d${i}`, idGiven: true, source: 'web', text: null, tokens: Array.from({ length: i < 9 ? 12 + i : i % 2 === 0 ? 4 : 28 }, (_, t) => t), shard: 's', index: i, extra: null }
      await log.append([{ topic: 'documents', key: keyOf('web', value.id), value, partition: 0 }])
    }
  }
  await append(0, 9)
  const stop = new AbortController()
  let batches = 0
  await work(log, {
    signal: stop.signal,
    scorer: (batch) => {
      if (++batches === 2) stop.abort()
      return score(batch)
    },
  })
  const [left] = await log.positions(run)
  assert.ok(left.detail !== undefined, 'stopped in the middle of a chunk')
  await append(9, 30)
  await work(log)
  const counted = (await influenceOf(log)).map(({ document }) => document)
  assert.deepEqual(counted.sort(), Array.from({ length: 30 }, (_, i) => `d${i}`).sort())
})

/** A log whose assignments commit as they are told to. */
const watched = (log: Log, commit: (assignment: Assignment, commit: Commit) => Promise<void>): Log =>
  withPart(log, {
    assignments: async function* (...args) {
      for await (const assignment of log.assignments(...args))
        yield {
          partition: assignment.partition, lost: assignment.lost, restore: () => assignment.restore(), read: (...bounds) => assignment.read(...bounds),
          commit: (what) => commit(assignment, what),
        }
    },
  })

describe('a commit on its way', () => {
  test('is the only one of its partition, in order, and keeps what it was given while batches are computed', async () => {
    const cluster = await clusterWithDocuments()
    await using log = await open(cluster)
    const onTheWay = new Map<number, number>()
    const positions = new Map<number, number[]>()
    let meanwhile = 0
    const slow = watched(log, async (assignment, commit) => {
      const { partition } = assignment
      assert.equal(onTheWay.get(partition) ?? 0, 0, 'one at a time')
      onTheWay.set(partition, 1)
      const given = JSON.stringify(commit)
      await ticks(12)
      assert.equal(JSON.stringify(commit), given, 'what is committed does not change any more')
      await assignment.commit(commit)
      positions.set(partition, [...(positions.get(partition) ?? []), commit.append.length])
      onTheWay.set(partition, 0)
    })
    assert.equal((await work(slow, { onProgress: () => void (meanwhile += [...onTheWay.values()].includes(1) ? 1 : 0) })).documents, documents)
    assert.ok(meanwhile > 0, 'batches are done while a commit is on its way')
    assert.deepEqual([...positions.values()].map(({ length }) => length), [4, 4], 'at an interval of 0 a commit each batch, and one for those that are left out')
    await outcomeOf(cluster)
  })

  test('that fails for good ends the worker, and nothing is committed after it', async () => {
    const cluster = await clusterWithDocuments()
    await using log = await open(cluster)
    let commits = 0
    const after: number[] = []
    const failing = watched(log, async (assignment, commit) => {
      if (assignment.partition === 0 && ++commits >= 2) {
        after.push(commits)
        await ticks(6)
        throw new Error('the disk is full')
      }
      return await assignment.commit(commit)
    })
    await assert.rejects(work(failing), /the disk is full/)
    assert.deepEqual(after, [2])
    await work(log)
    await outcomeOf(cluster)
  })

  test('that fails for now gives the partition back; what was computed meanwhile is not counted', async () => {
    const cluster = await clusterWithDocuments()
    await using log = await open(cluster)
    let commits = 0
    const failing = watched(log, async (assignment, commit) => {
      if (++commits !== 4) return await assignment.commit(commit)
      // Somebody else opened the id: the commit is refused after a while.
      await (await cluster.client().producer(`tributary-${run}-${assignment.partition}`)).close()
      await ticks(10)
      await assert.rejects(assignment.commit(commit), TransientError)
      throw new TransientError('refused')
    })
    assert.equal((await work(failing)).documents, documents)
    await outcomeOf(cluster)
  })

  test('counts where its partition is taken away meanwhile and it was in time', async () => {
    const cluster = await clusterWithDocuments()
    await using log = await open(cluster)
    let commits = 0
    const evicting = watched(log, async (assignment, commit) => {
      const made = assignment.commit(commit)
      if (++commits !== 4) return await made
      await made
      cluster.evict(() => 0)
      await ticks(10)
    })
    assert.equal((await work(evicting)).documents, documents)
    await outcomeOf(cluster)
  })

  test('is over when the worker ends, also where the engine breaks', async () => {
    const cluster = await clusterWithDocuments()
    await using log = await open(cluster)
    let onTheWay = 0
    const slow = watched(log, async (assignment, commit) => {
      onTheWay++
      await ticks(20)
      await assignment.commit(commit)
      onTheWay--
    })
    let batches = 0
    const scorer: Scorer = (batch) => (++batches === 3 ? Promise.reject(new Error('the engine broke')) : score(batch))
    await assert.rejects(work(slow, { scorer }), /the engine broke/)
    assert.equal(onTheWay, 0)
  })
})
