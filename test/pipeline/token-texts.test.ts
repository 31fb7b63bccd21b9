import assert from 'node:assert/strict'
import fc from 'fast-check'
import { join } from 'node:path'
import { test } from 'node:test'
import { openTokenizer } from '../../src/model/index.js'
import { tokenTexts } from '../../src/pipeline/token-texts.js'
import { temporary } from './drive.js'
import { tinyCheckpoint, vocabulary } from './tiny-checkpoint.js'

test('the texts of all tokens together are the text, whatever its characters', async () => {
  const tokenizer = await openTokenizer(await tinyCheckpoint(join(temporary(), 'model')), { vocabulary })
  const whole = (text: string): string => tokenTexts(tokenizer.encodeDocument(text), tokenizer).join('')
  fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }).filter((text) => !text.includes('\ufeff')), (text) => assert.equal(whole(text), text)), { numRuns: 200 })
  const texts = tokenTexts(tokenizer.encodeDocument('a 🌊 b'), tokenizer)
  assert.deepEqual(texts.filter((text) => text !== ''), ['a', ' ', '🌊', ' ', 'b'])
  assert.equal(texts.length, 8, 'a character of four bytes stands with its last token')
})

test('bytes that are no text are shown as such, and do not swallow what follows', async () => {
  const tokenizer = await openTokenizer(await tinyCheckpoint(join(temporary(), 'model')), { vocabulary })
  const [first] = tokenizer.encodeDocument('🌊')
  const ids = [...Array.from({ length: 20 }, () => first), ...tokenizer.encodeDocument('water')]
  const texts = tokenTexts(ids, tokenizer)
  assert.equal(texts.length, ids.length)
  assert.ok(texts.join('').endsWith('water'))
  assert.ok(texts.join('').includes('\ufffd'))
})

test('a decoder that treats a text’s beginning in its own way has no say in the middle', () => {
  const words = ['▁the', '▁river', '▁of']
  const decode = (ids: readonly number[]): string => ids.map((id) => words[id]).join('').replaceAll('▁', ' ').replace(/^ /, '')
  assert.deepEqual(tokenTexts([0, 1, 2, 1], { decode }), ['the', ' river', ' of', ' river'])
})
