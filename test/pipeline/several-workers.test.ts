/**
 * @file Several workers of one run, whose partitions wander between them while they work. The log is the embedded one;
 * what a cluster's group does is played by hand: partitions are taken away in the middle of batches, commits fail whose
 * outcome nobody knows, workers come and go.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { runId, TransientError, uniforms } from '../../src/base/index.js'
import type { Assignment, Log } from '../../src/log/index.js'
import type { Tokenizer } from '../../src/model/index.js'
import { ownership } from '../../src/pipeline/ownership.js'
import type { Scorer } from '../../src/pipeline/score-chunk.js'
import { scorePartitions, type PassResult } from '../../src/pipeline/score-partitions.js'
import { documentOf, homeWith, influenceOf, stateOf } from './drive.js'

const noTokenizer: Tokenizer = {
  encodeDocument: () => assert.fail('nothing is tokenized here'),
  encodeQuery: () => assert.fail('nothing is tokenized here'),
  decodeToken: String,
  decode: (ids) => ids.join(' '),
}
const documents = (count: number) =>
  Array.from({ length: count }, (_, i) => documentOf(i, { text: null, tokens: Array.from({ length: 2 + (i % 13) }, (_, t) => (i * 31 + t) % 100) }))

const scorer: Scorer = async (batch) => {
  await new Promise((resolve) => setTimeout(resolve, 1))
  return {
    losses: Float32Array.from(batch, ({ tokens }) => tokens.length),
    gradientNorms: Float32Array.from(batch, ({ tokens }) => 1 + (tokens[0] % 5)),
    influence: batch.map(({ tokens, offset }) => Float32Array.of(Math.sin(tokens[0] + offset), Math.cos(tokens[1] * offset))),
  }
}

interface Membership {
  readonly assignments: AsyncIterable<Assignment>
  readonly offer: (assignment: Assignment) => void
  readonly end: () => void
}

/** Assignments as they are offered. */
const membership = (): Membership => {
  const waiting: Assignment[] = []
  let isOver = false
  let wake = (): void => {}
  return {
    assignments: {
      async *[Symbol.asyncIterator]() {
        while (!isOver) {
          yield* waiting.splice(0)
          if (waiting.length === 0 && !isOver) await new Promise<void>((resolve) => (wake = resolve))
        }
      },
    },
    offer: (assignment) => {
      waiting.push(assignment)
      wake()
    },
    end: () => {
      isOver = true
      wake()
    },
  }
}

/** A group of workers over the assignments of the embedded log. `failing`: whether a commit fails, and whether it was made all the same. */
const groupOver = async (log: Log, failing: () => 'no' | 'before' | 'after' = () => 'no') => {
  const release = new AbortController()
  const inner: Assignment[] = []
  for await (const assignment of log.assignments(runId('r'), { signal: release.signal })) inner.push(assignment)
  const owners = new Map<number, AbortController>()
  const busy = new Map<number, Promise<void>>()
  /** A member gets a partition; whoever has it loses it first. */
  const give = (partition: number, member: Membership): void => {
    owners.get(partition)?.abort()
    const own = new AbortController()
    owners.set(partition, own)
    const { restore, read, commit } = inner[partition]
    /** One after the other, as fencing has it: what an earlier owner began is over before the next one restores. */
    const mine = <T>(work: () => Promise<T>): Promise<T> => {
      const done = (busy.get(partition) ?? Promise.resolve()).then(() => {
        if (own.signal.aborted) throw new TransientError('the partition is lost')
        return work()
      })
      busy.set(partition, done.then(() => undefined, () => undefined))
      return done
    }
    member.offer({
      partition,
      lost: own.signal,
      restore: () => mine(() => restore.call(inner[partition])),
      read: (offset, bounds) => mine(() => read.call(inner[partition], offset, bounds)),
      commit: (given) => mine(async () => {
        const fails = failing()
        if (fails !== 'before') await commit.call(inner[partition], given)
        if (fails === 'no') return
        own.abort()
        setTimeout(() => owners.get(partition) === own && give(partition, member), 2)
        throw new TransientError('nobody knows what became of the commit')
      }),
    })
  }
  return { give, partitions: inner.length, [Symbol.dispose]: () => release.abort() }
}

const workerOn = (log: Log, member: Membership, { signal = new AbortController().signal, own = scorer, follow = false } = {}): Promise<PassResult> =>
  scorePartitions(ownership(member.assignments), {
    log, run: runId('r'), queries: ['a', 'b'], k: 5, scorer: own, tokenizer: noTokenizer, options: { context: 32, long: 'truncate', vocabulary: 100 },
    bounds: { tokensMax: 64, sequencesMax: 16, lengthMax: 4096 }, follow, signal, now: Date.now, commitEveryMs: 0,
  })

const undisturbed = async (count: number): Promise<unknown> => {
  const { log } = await homeWith(documents(count), { partitions: 4 })
  using group = await groupOver(log)
  const member = membership()
  for (let p = 0; p < group.partitions; p++) group.give(p, member)
  const { left } = await workerOn(log, member)
  assert.equal(left, 0)
  return JSON.parse(await stateOf(log))
}

describe('workers of one run', () => {
  for (const seed of [1, 2, 3])
    test(`between whom partitions wander, with commits of unknown outcome, end in the state of one undisturbed worker (seed ${seed})`, async () => {
      const wanted = await undisturbed(400)
      const { log } = await homeWith(documents(400), { partitions: 4 })
      const chance = uniforms(seed)
      using group = await groupOver(log, () => (chance() < 0.1 ? (chance() < 0.5 ? 'before' : 'after') : 'no'))
      const members = Array.from({ length: 4 }, membership)
      for (let p = 0; p < group.partitions; p++) group.give(p, members[0])
      const works = members.map((member) => workerOn(log, member))
      const isOver = Promise.all(works).then(() => true)
      // One worker, then four, then two.
      for (let round = 0; round < 60; round++) {
        const many = round < 10 ? 1 : round < 40 ? 4 : 2
        group.give(Math.floor(chance() * group.partitions), members[Math.floor(chance() * many)])
        if (await Promise.race([isOver, new Promise((resolve) => setTimeout(() => resolve(false), 5))])) break
      }
      const results = await Promise.all(works)
      assert.deepEqual(JSON.parse(await stateOf(log)), wanted)
      assert.equal((await influenceOf(log)).length, 400)
      assert.ok(results.every(({ left }) => left === 0))
      // What was thrown away is not counted; a commit of unknown outcome may have been made.
      assert.ok(results.reduce((sum, { documents: done }) => sum + done, 0) <= 400)
    })

  test('without a partition wait, and end when the others have caught up', async () => {
    const { log } = await homeWith(documents(200), { partitions: 4 })
    using group = await groupOver(log)
    const [busy, idle] = [membership(), membership()]
    const waiting = workerOn(log, idle)
    let isOver = false
    void waiting.then(() => (isOver = true))
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.equal(isOver, false)
    for (let p = 0; p < group.partitions; p++) group.give(p, busy)
    assert.equal((await workerOn(log, busy)).documents, 200)
    assert.deepEqual(await waiting, { documents: 0, pieces: 0, tokens: 0, deadLetters: 0, reached: 0, left: 0 })
  })

  test('that follow wait until they are told to stop, whatever they own', async () => {
    const { log } = await homeWith(documents(50), { partitions: 4 })
    using group = await groupOver(log)
    const member = membership()
    const stop = new AbortController()
    const work = workerOn(log, member, { follow: true, signal: stop.signal })
    await new Promise((resolve) => setTimeout(resolve, 20))
    for (let p = 0; p < group.partitions; p++) group.give(p, member)
    while ((await influenceOf(log)).length < 50) await new Promise((resolve) => setTimeout(resolve, 5))
    stop.abort()
    assert.deepEqual({ ...(await work), tokens: 0 }, { documents: 50, pieces: 50, tokens: 0, deadLetters: 0, reached: 50, left: 0 })
  })

  test('whose engine breaks end with its error', async () => {
    const { log } = await homeWith(documents(50), { partitions: 4 })
    using group = await groupOver(log)
    const member = membership()
    const work = workerOn(log, member, { own: () => Promise.reject(new Error('the engine broke')) })
    for (let p = 0; p < group.partitions; p++) group.give(p, member)
    await assert.rejects(work, /the engine broke/)
  })

  test('whose log refuses them for good end with its error, also while they wait', async () => {
    const { log } = await homeWith(documents(50), { partitions: 4 })
    const refused: AsyncIterable<Assignment> = {
      async *[Symbol.asyncIterator]() {
        await new Promise((resolve) => setTimeout(resolve, 20))
        throw new Error('this worker may not join')
      },
    }
    await assert.rejects(workerOn(log, { ...membership(), assignments: refused }, { follow: true }), /may not join/)
  })
})
