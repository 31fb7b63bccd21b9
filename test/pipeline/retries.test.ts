/** @file Dead letters of a run tried again: counted once, in their run alone, whoever is killed when. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { runId } from '../../src/base/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import type { Assignment, DeadLetterValue, DocumentValue, Log, RetryValue } from '../../src/log/index.js'
import type { Tokenizer } from '../../src/model/index.js'
import { pipelineContext } from '../../src/pipeline/context.js'
import { hasCaughtUp } from '../../src/pipeline/caught-up.js'
import { listDeadLetters } from '../../src/pipeline/dead-letters.js'
import { ownership } from '../../src/pipeline/ownership.js'
import { replayDeadLetters } from '../../src/pipeline/replay-dead-letters.js'
import { readRetries, Retries, retryRecord } from '../../src/pipeline/retries.js'
import type { Scorer } from '../../src/pipeline/score-chunk.js'
import { scorePartitions, type PassResult } from '../../src/pipeline/score-partitions.js'
import { sum } from '../../src/pipeline/sum.js'
import { resolveSettings } from '../../src/settings/index.js'
import { FakeCluster } from '../log/kafka/fake.js'
import { withPart } from '../log/with-part.js'
import { append, deadLettersOf, documentOf, homeWith, influenceOf, readAll, stateOf } from './drive.js'
import { runQuery, runRecord } from './made-run.js'

const noTokenizer: Tokenizer = {
  encodeDocument: () => assert.fail('nothing is tokenized here'),
  encodeQuery: () => assert.fail('nothing is tokenized here'),
  decodeToken: String,
  decode: (ids) => ids.join(' '),
}
/** Token ids of 2 to 14 numbers below 100; the first two tell the document. */
const tokensOf = (i: number): number[] => Array.from({ length: 2 + (i % 13) }, (_, t) => (i * 31 + t) % 100)
const documents = (count: number): readonly DocumentValue[] => Array.from({ length: count }, (_, i) => documentOf(i, { text: null, tokens: tokensOf(i) }))

/** Scores by what is in a piece and where it lies; NaN for documents (and pieces) that are named as broken. */
const scorerWith = (broken: (document: string, piece: number) => boolean): Scorer => async (batch) => ({
  losses: Float32Array.from(batch, ({ document, piece, tokens }) => (broken(document, piece) ? NaN : tokens.length)),
  gradientNorms: Float32Array.from(batch, ({ tokens }) => 1 + (tokens[0] % 5)),
  influence: batch.map(({ tokens, offset }) => Float32Array.of(Math.sin(tokens[0] + offset), Math.cos(tokens[1] * offset))),
})
const sound = scorerWith(() => false)
const brokenAre = (...ids: readonly string[]): Scorer => scorerWith((document) => ids.includes(document))

interface WorkerOptions {
  readonly scorer?: Scorer
  readonly run?: string
  readonly long?: 'truncate' | 'split'
  readonly context?: number
  readonly vocabulary?: number
  readonly follow?: boolean
  readonly signal?: AbortSignal
  readonly assignments?: (of: AsyncIterable<Assignment>) => AsyncIterable<Assignment>
}

/** A worker of a run until it has caught up. */
const work = async (log: Log, { scorer = sound, run = 'r', long = 'truncate', context = 32, vocabulary = 100, follow = false, signal = new AbortController().signal, assignments = (all) => all }: WorkerOptions = {}): Promise<PassResult> => {
  const release = new AbortController()
  try {
    const owned = ownership(assignments(log.assignments(runId(run), { signal: release.signal })))
    return await scorePartitions(owned, {
      log, run: runId(run), queries: ['a', 'b'], k: 5, scorer, tokenizer: noTokenizer, options: { context, long, vocabulary },
      bounds: { tokensMax: 64, sequencesMax: 16, lengthMax: 4096 }, follow, signal, now: Date.now, commitEveryMs: 0,
    })
  } finally {
    release.abort()
  }
}

const beginRuns = async (log: Log, ...runs: readonly string[]): Promise<void> => {
  await log.append(runs.map((run) => {
    const record = runRecord(run, [runQuery('a', 1), runQuery('b', 2)])
    return { topic: 'runs' as const, key: run, value: { run, createdMs: record.createdMs, settings: JSON.stringify(record) } }
  }))
}

const openLogs: Log[] = []
after(async () => {
  for (const log of openLogs) await log[Symbol.asyncDispose]()
})

const mapping = { source: null, textField: 'text', idField: 'id', maxBytes: 1000 }
const replay = (log: Log, run = 'r') => replayDeadLetters(log, { run }, { document: mapping })
const lettersOf = async (log: Log, run = 'r'): Promise<readonly DeadLetterValue[]> => await deadLettersOf(log, run)

/** Scores without the place that a log with transactions gives. */
const placeless = async (log: Log, run = 'r'): Promise<unknown> => {
  const [influence, tables, moments] = JSON.parse(await stateOf(log, run)) as unknown[]
  return [influence, tables, moments]
}

const embedded = async (all: readonly DocumentValue[]): Promise<Log> => (await homeWith(all)).log
const onFake = async (all: readonly DocumentValue[]): Promise<Log> => {
  const log = await kafkaLog(new FakeCluster().client(), { cluster: 'a cluster in memory' })
  openLogs.push(log)
  await log.ensureTopics({ partitions: 2 })
  await append(log, all)
  return log
}

for (const [name, logWith] of [['the embedded log', embedded], ['a cluster in memory', onFake]] as const)
  describe(`dead letters of a run on ${name}`, () => {
    test('that are replayed are scored by the run that could not use them, and its state is that of an undisturbed run', async () => {
      const undisturbed = await logWith(documents(60))
      await work(undisturbed)
      const log = await logWith(documents(60))
      await beginRuns(log, 'r', 'other')
      await work(log, { run: 'other' })
      const other = await stateOf(log, 'other')
      assert.equal((await work(log, { scorer: brokenAre('d3', 'd20', 'd41') })).deadLetters, 3)
      assert.notDeepEqual(await placeless(log), await placeless(undisturbed))

      const asked = await replay(log)
      assert.deepEqual([asked.matched, asked.wanted, asked.alreadyWanted, asked.alreadyDone, asked.runs], [3, 3, 0, 0, ['r']])
      assert.deepEqual([(await replay(log)).wanted, (await replay(log)).alreadyWanted], [0, 3])
      assert.equal(await hasCaughtUp(log, runId('r')), false)
      assert.deepEqual({ ...(await work(log)), tokens: 0 }, { documents: 3, pieces: 3, tokens: 0, deadLetters: 0, reached: 3, left: 0 })
      assert.equal(await hasCaughtUp(log, runId('r')), true)
      assert.deepEqual(await placeless(log), await placeless(undisturbed))
      assert.equal(await stateOf(log, 'other'), other)

      const again = await replay(log)
      assert.deepEqual([again.wanted, again.alreadyDone, again.runs], [0, 3, []])
      assert.equal((await work(log)).documents, 0)
      assert.deepEqual(await placeless(log), await placeless(undisturbed))
      const { letters } = await listDeadLetters(log, { run: 'r' }, { limit: 10, classOf: () => 'any' })
      assert.deepEqual(letters.map(({ retry }) => retry.state), ['done', 'done', 'done'])
      assert.equal((await listDeadLetters(log, { run: 'r' }, { limit: 10, open: true, classOf: () => 'any' })).matched, 0)
    })

    test('that fail again say why, leave no second dead letter, and may be replayed once more', async () => {
      const log = await logWith(documents(20))
      await beginRuns(log, 'r')
      await work(log, { scorer: brokenAre('d3', 'd4') })
      await replay(log)
      assert.equal((await work(log, { scorer: brokenAre('d3') })).documents, 1)
      assert.equal((await lettersOf(log)).length, 2)
      const { letters } = await listDeadLetters(log, { run: 'r', cause: 'LOSS IS nan' }, { limit: 10, classOf: () => 'any' })
      const failed = letters.find(({ document }) => document === 'd3')?.retry
      assert.deepEqual([failed?.state, failed?.attempt], ['failed', 1])
      assert.match(failed?.cause ?? '', /its loss is NaN/)
      const once = await replay(log)
      assert.deepEqual([once.wanted, once.alreadyDone], [1, 1])
      await work(log)
      assert.equal((await influenceOf(log)).length, 20)
    })

    test('are not read again by a worker that takes the partition up: it reads on behind those of its state', async () => {
      const log = await logWith(documents(60))
      await beginRuns(log, 'r')
      await work(log, { scorer: brokenAre('d3', 'd20', 'd41', 'd42') })
      await replay(log)
      await work(log, { scorer: brokenAre('d3', 'd42') })
      await replay(log)
      const last = new Map((await readAll(log, 'retries')).map(({ partition, offset }) => [partition, offset]))
      assert.ok(last.size > 0)
      const firstRead = new Map<number, number>()
      const read: Log['read'] = (topic, partition, offset, bounds) => {
        if (topic === 'retries' && !firstRead.has(partition)) firstRead.set(partition, offset)
        return log.read(topic, partition, offset, bounds)
      }
      assert.equal((await work(withPart(log, { read }))).documents, 2)
      assert.ok(firstRead.size > 0)
      for (const [partition, offset] of firstRead) assert.equal(offset, (last.get(partition) ?? -1) + 1, `partition ${partition}`)
    })

    for (const when of ['before', 'after'] as const)
      test(`are counted once if the worker is killed just ${when} the commit of the retry`, async () => {
        const undisturbed = await logWith(documents(40))
        await work(undisturbed)
        const log = await logWith(documents(40))
        await beginRuns(log, 'r')
        await work(log, { scorer: brokenAre('d3', 'd20') })
        await replay(log)
        const killed = new Error('killed')
        const killing = async function* (all: AsyncIterable<Assignment>): AsyncGenerator<Assignment> {
          for await (const assignment of all)
            yield {
              partition: assignment.partition, lost: assignment.lost, restore: () => assignment.restore(), read: (offset, bounds) => assignment.read(offset, bounds),
              commit: async (commit) => {
                assert.ok(commit.append.some(({ topic }) => topic === 'retries'))
                if (when === 'after') await assignment.commit(commit)
                throw killed
              },
            }
        }
        await assert.rejects(work(log, { assignments: killing }), killed)
        await work(log)
        assert.deepEqual(await placeless(log), await placeless(undisturbed))
      })

    test('a document whose pieces were scored but for one gets that one alone', async () => {
      const split = { long: 'split', context: 8 } as const
      const undisturbed = await logWith(documents(40))
      await work(undisturbed, split)
      const log = await logWith(documents(40))
      await beginRuns(log, 'r')
      await work(log, { ...split, scorer: scorerWith((document, piece) => document === 'd11' && piece === 1) })
      assert.deepEqual((await lettersOf(log)).map(({ document, piece }) => [document, piece]), [['d11', 1]])
      await replay(log)
      const { documents: again, pieces } = await work(log, split)
      assert.deepEqual([again, pieces], [0, 1], 'the document was counted at its piece 0')
      assert.deepEqual(await placeless(log), await placeless(undisturbed))
    })

    test('a document that could not be tokenized is scored whole; a piece of it that fails then is a dead letter of its own', async () => {
      const strange = documentOf(50, { text: null, tokens: [1, 2, 3, 4, 5, 6, 7, 8, 9, 5000] })
      const split = { long: 'split', context: 8 } as const
      const log = await logWith([...documents(10), strange])
      await beginRuns(log, 'r')
      await work(log, split)
      assert.deepEqual((await lettersOf(log)).map(({ stage, piece }) => [stage, piece]), [['tokenize', null]])
      await replay(log)
      // It stays as strange as it was: the cause is told, and nothing is added.
      await work(log, split)
      assert.match([...(await readAll(log, 'retries'))].map(({ value }) => value?.cause ?? '').join(' '), /token id 5000/)
      assert.equal((await lettersOf(log)).length, 1)
      await replay(log)
      const result = await work(log, { ...split, vocabulary: 10_000, scorer: scorerWith((document, piece) => document === 'd50' && piece === 1) })
      assert.deepEqual([result.documents, result.deadLetters], [1, 1])
      assert.deepEqual((await lettersOf(log)).map(({ stage, piece }) => [stage, piece]).sort(), [['score', 1], ['tokenize', null]])
      const third = await replay(log)
      assert.deepEqual([third.wanted, third.alreadyDone], [1, 1])
      await work(log, { ...split, vocabulary: 10_000 })
      assert.deepEqual((await influenceOf(log)).filter(({ document }) => document === 'd50').map(({ piece, pieces }) => [piece, pieces]), [[0, 2], [1, 2]])
    })

    test('a worker that follows takes up what was asked for while it works', async () => {
      const log = await logWith(documents(20))
      await beginRuns(log, 'r')
      await work(log, { scorer: brokenAre('d3') })
      const stop = new AbortController()
      const working = work(log, { follow: true, signal: stop.signal })
      await replay(log)
      await append(log, [documentOf(70, { text: null, tokens: tokensOf(70) })])
      while ((await influenceOf(log)).length < 21) await new Promise((resolve) => setTimeout(resolve, 10))
      stop.abort()
      assert.equal((await working).documents, 2)
      assert.equal((await readRetries(log, 'r')).open.length, 0)
    })

    test('a worker believes no request that its own dead letters do not bear out', async () => {
      const log = await logWith(documents(20))
      await beginRuns(log, 'r', 'other')
      await work(log, { scorer: brokenAre('d3') })
      await work(log, { run: 'other' })
      const before = [await placeless(log), await placeless(log, 'other')]
      const [letter] = await readAll(log, 'dead-letters')
      const wanted = { partition: letter.partition, attempt: 1, state: 'wanted', cause: null, document: null } as const
      // Of another run, of a place where nothing is.
      await log.append([retryRecord({ ...wanted, run: 'other', offset: letter.offset }), retryRecord({ ...wanted, run: 'r', offset: letter.offset + 1000 })])
      assert.deepEqual([(await work(log, { run: 'other' })).documents, (await work(log)).documents], [0, 0])
      assert.deepEqual([await placeless(log), await placeless(log, 'other')], before)
      assert.deepEqual((await readAll(log, 'retries')).map(({ value }) => value).filter((value) => value?.state === 'failed').map((value) => value?.cause),
        ['the run has no such dead letter', 'the run has no such dead letter'])
    })

    test('a run that is reset forgets its retries', async () => {
      const log = await logWith(documents(20))
      await beginRuns(log, 'r')
      await work(log, { scorer: brokenAre('d3') })
      await replay(log)
      await log.forget(runId('r'))
      assert.deepEqual((await readRetries(log, 'r')).open, [])
      assert.equal((await replay(log)).matched, 0)
      await beginRuns(log, 'r')
      assert.equal((await work(log)).documents, 20)
      assert.equal((await influenceOf(log)).length, 20)
    })
  })

describe('a sum of runs', () => {
  const summed = (log: Log, run: string) => sum(resolveSettings('sum', { flags: { run, of: ['r', 'other'], k: 5 }, env: {} }), pipelineContext(log))

  test('has what a retry scored, however late, if that was before it; if not, it says so', async () => {
    const log = await embedded(documents(60))
    await beginRuns(log, 'r', 'other')
    await work(log, { run: 'other' })
    await work(log, { scorer: brokenAre('d3', 'd20') })
    await summed(log, 'early')
    assert.equal((await influenceOf(log, 'early')).length, 58)
    await replay(log)
    await work(log)
    await append(log, [documentOf(70, { text: null, tokens: tokensOf(70) })])
    await work(log)
    await work(log, { run: 'other' })
    const { notes } = await summed(log, 'early')
    assert.ok(notes.some((note) => note.startsWith('dead letters of 2 documents were tried again')), notes.join('\n'))
    assert.equal((await influenceOf(log, 'early')).length, 59)
    await summed(log, 'late')
    const late = await influenceOf(log, 'late')
    assert.equal(late.length, 61)
    assert.equal(new Set(late.map(({ document }) => document)).size, 61)
  })
})

describe('what is known of retries', () => {
  const of = (attempt: number, state: RetryValue['state'], cause: string | null = null): RetryValue => ({ run: 'r', partition: 1, offset: 7, attempt, state, cause, document: 3 })
  const orders = <T>(items: readonly T[]): readonly (readonly T[])[] =>
    items.length === 0 ? [[]] : items.flatMap((item, i) => orders(items.filter((_, j) => j !== i)).map((rest) => [item, ...rest]))
  const cases: readonly (readonly [string, readonly RetryValue[], 'never' | RetryValue['state'], number])[] = [
    ['nothing', [], 'never', 0],
    ['a request', [of(1, 'wanted')], 'wanted', 1],
    ['a request that was answered', [of(1, 'wanted'), of(1, 'done')], 'done', 0],
    ['one that failed', [of(1, 'wanted'), of(1, 'failed', 'why')], 'failed', 0],
    ['one that failed and was asked for again', [of(1, 'wanted'), of(1, 'failed', 'why'), of(2, 'wanted')], 'wanted', 1],
    ['one that is done and was asked for again, by who had not seen it', [of(1, 'done'), of(2, 'wanted')], 'done', 0],
    ['one that was asked for twice at once', [of(1, 'wanted'), of(1, 'wanted'), of(1, 'failed', 'why')], 'failed', 0],
  ]
  for (const [title, values, state, open] of cases)
    test(`${title}, in any order`, () => {
      for (const order of orders(values)) {
        const retries = new Retries()
        retries.add(order)
        assert.deepEqual([retries.of({ partition: 1, offset: 7 }).state, retries.open.length], [state, open])
        assert.equal(retries.of({ partition: 1, offset: 8 }).state, 'never')
        assert.deepEqual([...retries.documentsDone(1)], state === 'done' ? [3] : [])
        assert.deepEqual([...retries.documentsDone(0)], [])
      }
    })
})
