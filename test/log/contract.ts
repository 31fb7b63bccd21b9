/**
 * @file What every log must do. `logContract` registers the tests of one implementation; each test gets a home of its
 * own, and may open it more than once (a cluster's topics, a folder). What only one log can do (SIGKILL beside an
 * LMDB lock, an undecodable entry) is tested beside that log.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { UserError, runId } from '../../src/base/index.js'
import {
  KEY_BYTES_MAX,
  RecordRefused,
  VALUE_BYTES_MAX,
  keyOf,
  type Assignment,
  type DocumentValue,
  type InfluenceValue,
  type Log,
  type LogRecord,
  type NewRecord,
  type TablesValue,
  type TopicName,
  type TopicValues,
} from '../../src/log/index.js'
import { BOUNDS, RUN, document, tables } from './records.js'

/** A place for a log that outlives its openings. */
export interface LogHome {
  open(): Promise<Log>
  destroy(): Promise<void>
}

const influence = (partition: number, offset: number): NewRecord<'influence'> => ({
  topic: 'influence',
  key: keyOf(RUN, 'web', offset),
  value: {
    run: RUN, document: String(offset), source: 'web', partition, offset, piece: 0, pieces: 1, tokens: 3,
    tokensTotal: 3, loss: 1.5, gradientNorm: 2.5, influence: [0.5, -1],
  },
})

/** Everything in a partition, read in small steps. */
export const readAll = async <Name extends TopicName>(
  log: Log,
  topic: Name,
  partition: number,
  bounds = { recordsMax: 7, bytesMax: 1 << 20 },
): Promise<readonly LogRecord<Name>[]> => {
  const all: LogRecord<Name>[] = []
  for (let offset = 0; ; ) {
    const records = await log.read(topic, partition, offset, bounds)
    const last = records.at(-1)
    if (last === undefined) return all
    all.push(...records)
    offset = last.offset + 1
  }
}

/** All assignments of a worker; on some logs they come one by one, so the count is waited for. */
export const assigned = async (log: Log, signal: AbortSignal, run = RUN): Promise<readonly Assignment[]> => {
  const { partitions } = (await log.describe()).find(({ topic }) => topic === 'documents') ?? { partitions: 0 }
  const assignments: Assignment[] = []
  const iterator = log.assignments(run, { signal })[Symbol.asyncIterator]()
  while (assignments.length < partitions) {
    const { value, done } = await iterator.next()
    if (done === true) break
    assignments.push(value)
  }
  return assignments.sort((a, b) => a.partition - b.partition)
}

export const logContract = (name: string, newHome: () => Promise<LogHome>): void => {
  const check = (title: string, body: (log: Log, home: LogHome) => Promise<void>): void => {
    test(title, { timeout: 60_000 }, async () => {
      const home = await newHome()
      try {
        const log = await home.open()
        try {
          await log.ensureTopics({ partitions: 2 })
          await body(log, home)
        } finally {
          await log[Symbol.asyncDispose]()
        }
      } finally {
        await home.destroy()
      }
    })
  }

  describe(`log contract: ${name}`, () => {
    check('topics are made once, and their number of partitions does not change', async (log) => {
      await log.ensureTopics()
      await log.ensureTopics({ partitions: 2 })
      const topics = new Map((await log.describe()).map((topic) => [topic.topic, topic.partitions]))
      assert.deepEqual(Object.fromEntries(topics), {
        'dead-letters': 2, documents: 2, influence: 2, moments: 2, queries: 1, rescored: 1, retries: 2, runs: 1, tables: 2,
      })
      await assert.rejects(log.ensureTopics({ partitions: 3 }), (error) => error instanceof UserError && /2 partitions/.test(error.message))
    })

    check('records of a partition keep their order, their offsets count from 0 without gaps', async (log) => {
      const ids = Array.from({ length: 40 }, (_, i) => `d${i}`)
      for (const from of [0, 13, 14]) await log.append(ids.slice(from, from === 0 ? 13 : from === 13 ? 14 : 40).map((id) => document(id)))
      const seen: string[] = []
      for (const partition of [0, 1]) {
        const records = await readAll(log, 'documents', partition)
        assert.ok(records.length > 5, 'the hash spreads keys over both partitions')
        // A cluster has offsets that are not records': the marks of transactions.
        assert.ok(records.every(({ offset }, i) => i === 0 || offset > records[i - 1].offset), 'offsets ascend')
        const own = records.map(({ value }) => value?.id ?? '')
        assert.deepEqual(own, ids.filter((id) => own.includes(id)), 'in the order of appending')
        seen.push(...own)
      }
      assert.deepEqual(seen.sort(), ids.slice().sort())
    })

    check('a key has one partition, whichever call appends it', async (log) => {
      await log.append([document('a'), document('b')])
      await log.append([document('a')])
      const partitions = [...(await readAll(log, 'documents', 0)), ...(await readAll(log, 'documents', 1))]
        .filter(({ value }) => value?.id === 'a').map(({ partition }) => partition)
      assert.equal(partitions.length, 2)
      assert.equal(partitions[0], partitions[1])
    })

    check('a read is bounded in records and in bytes, and always brings one', async (log) => {
      await log.append(['a', 'b', 'c'].map((id) => ({ ...document(id, 'x'.repeat(1000)), partition: 1 })))
      const count = async (offset: number, recordsMax: number, bytesMax: number): Promise<number> =>
        (await log.read('documents', 1, offset, { recordsMax, bytesMax })).length
      assert.equal(await count(0, 2, 1 << 20), 2)
      assert.equal(await count(0, 9, 2500), 2)
      assert.equal(await count(0, 9, 10), 1)
      assert.equal(await count(2, 9, 1 << 20), 1)
      assert.equal(await count(3, 9, 1 << 20), 0)
      assert.equal(await count(77, 9, 1 << 20), 0)
    })

    check('unique leaves out what was appended before, by this call, an earlier one or an earlier process', async (log, home) => {
      assert.deepEqual(await log.append([document('a'), document('a'), document('b')], { unique: true }), { appended: 2, duplicates: 1 })
      const long = document('l'.repeat(600))
      assert.deepEqual(await log.append([document('b'), long], { unique: true }), { appended: 1, duplicates: 1 })
      await log[Symbol.asyncDispose]()
      const again = await home.open()
      const other = document(`${'l'.repeat(599)}m`)
      assert.deepEqual(await again.append([document('a'), long, other], { unique: true }), { appended: 1, duplicates: 2 })
      assert.deepEqual(await again.append([document('a')]), { appended: 1, duplicates: 0 }, 'without unique it is appended')
      await again[Symbol.asyncDispose]()
    })

    check('compacted topics keep the newest value of each key, tombstones remove it', async (log) => {
      const query = (id: string, prompt: string): NewRecord<'queries'> => ({
        topic: 'queries', key: id,
        value: { id, prompt, completion: 'c', group: null, task: null, answer: null, steps: ['s'], extra: null },
      })
      await log.append([query('b', '1'), query('a', '1'), query('c', '1')])
      await log.append([query('b', '2'), query('b', '3')])
      await log.append([{ topic: 'queries', key: 'c', value: null }])
      const live = await log.latest('queries')
      assert.deepEqual(live.map(({ key, value }) => [key, value?.prompt]), [['a', '1'], ['b', '3']])
      const read = newestOf(await log.read('queries', 0, 0, BOUNDS)).filter(({ key }) => key !== 'c')
      assert.deepEqual(read.map(({ key, value }) => [key, value?.prompt]), [['a', '1'], ['b', '3']], 'older ones may be removed')
      await log.append([query('c', '4')])
      assert.deepEqual((await log.latest('queries')).map(({ key }) => key), ['a', 'b', 'c'])
    })

    check('latest goes by prefix, over all partitions, ordered by key', async (log) => {
      await log.append([{ ...tables(1, 1), partition: 1 }, { ...tables(0, 2), partition: 0 }])
      await log.append([tables(0, 3, 'q', 'run-10'), tables(0, 4, 'other')])
      const keys = (await log.latest('tables', keyOf(RUN, ''))).map(({ key }) => key)
      assert.deepEqual(keys, [keyOf(RUN, 'other', 0), keyOf(RUN, 'q', 0), keyOf(RUN, 'q', 1)])
      assert.equal((await log.latest('tables', keyOf(RUN, 'q', ''))).length, 2)
      assert.equal((await log.latest('tables')).length, 4)
      assert.deepEqual(await log.latest('tables', 'nothing'), [])
    })

    check('a commit brings records, state and position together; restore gives them back as a pair', async (log, home) => {
      const stop = new AbortController()
      const [zero, one] = await assigned(log, stop.signal)
      assert.deepEqual(await zero.restore(), { position: { offset: 0 }, state: [] })
      await one.restore()
      await zero.commit({ append: [influence(0, 0), tables(0, 1)], position: { offset: 1 } })
      await zero.commit({ append: [influence(0, 1), tables(0, 2), tables(0, 9, 'r')], position: { offset: 2, detail: { lot: [3] } } })
      await one.commit({ append: [tables(1, 5)], position: { offset: 7 } })
      stop.abort()
      await log[Symbol.asyncDispose]()

      const again = await home.open()
      const stopAgain = new AbortController()
      const [restored, other] = await assigned(again, stopAgain.signal)
      const { position, state } = await restored.restore()
      assert.deepEqual(position, { offset: 2, detail: { lot: [3] } })
      assert.deepEqual(state.map(({ topic, key, value }) => [topic, key, (value as TablesValue).top[0].score]),
        [['tables', keyOf(RUN, 'q', 0), 2], ['tables', keyOf(RUN, 'r', 0), 9]])
      assert.equal((await other.restore()).state.length, 1)
      assert.deepEqual((await again.positions(RUN)).map(({ offset }) => offset), [2, 7])
      assert.deepEqual((await readAll(again, 'influence', 0)).map(({ value }) => value?.offset), [0, 1], 'in its document’s partition')
      assert.deepEqual(await readAll(again, 'influence', 1), [])
      assert.deepEqual((await again.positions(runId('another'))).map(({ offset }) => offset), [0, 0])
      stopAgain.abort()
      await again[Symbol.asyncDispose]()
    })

    check('runs are apart', async (log) => {
      const stop = new AbortController()
      const [first] = await assigned(log, stop.signal, runId('run'))
      const [second] = await assigned(log, stop.signal, runId('run-1'))
      await first.restore()
      await second.restore()
      await first.commit({ append: [tables(0, 1, 'q', 'run')], position: { offset: 1 } })
      await second.commit({ append: [tables(0, 2, 'q', 'run-1')], position: { offset: 2 } })
      assert.deepEqual((await first.restore()).state.map(({ key }) => key), [keyOf('run', 'q', 0)])
      assert.deepEqual((await second.restore()).state.map(({ key }) => key), [keyOf('run-1', 'q', 0)])
      stop.abort()
    })

    check('a commit that fails leaves nothing behind', async (log) => {
      const stop = new AbortController()
      const [assignment] = await assigned(log, stop.signal)
      await assignment.restore()
      await assignment.commit({ append: [influence(0, 0), tables(0, 1)], position: { offset: 1 } })
      const wrong = { ...influence(0, 1), value: { ...influence(0, 1).value, loss: 'three' } } as unknown as NewRecord
      const there = async (): Promise<unknown> => [await readAll(log, 'influence', 0), await log.latest('tables'), await log.positions(RUN)]
      const before = [await there(), await assignment.restore()]
      await assert.rejects(assignment.commit({ append: [influence(0, 1), tables(0, 2), wrong], position: { offset: 2 } }), RecordRefused)
      assert.deepEqual([await there(), await assignment.restore()], before)
      stop.abort()
    })

    check('a worker whose run was taken over commits nothing', async (log, home) => {
      const stop = new AbortController()
      const [old] = await assigned(log, stop.signal)
      await old.restore()
      stop.abort()
      assert.ok(old.lost.aborted)
      await old.commit({ append: [], position: { offset: 1 } }) // the batch in hand: nobody took it since
      const other = await home.open()
      const stopOther = new AbortController()
      const [taken] = await assigned(other, stopOther.signal)
      assert.equal((await taken.restore()).position.offset, 1)
      await assert.rejects(old.commit({ append: [tables(0, 1)], position: { offset: 2 } }))
      assert.deepEqual(await taken.restore(), { position: { offset: 1 }, state: [] })
      stopOther.abort()
      await other[Symbol.asyncDispose]()
    })

    check('unique on a compacted topic: the first one stays until a tombstone', async (log, home) => {
      const run = (settings: string): NewRecord<'runs'> => ({ topic: 'runs', key: RUN, value: { run: RUN, createdMs: 1, settings } })
      const other = await home.open()
      const results = await Promise.all([log.append([run('a')], { unique: true }), other.append([run('b')], { unique: true })])
      assert.equal(results.reduce((sum, { appended }) => sum + appended, 0), 1, 'of two at once one is the first')
      const [first] = await (results[0].appended === 1 ? log : other).latest('runs') // who wrote it sees it at once
      assert.deepEqual(await other.append([run('c')], { unique: true }), { appended: 0, duplicates: 1 })
      assert.deepEqual(await other.latest('runs'), [first])
      await log.append([{ topic: 'runs', key: RUN, value: null }])
      assert.deepEqual(await other.append([run('d')], { unique: true }), { appended: 1, duplicates: 0 })
      assert.equal((await other.latest('runs'))[0].value?.settings, 'd')
      await other[Symbol.asyncDispose]()
    })

    check('a run that is forgotten begins anew; other runs and what comes after stay', async (log) => {
      const record = (run: string): NewRecord<'runs'> => ({ topic: 'runs', key: run, value: { run, createdMs: 1, settings: '{}' } })
      const of = (run: string, offset: number): NewRecord<'influence'> => ({ ...influence(0, offset), value: { ...influence(0, offset).value, run } as InfluenceValue })
      const stop = new AbortController()
      const longer = runId(`${RUN}0`) // begins as the other's name does
      const [own] = await assigned(log, stop.signal)
      const [neighbour] = await assigned(log, stop.signal, longer)
      await log.append([record(RUN), record(longer)])
      await own.restore()
      await neighbour.restore()
      await own.commit({ append: [of(RUN, 0), tables(0, 1)], position: { offset: 1 } })
      await neighbour.commit({ append: [of(longer, 0), tables(0, 2, 'q', longer)], position: { offset: 1 } })
      await assert.rejects(log.forget(RUN), UserError, 'a worker is at work')
      stop.abort()
      await log.forget(RUN)
      await log.forget(RUN)
      assert.deepEqual((await log.latest('runs')).map(({ key }) => key), [longer])
      assert.deepEqual((await log.latest('tables')).map(({ key }) => key), [keyOf(longer, 'q', 0)])
      assert.deepEqual((await log.positions(RUN)).map(({ offset }) => offset), [0, 0])
      assert.deepEqual((await log.positions(longer)).map(({ offset }) => offset), [1, 0])
      assert.deepEqual((await readAll(log, 'influence', 0)).map(({ value }) => value?.run), [longer])
      const again = new AbortController()
      const [anew] = await assigned(log, again.signal)
      assert.deepEqual(await anew.restore(), { position: { offset: 0 }, state: [] })
      await anew.commit({ append: [of(RUN, 5)], position: { offset: 6 } })
      assert.deepEqual((await readAll(log, 'influence', 0)).map(({ value }) => [value?.run, value?.offset]), [[longer, 0], [RUN, 5]])
      again.abort()
    })

    check('a record over the bounds or off the schema is refused with its place, and nothing is written', async (log) => {
      const before = await log.describe()
      const cases: readonly [NewRecord, RegExp][] = [
        [document('big', 'x'.repeat(VALUE_BYTES_MAX)), /at most 16777216/],
        [document('k'.repeat(KEY_BYTES_MAX)), /key .* at most 1024/],
        [{ ...document('odd'), value: { ...(document('odd').value as DocumentValue), index: 0.5 } }, /does not fit the schema/],
      ]
      for (const [record, message] of cases)
        await assert.rejects(log.append([document('fine'), record]), (error) =>
          error instanceof RecordRefused && error.index === 1 && message.test(error.message))
      assert.deepEqual(await log.describe(), before)
      await log.append([document('just', 'x'.repeat(VALUE_BYTES_MAX - 1000))])
    })

    check('grown wakes for an append, for one between the last read and the call, and for the signal', async (log) => {
      const { signal } = new AbortController()
      const order: string[] = []
      const waiting = log.grown({ signal }).then(() => order.push('woken'))
      await new Promise((resolve) => setTimeout(resolve, 120))
      order.push('append')
      await log.append([document('a')])
      await waiting
      assert.deepEqual(order, ['append', 'woken'])
      for (const partition of [0, 1]) await log.read('documents', partition, 1, BOUNDS)
      await log.append([document('a')])
      await log.grown({ signal })
      const stop = new AbortController()
      const stopped = log.grown({ signal: stop.signal })
      stop.abort()
      await stopped
    })

    check('every topic gives back what it was given', async (log) => {
      await fc.assert(
        fc.asyncProperty(anyRecords, async (records) => {
          const from = new Map((await log.describe()).map(({ topic, ends }) => [topic, ends[0]]))
          await log.append(records.map((record) => ({ ...record, partition: 0 })))
          for (const topic of new Set(records.map((record) => record.topic))) {
            const read = await log.read(topic, 0, from.get(topic) ?? 0, BOUNDS)
            assert.deepEqual((compacted.includes(topic) ? newestOf(read) : read).map(({ key, value, problem }) => ({ key, value, problem })),
              lastOfEach(topic, records).map(({ key, value }) => ({ key, value, problem: undefined })))
          }
        }),
        { numRuns: 60 },
      )
    })
  })
}

const compacted: readonly TopicName[] = ['tables', 'moments', 'rescored', 'runs', 'queries', 'retries']

/** The newest record of each key, in order: a cluster removes older ones in its own time. */
const newestOf = <R extends { readonly key: string }>(records: readonly R[]): readonly R[] =>
  records.filter(({ key }, i) => !records.slice(i + 1).some((later) => later.key === key))

/** What a topic holds of records: all in order, of compacted ones the newest of each key. */
const lastOfEach = (topic: TopicName, records: readonly NewRecord[]): readonly NewRecord[] => {
  const own = records.filter((record) => record.topic === topic)
  return compacted.includes(topic) ? newestOf(own) : own
}

/* -------------------------------------------------- arbitrary records ------------------------------------------------ */

const text = fc.string({ unit: 'grapheme', maxLength: 20 })
const orNull = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arbitrary, { nil: null })
const int = fc.integer({ min: 0, max: 2 ** 31 - 1 })
/** avsc takes longs up to 2⁵³ − 2. */
const long = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 1 })
const f32 = fc.float()
const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => new Uint8Array(array))
const row = fc.record({ document: text, source: text, piece: int, score: fc.double(), partition: int, offset: long }, { noNullPrototype: true })
const rows = fc.array(row, { maxLength: 3 })

/** The compiler holds this to `TopicValues`, the round trip holds the schemas to this: so the two say the same. */
export const anyValue: { readonly [Name in TopicName]: fc.Arbitrary<TopicValues[Name]> } = {
  documents: fc.record({
    id: text, idGiven: fc.boolean(), source: text, text: orNull(text),
    tokens: orNull(fc.array(int, { maxLength: 5 })), shard: text, index: long, extra: orNull(text),
  }, { noNullPrototype: true }),
  influence: fc.record({
    run: text, document: text, source: text, partition: int, offset: long, piece: int, pieces: int, tokens: int,
    tokensTotal: int, loss: fc.double(), gradientNorm: fc.double(), influence: fc.array(f32, { maxLength: 8 }),
  }, { noNullPrototype: true }),
  tables: fc.record({
    run: text, query: text, partition: int, k: int, top: rows, bottom: rows, topNormed: rows, bottomNormed: rows,
  }, { noNullPrototype: true }),
  moments: fc.record({ run: text, query: text, partition: int, count: long, raw: bytes, normed: bytes }, { noNullPrototype: true }),
  rescored: fc.record({
    run: text, query: text, scored: long, rows: int, top: rows, bottom: rows, topNormed: rows, bottomNormed: rows,
  }, { noNullPrototype: true }),
  runs: fc.record({ run: text, createdMs: long, settings: text }, { noNullPrototype: true }),
  queries: fc.record({
    id: text, prompt: text, completion: text, group: orNull(text), task: orNull(text), answer: orNull(text),
    steps: orNull(fc.array(text, { maxLength: 3 })), extra: orNull(text),
  }, { noNullPrototype: true }),
  'dead-letters': fc.record({
    run: orNull(text), stage: fc.constantFrom('ingest', 'decode', 'tokenize', 'score', 'fit'), cause: text,
    topic: orNull(text), partition: orNull(int), offset: orNull(long), shard: orNull(text), index: orNull(long),
    document: orNull(text), piece: orNull(int), original: bytes,
  }, { noNullPrototype: true }),
  retries: fc.record({
    run: orNull(text), partition: int, offset: long, attempt: int, state: fc.constantFrom('wanted', 'done', 'failed'), cause: orNull(text), document: orNull(long),
  }, { noNullPrototype: true }),
  positions: fc.record({ run: text, partition: int, offset: long, detail: orNull(text) }, { noNullPrototype: true }),
  identities: fc.record({ topic: text }, { noNullPrototype: true }),
  forgotten: fc.record({ run: text, partition: int, influence: long, deadLetters: long }, { noNullPrototype: true }),
  schemas: fc.record({ schema: text }, { noNullPrototype: true }),
}

/** The log's own, on a cluster alone: their values are held to their schemas in avro.test.ts. */
const internal: readonly TopicName[] = ['positions', 'identities', 'forgotten', 'schemas']

const names = (Object.keys(anyValue) as readonly TopicName[]).filter((name) => !internal.includes(name))
const anyRecords: fc.Arbitrary<readonly NewRecord[]> = fc.array(
  fc.constantFrom(...names).chain((topic) =>
    fc.record({ topic: fc.constant(topic), key: text, value: anyValue[topic] as fc.Arbitrary<TopicValues[TopicName]> }),
  ),
  { maxLength: 12 },
)
