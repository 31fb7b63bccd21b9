/** @file Tokenizers against the Rust library on nasty strings; bounds on untrusted text. */
import assert from 'node:assert/strict'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { DeadLetterError, UserError } from '../../src/base/index.js'
import { openTokenizer } from '../../src/model/index.js'
import { fixture, temporary } from './checkpoints.js'

interface Case {
  readonly text: string
  readonly ids: readonly number[]
  readonly idsWithout: readonly number[]
  readonly decoded: string
}

const VOCABULARY = 1000
const open = (name: string, options = {}) => openTokenizer(fixture(`tokenizers/${name}`), { vocabulary: VOCABULARY, ...options })
const casesOf = async (name: string): Promise<readonly Case[]> =>
  JSON.parse(await readFile(join(fixture(`tokenizers/${name}`), 'expected.json'), 'utf8'))

const KINDS = [
  'gpt2', 'prefix-space', 'llama3', 'qwen2', 'smollm', 'digit-runs', 'llama2', 'mistral', 'metaspace-split', 'added-tokens',
]

for (const name of KINDS)
  test(`${name}: ids and text of nasty strings are those of the Rust library`, async () => {
    const tokenizer = await open(name)
    for (const { text, ids, idsWithout, decoded } of await casesOf(name)) {
      assert.deepEqual(tokenizer.encodeDocument(text), ids, JSON.stringify(text))
      const query = tokenizer.encodeQuery({ prompt: '2 + 2 =', completion: text })
      assert.deepEqual(query.ids.slice(query.promptLength), idsWithout, JSON.stringify(text))
      if (!text.includes('\ufeff')) assert.equal(tokenizer.decode(idsWithout), decoded)
    }
  })

test('a query is its prompt with specials and its completion without, joined as ids', async () => {
  const tokenizer = await open('llama3')
  const prompt = tokenizer.encodeDocument('The capital of Mali is')
  const { ids, promptLength } = tokenizer.encodeQuery({ prompt: 'The capital of Mali is', completion: ' Bamako.' })
  assert.equal(tokenizer.decodeToken(prompt[0]), '<s>')
  assert.deepEqual(ids.slice(0, promptLength), prompt)
  assert.equal(tokenizer.decode(ids.slice(promptLength)), ' Bamako.')
})

test('lone surrogates are read as U+FFFD, and no text is no tokens', async () => {
  const tokenizer = await open('gpt2')
  assert.deepEqual(tokenizer.encodeDocument('a\ud800b\udc00 🙂\ud83d'), tokenizer.encodeDocument('a\ufffdb\ufffd 🙂\ufffd'))
  assert.deepEqual(tokenizer.encodeDocument(''), [])
  assert.equal(tokenizer.decode([]), '')
})

test('a text over the bound and an id outside the vocabulary are dead letters that say so', async () => {
  const bounded = await open('gpt2', { charactersMax: 10 })
  assert.throws(() => bounded.encodeDocument('a'.repeat(11)), (error) =>
    error instanceof DeadLetterError && error.stage === 'tokenize' && /11 characters; 10 is the most/.test(error.message))
  assert.equal(bounded.encodeDocument('a'.repeat(10)).length, 10)
  const small = await open('gpt2', { vocabulary: 5 })
  assert.throws(() => small.encodeDocument('abc'), (error) =>
    error instanceof DeadLetterError && /token \d+ .*vocabulary of 5/.test(error.message))
})

test('text without spaces takes time in proportion to its length', async () => {
  for (const name of ['gpt2', 'llama3', 'llama2']) {
    const tokenizer = await open(name)
    const secondsOf = (length: number): number => {
      const start = process.cpuUsage()
      tokenizer.encodeDocument('東京abc'.repeat(length / 5))
      return process.cpuUsage(start).user
    }
    secondsOf(2_000)
    const [short, long] = [secondsOf(4_000), secondsOf(32_000)]
    assert.ok(long < 8 * 4 * short, `${name}: 8 times the text took ${(long / short).toFixed(1)} times as long`)
  }
})

const broken = async (t: Parameters<typeof temporary>[0], change: (json: Record<string, unknown>) => void): Promise<string> => {
  const folder = join(await temporary(t), 'tokenizer')
  await cp(fixture('tokenizers/gpt2'), folder, { recursive: true })
  const json = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'))
  change(json)
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(json))
  return folder
}

const REFUSED: Readonly<Record<string, readonly [(json: Record<string, unknown>) => void, RegExp]>> = {
  'a model that is not BPE': [(json) => (json.model = { type: 'WordPiece', vocab: {} }), /model "WordPiece".*BPE/],
  'BPE dropout': [(json) => Object.assign(json.model as object, { dropout: 0.1 }), /model\.dropout = 0\.1/],
  'an unknown normalizer': [(json) => (json.normalizer = { type: 'Lowercase' }), /normalizer "Lowercase"/],
  'an unknown pre-tokenizer': [(json) => (json.pre_tokenizer = { type: 'Sequence', pretokenizers: [{ type: 'Whitespace' }] }), /pre_tokenizer "Whitespace"/],
  'a vocabulary of words': [(json) => Object.assign(json.model as object, { vocab: { a: 'b' } }), /model\.vocab\.a/],
  'an unknown decoder': [(json) => (json.decoder = { type: 'Rot13' }), /Rot13/],
  'no merges': [(json) => Object.assign(json.model as object, { merges: undefined }), /model\.merges/],
}
for (const [what, [change, message]] of Object.entries(REFUSED))
  test(`a tokenizer with ${what} is refused`, async (t) => {
    const folder = await broken(t, change)
    await assert.rejects(openTokenizer(folder, { vocabulary: VOCABULARY }), (error) =>
      error instanceof UserError && message.test(error.message) && error.message.includes('tokenizer.json'))
  })

test('a missing or torn tokenizer.json is refused by its path', async (t) => {
  const folder = await temporary(t)
  await assert.rejects(openTokenizer(folder, { vocabulary: 1 }), /tokenizer\.json" cannot be read/)
  await writeFile(join(folder, 'tokenizer.json'), '{"model":')
  await assert.rejects(openTokenizer(folder, { vocabulary: 1 }), /tokenizer\.json" is no JSON/)
})
