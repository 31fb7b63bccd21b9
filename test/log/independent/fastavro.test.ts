import assert from 'node:assert/strict'
import fc from 'fast-check'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { packageRoot } from '../../../src/base/index.js'
import { declaredTopics } from '../../../src/log/index.js'
import { anyValue } from '../contract.js'
import { caseOf, codecsOf, tagged, untagged, type Case } from './cases.js'
import { pythonWithFastavro } from './python.js'

const here = join(packageRoot(), 'test', 'log', 'independent')
const golden = readFileSync(join(here, 'golden.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Case)

test('what fastavro wrote of the released schemas is written by us in the same bytes, and read as the same values', async () => {
  for (const { topic, release, schema, value, single, wire } of golden) {
    const codecs = await codecsOf(topic, schema)
    const about = `${topic} of ${release}`
    assert.deepEqual(caseOf(codecs, topic, schema, untagged(value) as object), { topic, schema, value, single, wire }, about)
    for (const [codec, hex] of [[codecs.single, single], [codecs.wire, wire]] as const) {
      const bytes = Buffer.from(hex, 'hex')
      assert.deepEqual(codec.decode(bytes, 0, bytes.length), { value: untagged(value) }, about)
    }
  }
})

test('fastavro reads our bytes of both formats as the same values, and writes the same bytes', { timeout: 600_000 }, async (t) => {
  const found = pythonWithFastavro()
  if ('missing' in found) {
    assert.notEqual(process.env['CI'], 'true', found.missing)
    return t.skip(found.missing)
  }
  const cases: Case[] = []
  for (const [name, { schema }] of declaredTopics()) {
    const codecs = await codecsOf(name, schema)
    for (const value of fc.sample<object>(anyValue[name], { numRuns: 40, seed: 1 })) cases.push(caseOf(codecs, name, schema, value))
  }
  const input = cases.map((line) => JSON.stringify(line)).join('\n')
  const { stdout, stderr, status } = spawnSync(found.python, [join(here, 'fastavro_values.py')], { input, encoding: 'utf8', timeout: 300_000 })
  assert.equal(`${stdout}${stderr}`.trim(), `${cases.length} of ${cases.length}`)
  assert.equal(status, 0)
  // It would have seen a difference.
  const [first] = cases
  const broken = JSON.stringify({ ...first, wire: `${first.wire}00` })
  assert.match(spawnSync(found.python, [join(here, 'fastavro_values.py')], { input: broken, encoding: 'utf8' }).stdout, /bytes are left over\n0 of 1/)
})

test('values as JSON come back as they were', () => {
  fc.assert(fc.property(anyValue.moments, anyValue.influence, (moments, influence) => {
    for (const value of [moments, influence]) assert.deepEqual(untagged(JSON.parse(JSON.stringify(tagged(value)))), value)
  }))
})
