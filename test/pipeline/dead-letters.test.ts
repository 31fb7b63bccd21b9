/** @file Dead letters listed and found; those of ingest replayed from the bytes that were kept. */
import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { UserError } from '../../src/base/index.js'
import { keyOf, type DeadLetterValue, type Log, type NewRecord } from '../../src/log/index.js'
import { pipelineContext } from '../../src/pipeline/context.js'
import { findDeadLetter, listDeadLetters, placeOfId } from '../../src/pipeline/dead-letters.js'
import { ingest } from '../../src/pipeline/ingest.js'
import { replayDeadLetters, type ReplayOptions } from '../../src/pipeline/replay-dead-letters.js'
import { rereadLine } from '../../src/pipeline/shards/index.js'
import { ingestSettings } from '../../src/settings/index.js'
import { homeWith, readAll, temporary } from './drive.js'

const letter = (i: number, part: Partial<DeadLetterValue> = {}): NewRecord<'dead-letters'> => ({
  topic: 'dead-letters',
  key: part.stage === 'ingest' ? keyOf('ingest', 'a.jsonl', i) : keyOf('r', i % 2 === 0 ? 'even' : 'odd', `d${i}`),
  partition: i % 2,
  value: {
    run: part.stage === 'ingest' ? null : 'r', stage: 'score', cause: `its loss is NaN (${i})`, topic: 'documents', partition: i % 2, offset: i, shard: 'a-007.jsonl', index: i,
    document: `d${i}`, piece: 0, original: Buffer.from(`text ${i}`), ...part,
  },
})
const classOf = ({ cause }: DeadLetterValue): 'nan' | 'other' => (cause.includes('NaN') ? 'nan' : 'other')

describe('a list of dead letters', async () => {
  const { log } = await homeWith([])
  for (let i = 0; i < 600; i++)
    await log.append([letter(i, i % 10 === 9 ? { stage: 'ingest', cause: 'the line is not JSON', original: Buffer.from(i === 9 ? '{"source": "own"}' : '{') } : i % 10 === 8 ? { run: 's' } : {})])
  const list = (filter: Parameters<typeof listDeadLetters>[1], limit = 5) => listDeadLetters(log, filter, { limit, classOf })

  test('counts all and holds the newest', async () => {
    const { matched, counts, letters, unreadable } = await list({})
    assert.deepEqual([matched, unreadable], [600, 0])
    assert.deepEqual(counts.map(({ run, stage, class: kind, count }) => [run, stage, kind, count]), [['r', 'score', 'nan', 480], ['s', 'score', 'nan', 60], [null, 'ingest', 'other', 60]])
    assert.equal(letters.length, 5)
    const times = letters.map(({ timestampMs }) => timestampMs)
    assert.deepEqual(times, [...times].sort((a, b) => b - a))
    assert.equal(times[0], Math.max(...(await readAll(log, 'dead-letters')).map(({ timestampMs }) => timestampMs)))
    assert.equal((await list({}, 0)).letters.length, 0)
    assert.equal((await list({}, 1000)).letters.length, 600)
  })

  for (const [title, filter, expected] of [
    ['run', { run: 's' }, 60],
    ['ingest', { run: null }, 60],
    ['stage', { stage: 'ingest' }, 60],
    ['part of the cause, in either case', { cause: 'nan (1)' }, 1],
    ['source in the key', { source: 'even', run: 'r' }, 240],
    ["source of a line, by its shard's name", { source: 'a', stage: 'ingest' }, 59],
    ['source that the line names', { source: 'own' }, 1],
    ['id', { ids: ['1:0', '1:1', '7:7'] }, 2],
    ['time', { sinceMs: Date.now() + 3_600_000 }, 0],
    ['several at once', { run: 'r', source: 'odd', cause: '(11)' }, 1],
  ] as const)
    test(`by ${title}`, async () => assert.equal((await list(filter)).matched, expected))

  test('one is found by its place, whole; what is no id and what is not there are told apart', async () => {
    const { value, source, retry } = await findDeadLetter(log, '0:1')
    assert.deepEqual([value.document, source, retry.state, Buffer.from(value.original).toString()], ['d2', 'even', 'never', 'text 2'])
    for (const id of ['0:99999', '9:0']) await assert.rejects(findDeadLetter(log, id), (error) => error instanceof UserError && /there is no dead letter/.test(error.message))
    for (const id of ['', '1', 'a:b', '-1:0', '1:2:3']) assert.throws(() => placeOfId(id), UserError)
  })
})

describe('dead letters of ingest', () => {
  const ingested = async (files: Readonly<Record<string, string | Buffer>>, options: Partial<Parameters<typeof ingestSettings>[0]> = {}): Promise<{ readonly log: Log; readonly folder: string }> => {
    const { log } = await homeWith([])
    const folder = join(temporary(), 'notes')
    mkdirSync(folder)
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
    await ingest(ingestSettings({ paths: [folder], ...options }), pipelineContext(log))
    return { log, folder }
  }
  const mapping = (part: Partial<ReplayOptions['document']> = {}): ReplayOptions => ({ document: { source: null, textField: 'text', idField: 'id', maxBytes: 1 << 20, ...part } })
  const texts = async (log: Log): Promise<readonly unknown[]> =>
    (await readAll(log, 'documents')).map(({ value }) => [value?.source, value?.id, value?.text, value?.shard, value?.index, value?.extra]).sort()

  test('read with another field are the documents that ingest would have made, once', async () => {
    const lines = ['{"text": "fine", "id": "0"}', '{"body": "one", "id": "a", "more": [1]}', '{"body": "two", "id": 7, "source": "own"}', '{"body": ""}', 'no JSON']
    const { log } = await ingested({ 'w-01.jsonl': `${lines.join('\n')}\n` })
    assert.equal((await readAll(log, 'dead-letters')).length, 4)
    const same = await replayDeadLetters(log, {}, mapping())
    assert.deepEqual([same.matched, same.appended, same.failedAgainCount], [4, 0, 4])
    const dry = await replayDeadLetters(log, {}, { ...mapping({ textField: 'body' }), dryRun: true })
    assert.deepEqual([dry.appended, (await texts(log)).length], [2, 1])
    const first = await replayDeadLetters(log, {}, mapping({ textField: 'body' }))
    assert.deepEqual([first.appended, first.alreadyThere, first.failedAgain.map(({ cause }) => cause.slice(0, 20)).sort()], [2, 0, ['its field "body" is ', 'the line is not JSON']])
    const second = await replayDeadLetters(log, {}, mapping({ textField: 'body' }))
    assert.deepEqual([second.appended, second.alreadyThere], [0, 2])
    assert.deepEqual(await texts(log), [['own', '7', 'two', 'w-01.jsonl', 2, null], ['w', '0', 'fine', 'w-01.jsonl', 0, null], ['w', 'a', 'one', 'w-01.jsonl', 1, '{"more":[1]}']])
    assert.equal((await readAll(log, 'dead-letters')).length, 4)
    assert.equal((await listDeadLetters(log, {}, { limit: 10, open: true, classOf })).matched, 2)
  })

  test('that were too big are read by the names that they had, and are documents under another bound', async () => {
    const line = { body: 'x'.repeat(100), key: 'k', source: 's', more: 1 }
    const given = { textField: 'body', idField: 'key' }
    const { log } = await ingested({ 'w.jsonl': `${JSON.stringify(line)}\n` }, { ...given, maxBytes: 50 })
    assert.equal((await replayDeadLetters(log, {}, mapping({ ...given, maxBytes: 50 }))).failedAgainCount, 1)
    assert.equal((await replayDeadLetters(log, {}, mapping(given))).appended, 1)
    assert.deepEqual(await texts(log), [['s', 'k', line.body, 'w.jsonl', 0, '{"more":1}']])
  })

  test('of a text file need their source; of a longer line than is kept there is not enough', async () => {
    const { log } = await ingested({ 'a.txt': 'some text', 'b.jsonl': `{"text": "${'y'.repeat(2 << 20)}"}\n` }, { maxBytes: 5 })
    const refused = await replayDeadLetters(log, {}, mapping())
    assert.deepEqual([refused.refusedCount, refused.appended], [2, 0])
    assert.match(refused.refused.map(({ cause }) => cause).sort().join('\n'), /longer than what a dead letter keeps.*\n.*--as-source/)
    assert.equal((await replayDeadLetters(log, {}, mapping({ source: 'notes' }))).appended, 1)
    assert.deepEqual((await texts(log)).map((row) => (row as unknown[]).slice(0, 1).concat((row as unknown[])[2])), [['notes', 'some text']])
  })

  test('of a row of Parquet do not take its bytes for text', async () => {
    const bytes = Uint8Array.of(0x66, 0xff, 0x66)
    // As a writer does that takes any bytes for a string.
    const file = parquetWriteBuffer({
      columnData: [{ name: 'text', data: [bytes, Buffer.from('good')] }, { name: 'body', data: [Buffer.from('readable'), Buffer.from('too')] }],
      schema: [{ name: 'root', num_children: 2 }, ...['text', 'body'].map((name) => ({ name, type: 'BYTE_ARRAY' as const, repetition_type: 'REQUIRED' as const, converted_type: 'UTF8' as const }))],
    })
    const { log } = await ingested({ 'p.parquet': Buffer.from(file) })
    const [{ value }] = await readAll(log, 'dead-letters')
    assert.match(value?.cause ?? '', /"text" is not UTF-8/)
    const same = await replayDeadLetters(log, {}, mapping())
    assert.match(same.failedAgain[0].cause, /"text" is not UTF-8/)
    assert.equal((await replayDeadLetters(log, {}, mapping({ textField: 'body' }))).appended, 1)
    assert.deepEqual((await texts(log)).map((row) => (row as unknown[])[2]).sort(), ['good', 'readable'])
  })

  test('a blank line, and one that is no object, are problems and never an error', () => {
    for (const original of ['', '  ', '[1]', '"x"', '\ufeff'])
      for (const shard of ['a.jsonl', 'a.jsonl.gz', 'a.parquet', 'odd'])
        assert.ok('problem' in rereadLine(Buffer.from(original), { shard, index: 3 }))
  })
})

describe('what cannot be replayed', () => {
  test('is said with the reason, and nothing is written for it', async () => {
    const { log } = await homeWith([])
    await log.append([letter(0, { run: 'factors f', stage: 'tokenize' }), letter(1, { run: 'gone' }), letter(2, { run: 'factors f', stage: 'fit' })])
    const { refused, refusedCount, wanted } = await replayDeadLetters(log, {}, { document: { source: null, textField: 'text', idField: 'id', maxBytes: 1000 } })
    assert.deepEqual([refusedCount, wanted], [3, 0])
    assert.deepEqual(refused.map(({ id, cause }) => [id, /factors are fitted|there is no run "gone"/.test(cause)]), [['0:0', true], ['0:1', true], ['1:0', true]])
    assert.equal((await readAll(log, 'retries')).length, 0)
  })
})
