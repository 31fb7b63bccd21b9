import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Tokenizer } from '@huggingface/tokenizers'
import { documents } from '../../demo/corpus.js'

// The tests run compiled, in dist; the model lies in the repository.
const directory = join(process.cwd(), 'demo', 'model')
const json = (name: string): object => JSON.parse(readFileSync(join(directory, name), 'utf8')) as object
const tokenizer = new Tokenizer(json('tokenizer.json'), json('tokenizer_config.json'))

test('the model takes no more than 16 MB of the repository', () => {
  const files = readdirSync(directory)
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'README.md']) assert.ok(files.includes(name))
  assert.ok(files.reduce((sum, name) => sum + statSync(join(directory, name)).size, 0) < 16e6)
})

test('the tokenizer gives the ids that the model was trained with, on the whole corpus', () => {
  // The hash over all ids is from the Python package tokenizers 0.23, which trained the tokenizer.
  const hash = createHash('sha256')
  let tokens = 0
  let tokensMax = 0
  let count = 0
  for (const { text } of documents()) {
    const { ids } = tokenizer.encode(text)
    hash.update(ids.join(' ') + '\n')
    tokens += ids.length
    tokensMax = Math.max(tokensMax, ids.length)
    count++
  }
  assert.equal(hash.digest('hex'), 'c6cc5d9818928b6418b897d08e93def1e22757178c75a18774654b8923944c66')
  assert.ok(tokens / count > 40 && tokens / count < 70 && tokensMax < 256, `${tokens / count}, at most ${tokensMax}`)
})

test('every digit is a token of its own, and a text begins with the special token', () => {
  assert.deepEqual(tokenizer.encode('x = 1234').tokens, ['<|end|>', 'x', 'Ġ=', 'Ġ', '1', '2', '3', '4'])
  assert.deepEqual(tokenizer.encode(' 7.', { add_special_tokens: false }).tokens, ['Ġ', '7', '.'])
})
