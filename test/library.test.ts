/** The package under its own name, as a program that depends on it would use it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import {
  addQueries, DeadLetterError, fit, fitSettings, ingest, ingestSettings, openLog, openLogForReading, pipelineContext, prepareScoring, readRun, readTopK,
  score, scoreDocuments, scoreRows, scoreSettings, snapshotOf, toQuery, UserError, type DocumentScore, type GivenDocument,
} from 'tributary'
import { tinyCheckpoint } from './pipeline/tiny-checkpoint.js'

const folder = mkdtempSync(join(tmpdir(), 'tributary-library-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const home = join(folder, 'home')
const own = { home, threads: 1, factors: 'mlp' }

const documents: readonly (GivenDocument & { source: string })[] = Array.from({ length: 30 }, (_, i) => ({
  id: `d${i}`, source: i % 3 === 0 ? 'rivers' : 'stones', text: `the ${['river', 'stone', 'water'][i % 3]} of ${'and the '.repeat(i % 5)}${i}`,
}))
const queries = [
  toQuery({ id: 'river', prompt: 'the river of', completion: ' water' }),
  toQuery({ id: 'stone', prompt: 'the stone of', completion: ' and 7', group: 'hard' }),
]

let model = ''
before(async () => {
  model = await tinyCheckpoint(join(folder, 'checkpoint'))
  writeFileSync(join(folder, 'shard.jsonl'), documents.map((document) => `${JSON.stringify(document)}\n`).join(''))
  await using log = await openLog({ home }, { partitions: 2 })
  const context = pipelineContext(log)
  assert.equal((await ingest(ingestSettings({ home, paths: [join(folder, 'shard.jsonl')] }), context)).appended, documents.length)
  assert.deepEqual(await addQueries(log, queries), { added: 2, replaced: 0, alreadyThere: 0 })
  assert.equal((await fit(fitSettings({ ...own, model, documents: 20 }), context)).finished, true)
})

const scored = async (given: Iterable<GivenDocument> | AsyncIterable<GivenDocument>): Promise<DocumentScore[]> => {
  await using prepared = await prepareScoring(scoreSettings({ ...own, run: 'none', model }), queries)
  const scores: DocumentScore[] = []
  for await (const one of scoreDocuments(prepared, given)) scores.push(one)
  return scores.sort((a, b) => a.index - b.index)
}

test('a corpus is scored through the log, and its tables are read', async () => {
  await using log = await openLog({ home })
  const result = await score(scoreSettings({ ...own, run: 'first', model, k: 5 }), pipelineContext(log))
  assert.deepEqual([result.documents, result.deadLetters, result.finished], [documents.length, 0, true])
  const [table] = await readTopK(log, await readRun(log, 'first'), { query: ['stone'], rows: 3, bottom: false, normed: true })
  assert.equal(table.scored, documents.length)
  assert.equal(table.rows.length, 3)
  assert.ok(table.rows[0].score >= table.rows[1].score)
  assert.equal(table.rows[0].text, documents.find(({ id }) => id === table.rows[0].document)?.text)
})

test('documents are scored without a log as with one', async () => {
  await using log = await openLog({ home })
  const settings = scoreSettings({ ...own, run: 'both', model, join: 'dense' })
  await score(settings, pipelineContext(log))
  const record = await readRun(log, 'both')
  const byId = new Map((await scored(documents)).map((one) => [String(one.document), one]))
  assert.equal(byId.size, documents.length)
  let compared = 0
  for await (const value of scoreRows(log, record, await snapshotOf(log))) {
    const one = byId.get(value.document)
    assert.ok(one !== undefined)
    assert.deepEqual([one.source, one.tokens, one.pieces], [value.source, value.tokens, value.pieces])
    assert.ok(Math.abs(one.loss - value.loss) <= 1e-4 * value.loss)
    assert.ok(Math.abs(one.gradientNorm - value.gradientNorm) <= 1e-4 * value.gradientNorm)
    const scale = Math.max(...value.influence.map(Math.abs))
    one.influence.forEach((influence, q) => assert.ok(Math.abs(influence - value.influence[q]) <= 1e-3 * scale, `${value.document}, query ${q}`))
    compared++
  }
  assert.equal(compared, documents.length)
})

test('documents may come one at a time, and a thousand of them are not held', async () => {
  let given = 0
  async function* many(): AsyncGenerator<GivenDocument> {
    for (; given < 2000; given++) yield { id: `n${given}`, text: `the river ${given}` }
  }
  await using prepared = await prepareScoring(scoreSettings({ ...own, run: 'none', model }), queries)
  for await (const { source, influence } of scoreDocuments(prepared, many())) {
    assert.equal(source, 'unknown')
    assert.equal(influence.length, prepared.queries.length)
    break
  }
  assert.ok(given <= 3 * 512, `${given} documents were taken for the first score`)
})

test('a document that cannot be scored is thrown, or handed to who asks for it', async () => {
  const given = [...documents.slice(0, 2), { id: 'empty', text: '' }]
  await assert.rejects(scored(given), (error: unknown) => error instanceof DeadLetterError && /"empty": .*no token/.test(error.message))
  await using prepared = await prepareScoring(scoreSettings({ ...own, run: 'none', model }), queries)
  const rejected: string[] = []
  let count = 0
  for await (const { influence } of scoreDocuments(prepared, given, { onRejected: (document, { stage }) => rejected.push(`${document} ${stage}`) }))
    count += Number(influence.every(Number.isFinite))
  assert.deepEqual([count, rejected], [2, ['empty tokenize']])
})

test('queries are prepared with their information, and a join with its reason', async () => {
  await using prepared = await prepareScoring(scoreSettings({ ...own, run: 'none', model, damping: { kind: 'absolute', value: 1e-6 } }), queries)
  assert.deepEqual(prepared.queries.map(({ id }) => id), ['river', 'stone'])
  assert.ok(prepared.queries.every(({ informationNats }) => informationNats > 0))
  assert.match(prepared.join.reason, /MFLOP a token/)
})

test('an abort ends the scores', async () => {
  const controller = new AbortController()
  await using prepared = await prepareScoring(scoreSettings({ ...own, run: 'none', model, batchTokens: 2 }), queries)
  let count = 0
  for await (const { pieces } of scoreDocuments(prepared, documents, { signal: controller.signal })) {
    count += pieces
    controller.abort()
  }
  assert.ok(count >= 1 && count < documents.length, `${count} scores`)
})

test('settings have the defaults of the command line and are checked', () => {
  const settings = scoreSettings({ run: 'r', model: 'm', factors: 'f' })
  assert.deepEqual([settings.home, settings.join, settings.k, settings.damping], ['.tributary', 'auto', 100, { kind: 'relative', factor: 0.1 }])
  assert.deepEqual(scoreSettings({ run: 'r', model: 'm', factors: 'f', damping: { kind: 'absolute', value: 1e-8 } }).damping, { kind: 'absolute', value: 1e-8 })
  assert.throws(() => fitSettings({ model: 'm', factors: 'f', documents: 0 }), UserError)
  assert.throws(() => scoreSettings({ run: 'a/b', model: 'm', factors: 'f' }), UserError)
  assert.throws(() => toQuery({ id: 'q', prompt: 'p', completion: '' }), /empty "completion"/)
})

test('a home that is not there cannot be read', async () => {
  await assert.rejects(openLogForReading({ home: join(folder, 'nowhere') }), UserError)
})
