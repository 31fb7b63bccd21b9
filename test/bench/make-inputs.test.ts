/** The inputs of the comparison with the peer: documents of one length, queries with their prompt's length. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alternating, cutDocuments, encodeQuery, filledUp, type Encode } from '../../bench/peer/make-inputs.js'

/** One id a character, and a 0 before a text that has specials. */
const encode: Encode = (text, { specials }) => [...(specials ? [0] : []), ...Array.from(text, (character) => character.charCodeAt(0))]

test('documents have exactly so many tokens and begin where a text does', () => {
  const documents = cutDocuments(['abcdefgh', 'AB', 'CDEFGH', 'never read'], { encode, tokens: 6, documents: 2 })
  const codes = (text: string): number[] => [0, ...Array.from(text, (character) => character.charCodeAt(0))]
  assert.deepEqual(documents, [codes('abcde'), codes('AB\n\nC')])
})

test('too little text is refused', () => {
  assert.throws(() => cutDocuments(['abc'], { encode, tokens: 6, documents: 1 }), /make 0 documents of 6 tokens/)
})

test('a query knows where its completion begins; only the prompt has specials', () => {
  assert.deepEqual(encodeQuery({ id: 'q', prompt: 'ab', completion: 'c' }, encode), { id: 'q', tokens: [0, 97, 98, 99], prompt: 3 })
})

test('arithmetic fills up, without two queries of one id or one text', () => {
  const queries = filledUp([{ id: 'given', prompt: 'a', completion: 'b' }], 100)
  assert.equal(queries.length, 100)
  assert.equal(new Set(queries.map(({ id }) => id)).size, 100)
  assert.equal(new Set(queries.map(({ prompt }) => prompt)).size, 100)
  assert.equal(queries[1].completion, '3 + 2 = 5\n5 * 2 = 10\nThe answer is 10.')
  assert.equal(filledUp(queries, 7).length, 7)
})

test('lists take turns', () => {
  assert.deepEqual([...alternating([[1, 2, 3], [], [4]])], [1, 4, 2, 3])
})
