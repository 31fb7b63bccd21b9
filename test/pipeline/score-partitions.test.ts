import assert from 'node:assert/strict'
import { setFlagsFromString } from 'node:v8'
import { describe, test } from 'node:test'
import { runInNewContext } from 'node:vm'
import { runId, uniforms } from '../../src/base/index.js'
import type { Log } from '../../src/log/index.js'
import type { Tokenizer } from '../../src/model/index.js'
import type { BatchBounds } from '../../src/pipeline/operators/batch-by-tokens.js'
import { ownership } from '../../src/pipeline/ownership.js'
import type { Scorer } from '../../src/pipeline/score-chunk.js'
import { scorePartitions, type ScoreParts } from '../../src/pipeline/score-partitions.js'
import { append, documentOf, homeWith, influenceOf, momentsOf, stateOf, tablesOf } from './drive.js'

/** Documents carry their token ids. */
const noTokenizer: Tokenizer = {
  encodeDocument: () => assert.fail('nothing is tokenized here'),
  encodeQuery: () => assert.fail('nothing is tokenized here'),
  decodeToken: String,
  decode: (ids) => ids.join(' '),
}
const tokensOf = (i: number): number[] => Array.from({ length: 2 + (i % 13) }, (_, t) => (i * 31 + t) % 100)

/** Scores that follow from a document's tokens alone; ready in the order of chance. */
const scorer = (chance?: () => number): Scorer => async (batch) => {
  if (chance !== undefined) await new Promise((resolve) => setTimeout(resolve, 4 * chance()))
  return {
    losses: Float32Array.from(batch, ({ tokens }) => tokens.length),
    gradientNorms: Float32Array.from(batch, ({ tokens }) => 1 + (tokens[0] % 5)),
    influence: batch.map(({ tokens, offset }) => Float32Array.of(Math.sin(tokens[0] + offset), Math.cos(tokens[1] * offset))),
  }
}

const ids = ['a', 'b']
const bounds: BatchBounds = { tokensMax: 64, sequencesMax: 16, lengthMax: 4096 }
const stream = async (log: Log, parts: Partial<ScoreParts> = {}) => {
  const release = new AbortController()
  try {
    return await scorePartitions(ownership(log.assignments(runId('r'), { signal: release.signal })), {
      log, run: runId('r'), queries: ids, k: 5, scorer: scorer(), tokenizer: noTokenizer, options: { context: 32, long: 'truncate', vocabulary: 100 },
      bounds, follow: false, signal: new AbortController().signal, now: Date.now, commitEveryMs: 1000, ...parts,
    })
  } finally {
    release.abort()
  }
}
const documents = (count: number) => Array.from({ length: count }, (_, i) => documentOf(i, { text: null, tokens: tokensOf(i) }))

describe('scorePartitions', () => {
  for (const seed of [1, 2, 3])
    test(`batches that are ready out of order, an engine that breaks now and then, a stop now and then: all is counted once (seed ${seed})`, async () => {
      const whole = await homeWith(documents(300))
      await stream(whole.log)
      const wanted = JSON.parse(await stateOf(whole.log)) as unknown
      const { log } = await homeWith(documents(300))
      const chance = uniforms(seed)
      for (let tries = 0, left = 1; left > 0; tries++) {
        assert.ok(tries < 300)
        const controller = new AbortController()
        const slow = scorer(chance)
        const breaking: Scorer = (batch) => (chance() < 0.05 ? Promise.reject(new Error('the engine broke')) : slow(batch))
        const work = stream(log, { scorer: breaking, signal: controller.signal, commitEveryMs: 0, onProgress: () => void (chance() < 0.1 && controller.abort()) })
        left = await work.then((done) => done.left, (error: unknown) => (/the engine broke/.test(String(error)) ? 1 : Promise.reject(error)))
      }
      assert.deepEqual(JSON.parse(await stateOf(log)), wanted)
    })

  test('commits happen at the pace that was asked for, and at the end', async () => {
    const { log } = await homeWith(documents(200), { partitions: 1 })
    let nowMs = 0
    const committed: number[] = []
    await stream(log, { now: () => (nowMs += 10), commitEveryMs: 100_000, onProgress: () => void influenceOf(log).then(({ length }) => committed.push(length)) })
    assert.ok(committed.slice(0, -2).every((count) => count === 0))
    assert.equal((await influenceOf(log)).length, 200)
    assert.equal((await momentsOf(log, ids)).count, 200)
    assert.equal((await tablesOf(log, ids))[0].top.length, 5)
  })

  test('memory stays flat: four times the documents take no more of it', async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    /** The most that is alive while so many documents go through, bytes. */
    const peakOf = async (count: number): Promise<number> => {
      const { log } = await homeWith([], { partitions: 2 })
      for (let from = 0; from < count; from += 2000) await append(log, documents(count).slice(from, from + 2000))
      collect()
      const before = process.memoryUsage().heapUsed
      let peak = 0
      let outcomes = 0
      const { documents: done } = await stream(log, {
        bounds: { tokensMax: 4096, sequencesMax: 16, lengthMax: 4096 }, commitEveryMs: 200,
        onProgress: () => {
          if (outcomes++ % 50 !== 0) return
          collect()
          peak = Math.max(peak, process.memoryUsage().heapUsed - before)
        },
      })
      assert.equal(done, count)
      return peak
    }
    await peakOf(2_000)
    const few = await peakOf(10_000)
    const many = await peakOf(40_000)
    assert.ok(many < 1.5 * few + (8 << 20), `${Math.round(few / 2 ** 20)} MiB at 10,000 documents, ${Math.round(many / 2 ** 20)} MiB at 40,000`)
  })
})
