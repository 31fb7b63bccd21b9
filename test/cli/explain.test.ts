import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plain, shade, wantsColours } from '../../src/cli/colours.js'
import { explanationText } from '../../src/cli/explain.js'
import type { Explanation } from '../../src/pipeline/explain.js'

const explanationOf = (tokens: Explanation['tokens']): Explanation => {
  const score = tokens.reduce((sum, { term }) => sum + term, 0)
  return {
    run: 'r', query: 'q', document: 'd\x1b[2J', source: 's', partition: 0, offset: 3, piece: 1, pieces: 2, join: 'dense', score, loss: 12.5, tokens,
    layers: [{ layer: 'block.0.up', term: 1.5 * score, share: 1.5 }, { layer: 'block.0.down', term: -0.5 * score, share: -0.5 }],
  }
}
const withoutColours = (text: string): string => text.replace(/\x1b\[[0-9;]*m/g, '')

test('colours are for terminals that want them', () => {
  const terminal = { isTTY: true }
  assert.equal(wantsColours(terminal, {}), true)
  assert.equal(wantsColours({}, {}), false)
  assert.equal(wantsColours(terminal, { NO_COLOR: '1' }), false)
  assert.equal(wantsColours(terminal, { NO_COLOR: '' }), true)
  assert.equal(wantsColours(terminal, { TERM: 'dumb' }), false)
  assert.equal(wantsColours({}, { FORCE_COLOR: '1' }), true)
  assert.equal(wantsColours(terminal, { FORCE_COLOR: '0' }), false)
  assert.equal(wantsColours({}, { FORCE_COLOR: '1', NO_COLOR: '1' }), false)
})

test('sign is told by hue, magnitude by strength, and a line’s end is never coloured', () => {
  assert.equal(shade('x', 0.01), 'x')
  assert.equal(shade('', 1), '')
  const levels = [0.05, 0.2, 0.4, 0.6, 1].flatMap((value) => [shade('x', value), shade('x', -value)])
  assert.equal(new Set(levels).size, levels.length)
  const lines = shade('a\nb\n', 1)
  assert.match(lines, /^\x1b\S+a\x1b\[0m\n\x1b\S+b\x1b\[0m\n$/)
  assert.equal(plain('a', 1), 'a')
})

test('the text is whole, the strongest tokens are listed, the rest is summed, and layers have their shares', () => {
  const tokens = Array.from({ length: 30 }, (_, t) => ({ text: ` w${t}`, term: t === 7 ? -3 : t === 9 ? 5 : 0.01 }))
  const text = explanationText(explanationOf(tokens), undefined)
  assert.doesNotMatch(text, /\x1b/)
  assert.ok(text.includes(tokens.map((token) => token.text).join('')))
  assert.match(text, /piece 1 of 2/)
  const lines = text.split('\n')
  const at = lines.findIndex((line) => line.includes('TERM') && line.includes('TOKEN'))
  assert.match(lines[at + 1], /^ +9 +5\.00000 +\++ .*\[ w9\]/)
  assert.match(lines[at + 2], /^ +7 +-3\.00000 +-+ .*\[ w7\]/)
  assert.match(text, /0\.100000 +\(the other 10 tokens together\)/)
  assert.match(text, /block\.0\.up +3\.42000 +150\.0 %/)
  assert.match(text, /block\.0\.down +-1\.14000 +-50\.0 %/)
  const coloured = explanationText(explanationOf(tokens), shade)
  assert.match(coloured, /against .* for .*the completion; the strongest token has 5\.00000/s)
  assert.ok(withoutColours(coloured).includes(tokens.map((token) => token.text).join('')))
})

test('what stands in a document is no command to the terminal', () => {
  const text = explanationText(explanationOf([{ text: 'a\x1b[31m', term: 1 }, { text: '\x07\u202e b\tc\r\nd', term: -1 }]), undefined)
  assert.doesNotMatch(text, /[\x00-\x08\x0b-\x1f\u202e]/)
  assert.match(text, /a\ufffd\[31m\ufffd\ufffd b\tc\nd/)
})

test('a document without any influence is explained too', () => {
  const text = explanationText({ ...explanationOf([{ text: 'a', term: 0 }, { text: 'b', term: 0 }]), layers: [{ layer: 'l', term: 0, share: null }] }, shade)
  assert.match(text, /score 0,/)
  assert.doesNotMatch(text, /NaN/)
})
