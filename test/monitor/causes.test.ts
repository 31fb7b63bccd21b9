import assert from 'node:assert/strict'
import { test } from 'node:test'
import { documentId, type Stage } from '../../src/base/index.js'
import { keyOf, type LogRecord } from '../../src/log/index.js'
import { causeClass } from '../../src/monitor/index.js'
import { toRecord } from '../../src/pipeline/ingest.js'
import { isPiece, piecesOf } from '../../src/pipeline/operators/to-pieces.js'
import { problemOf } from '../../src/table/index.js'

const classOf = (cause: string): string => causeClass({ cause })

test('what documents are refused for has a class', () => {
  const noTokenizer = { encodeDocument: () => assert.fail(), encodeQuery: () => assert.fail(), decodeToken: String, decode: String }
  const record = (tokens: number[] | null): LogRecord<'documents'> => ({
    topic: 'documents', partition: 0, offset: 0, key: keyOf('s', 'd'), timestampMs: 0,
    value: { id: 'd', idGiven: true, source: 's', text: null, tokens, shard: 's', index: 0, extra: null },
  })
  const rejected = (given: LogRecord<'documents'>): string => {
    const [item] = piecesOf(given, noTokenizer, { context: 8, long: 'truncate', vocabulary: 10 })
    return isPiece(item) ? 'a piece' : classOf(item.cause)
  }
  assert.equal(rejected(record([])), 'too_short')
  assert.equal(rejected(record([1])), 'too_short')
  assert.equal(rejected(record([1, 10])), 'vocabulary')
  assert.equal(rejected(record(null)), 'no_text')
  for (const problem of [undefined, 'the Avro body is cut short', 'its checksum is wrong: the bytes changed after they were written'])
    assert.equal(rejected({ ...record([1]), value: undefined, problem }), 'corrupt')
})

test('what scores are refused for has a class', () => {
  const problem = (gradientNorm: number, score: number): string =>
    classOf(problemOf({ document: documentId('d'), source: 's', piece: 0, partition: 0, offset: 0, gradientNorm, influence: Float32Array.of(score) }) ?? 'none')
  assert.equal(problem(0, 1), 'gradient_not_finite')
  assert.equal(problem(NaN, 1), 'gradient_not_finite')
  assert.equal(problem(1, Infinity), 'influence_not_finite')
  assert.equal(problem(1e-30, 1e30), 'influence_not_finite')
  assert.equal(classOf('its loss is NaN'), 'loss_not_finite')
  assert.equal(classOf('its gradient is not finite'), 'gradient_not_finite')
})

test('what lines are refused for has a class, and what nobody thought of is other', () => {
  const line = { index: 0, bytes: 5, ok: { id: 'x'.repeat(2000), text: 'some text', extra: {} } }
  const options = { source: null, textField: 'text', idField: 'id', maxBytes: 4 }
  const causeOf = (maxBytes: number): { stage: Stage; cause: string } => toRecord(line, 's.jsonl', { ...options, maxBytes }).value as { stage: Stage; cause: string }
  assert.equal(causeClass(causeOf(4)), 'too_big')
  assert.equal(causeClass(causeOf(4000)), 'too_big')
  for (const [cause, wanted] of [
    ['the line is not UTF-8', 'not_utf8'], ['its field "text" is not UTF-8', 'not_utf8'], ['the line is not JSON: Unexpected end', 'not_json'],
    ['the line is JSON, but not an object', 'not_an_object'], ['it has no field "text"', 'no_text'], ['its field "text" is empty', 'empty'],
    ['the file is empty', 'empty'], ['its field "text" is a number, not a string', 'wrong_type'], ['its fields are nested more than 64 deep', 'too_deep'],
    ['something else', 'other'],
  ]) assert.equal(classOf(cause), wanted, cause)
})
