import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, test } from 'node:test'
import { from, lastValueFrom, toArray } from 'rxjs'
import { DeadLetterError } from '../../../src/base/index.js'
import type { DocumentValue, LogRecord } from '../../../src/log/index.js'
import type { Tokenizer } from '../../../src/model/index.js'
import { isPiece, piecesOf, toPieces, type PieceOptions } from '../../../src/pipeline/operators/to-pieces.js'
import { documentOf } from '../drive.js'

/** Every character is a token, its id the place in the alphabet. */
const letters: Tokenizer = {
  encodeDocument: (text) => {
    if (text.includes('!')) throw new DeadLetterError('tokenize', 'it shouts')
    return [...text].map((letter) => letter.charCodeAt(0) - 97)
  },
  encodeQuery: () => assert.fail('no query here'),
  decodeToken: (id) => String.fromCharCode(97 + id),
  decode: (ids) => ids.map((id) => String.fromCharCode(97 + id)).join(''),
}
const recordOf = (value: DocumentValue | undefined, more: Partial<LogRecord<'documents'>> = {}): LogRecord<'documents'> => ({
  topic: 'documents', partition: 1, offset: 7, key: 'key', timestampMs: 5, value, ...more,
})
const ofText = (text: string): LogRecord<'documents'> => recordOf(documentOf(0, { text }))
const ofTokens = (tokens: readonly number[]): LogRecord<'documents'> => recordOf(documentOf(0, { text: null, tokens }))
const options: PieceOptions = { context: 4, long: 'split', vocabulary: 26 }
const tokensOf = (record: LogRecord<'documents'>, more: Partial<PieceOptions> = {}): string[] =>
  piecesOf(record, letters, { ...options, ...more }).map((item) => (isPiece(item) ? letters.decode(item.tokens) : `${item.stage}: ${item.cause}`))

describe('toPieces', () => {
  test('a document that fits is one piece, with its name and place', () => {
    const record = ofText('abcd')
    assert.deepEqual(piecesOf(record, letters, options), [
      { key: 'key', document: 'd0', source: 'third', partition: 1, offset: 7, timestampMs: 5, piece: 0, pieces: 1, tokens: [0, 1, 2, 3], tokensTotal: 4, record },
    ])
  })

  test('split cuts into near-equal pieces, truncate keeps the beginning', () => {
    assert.deepEqual(tokensOf(ofText('abcde')), ['ab', 'cde'])
    assert.deepEqual(tokensOf(ofText('abcdefghi')), ['abc', 'def', 'ghi'])
    assert.deepEqual(tokensOf(ofText('abcdefghi'), { long: 'truncate' }), ['abcd'])
    const [piece] = piecesOf(ofText('abcdefghi'), letters, { ...options, long: 'truncate' })
    assert.ok(isPiece(piece) && piece.tokensTotal === 9 && piece.pieces === 1)
  })

  test('split loses no token, passes no bound, and makes no piece in which nothing is predicted', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(25), { minLength: 2, maxLength: 200 }), fc.integer({ min: 3, max: 50 }), (tokens, context) => {
        const pieces = piecesOf(ofTokens(tokens), letters, { ...options, context }).filter(isPiece)
        assert.deepEqual(pieces.flatMap((piece) => piece.tokens), tokens)
        const lengths = pieces.map((piece) => piece.tokens.length)
        assert.ok(lengths.every((length) => length >= 2), `lengths ${lengths.join()}`)
        assert.ok(lengths.every((length) => length <= context))
        assert.ok(Math.max(...lengths) - Math.min(...lengths) <= 1)
        assert.equal(pieces.length, Math.ceil(tokens.length / context))
        assert.deepEqual(pieces.map(({ piece }) => piece), pieces.map((_, i) => i))
        assert.ok(pieces.every((piece) => piece.pieces === pieces.length && piece.tokensTotal === tokens.length))
      }),
    )
  })

  test('what cannot be used says at which stage and why', () => {
    assert.deepEqual(tokensOf(ofText('')), ['tokenize: the document has no token: nothing is predicted in it'])
    assert.deepEqual(tokensOf(ofText('a')), ['tokenize: the document has one token: nothing is predicted in it'])
    assert.deepEqual(tokensOf(ofText('ab!')), ['tokenize: it shouts'])
    assert.deepEqual(tokensOf(ofTokens([0, 26])), ["tokenize: token id 26 is not in the model's vocabulary of 26"])
    assert.deepEqual(tokensOf(ofTokens([-1, 2])), ["tokenize: token id -1 is not in the model's vocabulary of 26"])
    assert.deepEqual(tokensOf(recordOf(documentOf(0, { text: null }))), ['decode: the document has neither text nor token ids'])
    assert.deepEqual(tokensOf(recordOf(undefined, { problem: 'the Avro body is cut short' })), ['decode: the Avro body is cut short'])
  })

  test('a record that fails lets the others pass, and a bug of the tokenizer does not', async () => {
    const items = await lastValueFrom(from([ofText('ab'), ofText('!'), ofText('cd')]).pipe(toPieces(letters, options), toArray()))
    assert.deepEqual(items.map(isPiece), [true, false, true])
    const broken: Tokenizer = { ...letters, encodeDocument: () => assert.fail('a bug') }
    await assert.rejects(lastValueFrom(from([ofText('ab')]).pipe(toPieces(broken, options))), /a bug/)
  })
})
