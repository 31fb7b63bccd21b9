import assert from 'node:assert/strict'
import { test } from 'node:test'
import { finderOf, keywordsOf, needleIndex, needlesOf, overlapOf, wordsOf } from '../../src/analysis/needles.js'

const finds = (needle: string, text: string): boolean => finderOf(needlesOf([{ answer: needle, steps: [] }]))(wordsOf(text)).length > 0

for (const [needle, text] of [
  ['4', 'so x = 4.'], ['4', '(4)'], ['-3', 'the slope is -3.'], ['-3', 'x = −3'], ['-3', 'x=-3'], ['3', '5 - 3 = 2'], ['3', '5-3=2'], ['1,500', 'it was 1,500 then'],
  ['Selma Thorne', 'It was SELMA\n thorne who'], ['30 - 10 = 20', 'The rise is 30-10 = 20.'], ['Kelgate.', 'Kelgate'], ['20 / 4 = 5', '20/4=5'], ['Écu', 'un E\u0301CU d’or'],
] as const) test(`"${needle}" is found in "${text}"`, () => assert.ok(finds(needle, text)))

for (const [needle, text] of [
  ['4', '42'], ['4', '1.4'], ['4', '4.5'], ['4', '1,400'], ['3', 'x = -3'], ['3', 'the slope is -3'], ['-3', '5 - 3'], ['-3', '5-3'], ['Kel', 'Kelgate'], ['Selma Thorne', 'Selma and Thorne'], ['a b', 'b a'],
] as const) test(`"${needle}" is not found in "${text}"`, () => assert.ok(!finds(needle, text)))

test('needles are told once, and known by their words', () => {
  const needles = needlesOf([{ answer: 'Rome', steps: ['rome.', '1 + 1'] }, { answer: ' ', steps: ['1+1'] }])
  assert.equal(needles.length, 2)
  assert.equal(needleIndex(needles)('ROME'), 0)
  assert.equal(needleIndex(needles)('1 +1'), 1)
  assert.equal(needleIndex(needles)('Paris'), undefined)
})

test('overlap is the share of keywords and pairs that a text has', () => {
  const keywords = keywordsOf({ prompt: 'The capital of Ashnia is', completion: ' Kelgate.' })
  assert.equal(overlapOf(keywords, wordsOf('The capital of Ashnia is Kelgate.')), 1)
  assert.equal(overlapOf(keywords, wordsOf('fish')), 0)
  const [half, less] = ['Ashnia, its capital', 'Kelgate'].map((text) => overlapOf(keywords, wordsOf(text)))
  assert.ok(half > less && less > 0)
})
