import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
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
