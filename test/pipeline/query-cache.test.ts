import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { queryCache } from '../../src/pipeline/query-cache.js'
import { temporary } from './drive.js'

const key = ['checkpoint', ['layer'], [1, 2, 3], 1]

describe('the query cache', () => {
  test('gives back what was written under the same key and kind, and nothing else', async () => {
    const cache = queryCache(temporary())
    assert.equal(await cache.find('dense', key), undefined)
    await cache.write('dense', key, { x: Float32Array.of(1, 2, 3), y: Float32Array.of(4) })
    const found = await cache.find('dense', [...key])
    assert.ok(found !== undefined && found.has('x') && !found.has('z'))
    assert.deepEqual(await found.read('x', 3), Float32Array.of(1, 2, 3))
    assert.deepEqual(await found.read('y', 1), Float32Array.of(4))
    await assert.rejects(found.read('x', 4), (error: unknown) => error instanceof UserError && /should hold 4 numbers/.test(error.message))
    for (const other of [['other', ['layer'], [1, 2, 3], 1], ['checkpoint', ['layer'], [1, 2], 1], [...key, 8]]) assert.equal(await cache.find('dense', other), undefined)
    assert.equal(await cache.find('low-rank', key), undefined)
  })

  test('a file that is cut short, empty or something else counts as none, and can be written again', async () => {
    const folder = temporary()
    const cache = queryCache(folder)
    for (const damage of ['', 'no tensors at all, but some bytes of text', Buffer.alloc(64, 255)]) {
      await cache.write('gradients', key, { x: Float32Array.of(1, 2, 3) })
      const [name] = readdirSync(join(folder, 'gradients'))
      writeFileSync(join(folder, 'gradients', name), damage)
      assert.equal(await cache.find('gradients', key), undefined)
      assert.deepEqual(readdirSync(join(folder, 'gradients')), [])
    }
    await cache.write('gradients', key, { x: Float32Array.of(1, 2, 3) })
    assert.ok((await cache.find('gradients', key)) !== undefined)
  })

  test('one flipped bit, or a file without a hash, is told, removed and made again', async () => {
    const folder = temporary()
    const entry = { x: Float32Array.of(1, 2, 3), y: new Float32Array(3_000_000).fill(0.5) } // more than is hashed at a time
    await queryCache(folder).write('dense', key, entry)
    const [name] = readdirSync(join(folder, 'dense'))
    const path = join(folder, 'dense', name)
    const whole = readFileSync(path)
    const flipped = (at: number): Buffer => Buffer.from(whole.map((byte, i) => (i === at ? byte ^ 1 : byte)))
    const headerEnd = 8 + Number(whole.readBigUInt64LE(0))
    for (const damaged of [flipped(60), flipped(headerEnd), flipped(headerEnd + 6_000_000), flipped(whole.length - 1), Buffer.from(whole.toString('latin1').replace('"sha256"', '"sha255"'), 'latin1')]) {
      const problems: string[] = []
      const cache = queryCache(folder, { onDamaged: (problem) => problems.push(problem) })
      assert.ok((await cache.find('dense', key)) !== undefined)
      writeFileSync(path, damaged)
      assert.equal(await cache.find('dense', key), undefined, 'seen though the file was whole before')
      assert.equal(existsSync(path), false)
      writeFileSync(path, damaged)
      assert.equal(await queryCache(folder).find('dense', key), undefined)
      assert.match(problems.join(), /\.safetensors" .*sha256.*: it is made again$/)
      await cache.write('dense', key, entry)
      const found = await cache.find('dense', key)
      assert.deepEqual(await found?.read('x', 3), entry.x)
      assert.deepEqual(readFileSync(path), whole)
    }
  })

  test('what killed writers left is removed once it is a day old, younger may be in the making', async () => {
    const folder = temporary()
    mkdirSync(join(folder, 'dense'), { recursive: true })
    const [old, young] = ['.a.safetensors.1.tmp', '.b.safetensors.2.tmp'].map((name) => join(folder, 'dense', name))
    for (const path of [old, young]) writeFileSync(path, 'half')
    const longAgo = Date.now() / 1000 - 25 * 3600
    utimesSync(old, longAgo, longAgo)
    await queryCache(folder).write('dense', key, { x: Float32Array.of(1) })
    assert.deepEqual([existsSync(old), existsSync(young)], [false, true])
  })
})
