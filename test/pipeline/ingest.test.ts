import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DeadLetterError } from '../../src/base/index.js'
import { keyOfDocument, sourceOf, toDocument, toRecord } from '../../src/pipeline/ingest.js'
import type { ShardDocument } from '../../src/pipeline/shards/index.js'

const options = { source: null, textField: 'text', idField: 'id', maxBytes: 1000 }
const lineOf = (ok: Partial<ShardDocument>): Parameters<typeof toDocument>[0] => ({
  index: 3, bytes: 10, ok: { text: 'x', extra: {}, ...ok },
})
const documentOf = (ok: Partial<ShardDocument>, more: object = {}): ReturnType<typeof toDocument> =>
  toDocument(lineOf(ok), '/data/wiki-00001-of-00009.jsonl.gz', { ...options, ...more })

test('a line becomes a document with its place, its source and what else it holds', () => {
  assert.deepEqual(documentOf({ id: 'a', source: 'web', extra: { url: 'u' } }), {
    id: 'a', idGiven: true, source: 'web', text: 'x', tokens: null, shard: 'wiki-00001-of-00009.jsonl.gz', index: 3, extra: '{"url":"u"}',
  })
})

for (const [shard, source] of [
  ['wiki.jsonl', 'wiki'], ['/a/wiki-00001-of-00400.jsonl.gz', 'wiki'], ['c4-train.00000-of-01024.jsonl.zst', 'c4-train'],
  ['code_12.parquet', 'code'], ['3.jsonl', '3'], ['.jsonl', 'unknown'], ['v1.5-web.jsonl.zst', 'v1.5-web'],
  ['/books/moby-1.txt', 'books'], ['/alone.txt', 'unknown'],
] as const)
  test(`the documents of ${shard} that name no source are of source "${source}"`, () => assert.equal(sourceOf(shard), source))

test('--source serves where a line names none, and only there', () => {
  assert.equal(documentOf({}, { source: 'given' }).source, 'given')
  assert.equal(documentOf({ source: 'own' }, { source: 'given' }).source, 'own')
  assert.equal(documentOf({}).source, 'wiki')
})

test('two documents of equal text and different ids are two; without ids they are one, of another source another', () => {
  const key = (ok: Partial<ShardDocument>): string => keyOfDocument(documentOf(ok))
  assert.notEqual(key({ id: 'a' }), key({ id: 'b' }))
  assert.equal(key({}), key({ extra: { url: 'elsewhere' } }))
  assert.notEqual(key({}), key({ source: 'web' }))
  assert.notEqual(key({}), key({ text: 'y' }))
  const inTopic = (ok: Partial<ShardDocument>): string => toRecord(lineOf(ok), 'a.jsonl', options).key
  assert.notEqual(inTopic({ id: 'a', source: 's' }), inTopic({ id: 'a', source: 't' }))
  assert.equal(documentOf({}).idGiven, false)
  assert.match(documentOf({}).id, /^[0-9a-f]{64}$/)
})

test('what separates keys cannot stand in an id or a source', () => {
  const { id, source } = documentOf({ id: 'a\u001fb\n', source: 's\u001f' })
  assert.deepEqual([id, source], ['a\u241fb\u240a', 's\u241f'])
})

test('a line that is no document goes to dead-letters with its bytes and its id', () => {
  const line = { index: 3, bytes: 20, problem: 'its field "text" is empty', original: Buffer.from('{"id": 7, "text": ""}') }
  const { topic, key, value } = toRecord(line, '/x/a.jsonl', options)
  assert.equal(topic, 'dead-letters')
  assert.equal(key, toRecord(line, '/y/a.jsonl', options).key)
  assert.deepEqual(value, {
    run: null, stage: 'ingest', cause: line.problem, topic: null, partition: null, offset: null, shard: 'a.jsonl', index: 3, document: '7', piece: null,
    original: line.original,
  })
})

for (const [ok, message] of [
  [{ text: 'é'.repeat(501) }, /1,002 bytes, over the bound of 1,000 \(--max-bytes\)/],
  [{ extra: { more: 'y'.repeat(1000) } }, /over the bound of 1,000/],
  [{ id: 'i'.repeat(700) }, /over 600 bytes/],
] as const)
  test(`${JSON.stringify(ok).slice(0, 40)}... goes to dead-letters with its cause`, () => {
    assert.throws(() => documentOf(ok), (error: unknown) => error instanceof DeadLetterError && error.stage === 'ingest' && message.test(error.message))
    const { topic, value } = toRecord(lineOf(ok), 'a.jsonl', options)
    assert.equal(topic, 'dead-letters')
    assert.ok(value !== null && 'original' in value)
    const { extra, ...fields } = { extra: {}, ...ok }
    assert.deepEqual(JSON.parse(Buffer.from(value.original).toString()), Object.assign({ text: 'x' }, fields, extra))
  })
