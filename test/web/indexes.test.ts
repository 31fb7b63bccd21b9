/** @file What a server keeps of the topics: bounded, and still right when its bounds are reached. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { DeadLetterValue, InfluenceValue, Log } from '../../src/log/index.js'
import { DeadLetterIndex } from '../../src/web/dead-letter-index.js'
import { History, Recent } from '../../src/web/history.js'
import { InfluenceIndex } from '../../src/web/influence-index.js'
import { readMoments } from '../../src/web/moments.js'
import { liveQuery, liveRun, someDocuments } from './live-run.js'

/** A log whose topic holds these values in one partition, read in blocks of four. */
const logOf = (values: readonly unknown[]): { log: Log; reads: number[] } => {
  const reads: number[] = []
  const read = (_topic: string, partition: number, from: number): Promise<unknown[]> => {
    reads.push(from)
    return Promise.resolve(values.slice(from, from + 4).map((value, at) => ({ partition, offset: from + at, key: '', timestampMs: 1000 * (from + at), value, problem: undefined })))
  }
  return { log: { read } as unknown as Log, reads }
}

const scoreOf = (run: string, offset: number, piece = 0): InfluenceValue => ({
  run, document: `d${offset}`, source: 's', partition: 0, offset, piece, pieces: 1, tokens: 3, tokensTotal: 3, loss: 1, gradientNorm: 1, influence: [offset],
})

test('scores of every document are found, however few zones are kept, and by few reads where they are enough', async () => {
  // Two runs, mixed within chunks of eight; every fifth document is two pieces.
  const values = Array.from({ length: 30 }, (_, chunk) => Array.from({ length: 8 }, (_, i) => chunk * 8 + ((i * 5) % 8)))
    .flat().flatMap((offset) => (['a', 'b'].flatMap((run) => (offset % 5 === 0 ? [scoreOf(run, offset, 1), scoreOf(run, offset)] : [scoreOf(run, offset)]))))
  for (const zonesMax of [2, 7, 1000]) {
    const { log, reads } = logOf(values)
    const index = new InfluenceIndex(log, { zonesMax })
    while (await index.read([0], [values.length]));
    assert.deepEqual(index.reached, [values.length])
    for (const run of ['a', 'b'])
      for (let offset = 0; offset < 240; offset++) {
        reads.length = 0
        const found = await index.find(run, 0, offset)
        assert.deepEqual(found.map(({ run: own, offset: place, piece }) => [own, place, piece]), (offset % 5 === 0 ? [0, 1] : [0]).map((piece) => [run, offset, piece]), `${run} ${offset} of ${zonesMax} zones`)
        if (zonesMax === 1000) assert.ok(reads.length <= 6, `${reads.length} reads`)
      }
    assert.deepEqual(await index.find('c', 0, 3), [])
    assert.equal(index.activity('a', 0).scored, values.length / 2)
    assert.equal(index.activity('a', 0).history.documents.reduce((sum, n) => sum + n, 0), 240)
  }
})

test('a history is bounded, whatever comes when, and loses nothing', () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 1e9 }), fc.integer({ min: 0, max: 9 })), { minLength: 1, maxLength: 60 }), (events) => {
    const history = new History({ bucketsMax: 10, widthMs: 100 })
    for (const [timeMs, documents] of events) history.add(timeMs, documents, 2 * documents)
    const { widthMs, fromMs, documents, tokens } = history.buckets
    const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)
    assert.ok(documents.length <= 10)
    assert.deepEqual([sum(documents), sum(tokens)], [sum(events.map(([, n]) => n)), 2 * sum(events.map(([, n]) => n))])
    // Every event stands in the bucket of its time.
    const expected = documents.map((_, at) => sum(events.filter(([timeMs]) => Math.floor((timeMs - fromMs) / widthMs) === at).map(([, n]) => n)))
    assert.deepEqual(documents, expected)
  }))
})

test('the rate of now is of the last seconds alone', () => {
  const recent = new Recent(5)
  for (let second = 0; second < 20; second++) recent.add(1000 * second + 7, 10, 30)
  assert.deepEqual(recent.rate(19_500), { documents: 10, tokens: 30 })
  assert.deepEqual(recent.rate(21_500), { documents: 6, tokens: 18 })
  assert.deepEqual(recent.rate(60_000), { documents: 0, tokens: 0 })
  recent.add(3000, 1000, 1000) // long ago
  assert.deepEqual(recent.rate(19_500), { documents: 10, tokens: 30 })
})

test('dead letters are all counted, and the newest of them kept', async () => {
  const letter = (i: number): DeadLetterValue => ({ run: i % 2 === 0 ? 'even' : 'odd', stage: 'score', cause: `cause ${i}`, topic: 'documents', partition: 0, offset: i, shard: null, index: null, document: `d${i}`, piece: null, original: new Uint8Array(1) })
  const { log } = logOf(Array.from({ length: 700 }, (_, i) => letter(i)))
  const index = new DeadLetterIndex(log)
  while (await index.read([0], [700]));
  assert.deepEqual(index.counts('even'), [{ run: 'even', stage: 'score', count: 350, lastCause: 'cause 698' }])
  const kept = index.newest({ limit: 10_000 })
  assert.deepEqual([kept.length, kept[0].cause, kept.at(-1)?.cause], [500, 'cause 699', 'cause 200'])
  assert.deepEqual(index.newest({ run: 'odd', limit: 2 }).map(({ cause }) => cause), ['cause 699', 'cause 697'])
  assert.deepEqual(index.newest({ stage: 'ingest', limit: 2 }), [])
})

test('moments of a partition of which only half a commit is seen are not mixed in', async () => {
  await using run = await liveRun([liveQuery('a'), liveQuery('b')])
  await run.append(someDocuments(20, 2))
  await run.score()
  const whole = await readMoments(run.log, run.record)
  assert.equal(whole?.count, 20)
  const latest = run.log.latest.bind(run.log)
  let dropped = 0
  // One partition's row of query b is of the commit before: its count is another.
  const torn = { latest: async (...args: Parameters<Log['latest']>) => (await latest(...args)).map((record) => {
    const value = record.value as { query: string; partition: number; count: number } | undefined
    if (value?.query !== 'b' || value.partition !== 0) return record
    dropped = value.count
    return { ...record, value: { ...value, count: value.count - 1 } }
  }) } as unknown as Log
  assert.equal((await readMoments(torn, run.record))?.count, 20 - dropped)
  assert.ok(dropped > 0 && dropped < 20)
})
