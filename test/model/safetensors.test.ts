/** @file Safetensors: what is written is read back; what is broken is refused by name, before any data is read. */
import assert from 'node:assert/strict'
import { link, mkdir, readdir, readFile, rename, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { UserError } from '../../src/base/index.js'
import { checkpointHash, readCheckpointTensors, readSafetensors, readTensor, readTensorExact, writeSafetensors } from '../../src/model/index.js'
import { copyOf, temporary } from './checkpoints.js'

/** A file of the given header and bytes, as no writer would make it. */
const forge = async (path: string, header: unknown, bytes: number): Promise<void> => {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  await writeFile(path, Buffer.concat([length, json, Buffer.alloc(bytes)]))
}
const F32 = (shape: readonly number[], begin: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [begin, end] })

test('tensors come back as they were written, aligned, with the temporary file gone', async (t) => {
  const folder = await temporary(t)
  const path = join(folder, 'factors.safetensors')
  async function* pieces(): AsyncGenerator<Float32Array> {
    yield Float32Array.of(1.5, -2)
    yield Float32Array.of(3)
  }
  await writeSafetensors(path, [
    { name: 'single', dtype: 'F32', shape: [3], data: pieces },
    { name: 'double', dtype: 'F64', shape: [2, 1], data: () => Float64Array.of(Math.PI, -0) },
    { name: 'ids', dtype: 'I64', shape: [2], data: async () => BigInt64Array.of(-1n, 2n ** 60n) },
    { name: 'none', dtype: 'F32', shape: [0, 4], data: () => new Float32Array(0) },
  ], { made: 'by a test' })
  assert.deepEqual(await readdir(folder), ['factors.safetensors'])
  const tensors = await readSafetensors(path)
  const info = (name: string) => tensors.get(name) ?? assert.fail(name)
  assert.deepEqual([...(await readTensor(info('single')))], [1.5, -2, 3])
  assert.deepEqual([...(await readTensorExact(info('double')))], [Math.PI, -0])
  assert.deepEqual([...(await readTensor(info('none')))], [])
  for (const { dtype, offset } of tensors.values()) assert.equal(offset % (dtype === 'F32' ? 4 : 8), 0)
  await assert.rejects(readTensor(info('ids')), /"ids".*I64/)
})

test('a write that fails leaves the old file and nothing else', async (t) => {
  const folder = await temporary(t)
  const path = join(folder, 'factors.safetensors')
  const tensor = (length: number) => ({ name: 'x', dtype: 'F32', shape: [2], data: () => new Float32Array(length) }) as const
  await writeSafetensors(path, [tensor(2)])
  const before = await readFile(path)
  for (const length of [1, 3]) await assert.rejects(writeSafetensors(path, [tensor(length)]), /"x".*\[2\]/)
  await assert.rejects(writeSafetensors(path, [tensor(2), tensor(2)]), /"x" twice/)
  await assert.rejects(writeSafetensors(join(folder, 'nowhere', 'x'), [tensor(2)]), UserError)
  assert.deepEqual(await readFile(path), before)
  assert.deepEqual(await readdir(folder), ['factors.safetensors'])
})

test('every half and every bfloat16 has its value', async (t) => {
  const path = join(await temporary(t), 'x.safetensors')
  const halves = Uint16Array.from({ length: 1 << 16 }, (_, i) => i)
  const header = Buffer.from(JSON.stringify({
    f16: { dtype: 'F16', shape: [1 << 16], data_offsets: [0, 1 << 17] },
    bf16: { dtype: 'BF16', shape: [1 << 16], data_offsets: [1 << 17, 1 << 18] },
  }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  await writeFile(path, Buffer.concat([length, header, Buffer.from(halves.buffer), Buffer.from(halves.buffer)]))
  const tensors = await readSafetensors(path)
  const values = async (name: string) => readTensor(tensors.get(name) ?? assert.fail(name))
  const [f16, bf16] = [await values('f16'), await values('bf16')]
  const halfValues = [[0x0000, 0], [0x8000, -0], [0x0001, 2 ** -24], [0x03ff, 1023 * 2 ** -24], [0x3c00, 1], [0xc000, -2], [0x7bff, 65504], [0x7c00, Infinity]]
  for (const [bits, value] of halfValues) assert.ok(Object.is(f16[bits], value), `f16 ${bits.toString(16)} is ${f16[bits]}`)
  const brainValues = [[0x0000, 0], [0x8000, -0], [0x0001, 2 ** -133], [0x3c00, 2 ** -7], [0xc000, -2], [0x3f80, 1], [0x7f80, Infinity]]
  for (const [bits, value] of brainValues) assert.ok(Object.is(bf16[bits], value), `bf16 ${bits.toString(16)} is ${bf16[bits]}`)
  assert.equal(f16.filter(Number.isNaN).length, 2 * 1023)
  assert.equal(bf16.filter(Number.isNaN).length, 2 * 127)
})

const BROKEN: Readonly<Record<string, readonly [unknown, number, RegExp]>> = {
  'a header that is no JSON': ['{"a"', 0, /no JSON/],
  'a header that is no object': ['[]', 0, /no JSON object/],
  'a torn tensor': [{ a: F32([4], 0, 16) }, 12, /"a" ends at byte \d+, the file at \d+: it is torn/],
  'offsets that overlap': [{ a: F32([2], 0, 8), b: F32([2], 4, 12) }, 12, /"b" overlaps/],
  'a hole': [{ a: F32([1], 0, 4), b: F32([1], 8, 12) }, 12, /4 bytes before tensor "b" belong to none/],
  'bytes left over': [{ a: F32([1], 0, 4) }, 8, /4 bytes at its end belong to no tensor/],
  'one name twice': ['{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8, /belong to none/],
  'a size that is not dtype × shape': [{ a: F32([3], 0, 8) }, 8, /"a" of F32 \[3\] needs 12 bytes/],
  'a negative length': [{ a: F32([-1], 0, 4) }, 4, /"a" has the shape \[-1\]/],
  'a shape beyond counting': [{ a: F32([2 ** 40, 2 ** 40], 0, 0) }, 0, /"a" of F32/],
  'offsets in reverse': [{ a: F32([1], 4, 0) }, 4, /"a" of F32/],
  'offsets of fractions': [{ a: F32([1], 0.5, 4.5) }, 8, /"a" has the offsets/],
  'an unknown dtype': [{ a: { dtype: 'Q4', shape: [1], data_offsets: [0, 1] } }, 1, /"a" has the unknown dtype "Q4"/],
  'a dtype of the prototype': [{ a: { dtype: 'toString', shape: [1], data_offsets: [0, 1] } }, 1, /unknown dtype/],
  'no description': [{ a: null }, 0, /"a" has no description/],
}
for (const [what, [header, bytes, message]] of Object.entries(BROKEN))
  test(`a file with ${what} is refused`, async (t) => {
    const path = join(await temporary(t), 'x.safetensors')
    await forge(path, header, bytes)
    await assert.rejects(readSafetensors(path), (error) =>
      error instanceof UserError && message.test(error.message) && error.message.includes(path))
  })

test('a header longer than the file or than the bound is not read', async (t) => {
  const path = join(await temporary(t), 'x.safetensors')
  for (const [length, message] of [[2n ** 63n, /is the most/], [100_000_001n, /is the most/], [99n, /the file has 8/]] as const) {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(length)
    await writeFile(path, bytes)
    await assert.rejects(readSafetensors(path), message)
  }
  await writeFile(path, 'short')
  await assert.rejects(readSafetensors(path), /it has 5 bytes/)
})

test('a file cut anywhere is refused', async (t) => {
  const folder = await copyOf(t, 'llama')
  const path = join(folder, 'model.safetensors')
  const whole = await readFile(path)
  await fc.assert(fc.asyncProperty(fc.nat(whole.length - 1), async (length) => {
    await writeFile(path, whole)
    await truncate(path, length)
    await assert.rejects(readCheckpointTensors(folder), UserError)
  }), { numRuns: 40 })
})

const INDEX = 'model.safetensors.index.json'
const reindexed = async (t: Parameters<typeof temporary>[0], change: (map: Record<string, unknown>) => void): Promise<string> => {
  const folder = await copyOf(t, 'llama-gqa-sharded')
  const index = JSON.parse(await readFile(join(folder, INDEX), 'utf8'))
  change(index.weight_map)
  await writeFile(join(folder, INDEX), JSON.stringify(index))
  return folder
}

test('shards are read through the index', async (t) => {
  const tensors = await readCheckpointTensors(await reindexed(t, () => {}))
  assert.ok(new Set([...tensors.values()].map(({ path }) => path)).size > 1)
})

const BAD_INDEX: Readonly<Record<string, readonly [(map: Record<string, unknown>) => void, RegExp]>> = {
  'a shard above the folder': [(map) => (map.x = '../model.safetensors'), /"x".*"\.\.\/model\.safetensors"/],
  'an absolute shard': [(map) => (map.x = '/etc/x.safetensors'), /"x"/],
  'a shard that is no name': [(map) => (map.x = 7), /"x" in 7/],
  'a missing shard': [(map) => (map.x = 'model-00009-of-00009.safetensors'), /"model-00009-of-00009\.safetensors".*is missing/],
  'a tensor that no shard has': [(map) => (map.x = Object.values(map)[0]), /lists "x", which is not in the shards/],
  'a tensor in another shard': [(map) => {
    const [first, second] = [...new Set(Object.values(map))]
    const name = Object.keys(map).find((key) => map[key] === first) ?? assert.fail()
    map[name] = second
  }, /has tensor ".*", which ".*index\.json" places in/],
}
for (const [what, [change, message]] of Object.entries(BAD_INDEX))
  test(`an index with ${what} is refused`, async (t) => {
    const folder = await reindexed(t, change)
    await assert.rejects(readCheckpointTensors(folder), (error) => error instanceof UserError && message.test(error.message))
  })

test('a tensor in two shards is refused', async (t) => {
  const folder = await reindexed(t, () => {})
  const index = JSON.parse(await readFile(join(folder, INDEX), 'utf8'))
  const [first] = Object.values<string>(index.weight_map)
  await link(join(folder, first), join(folder, 'twin.safetensors'))
  index.weight_map.x = 'twin.safetensors'
  await writeFile(join(folder, INDEX), JSON.stringify(index))
  await assert.rejects(readCheckpointTensors(folder), /is in ".*" and again in ".*"/)
})

test('links, as in the cache of Hugging Face, are followed to the real path', async (t) => {
  const folder = await copyOf(t, 'llama')
  const blobs = join(folder, '..', 'blobs')
  await mkdir(blobs)
  await rename(join(folder, 'model.safetensors'), join(blobs, 'abc'))
  await symlink('../blobs/abc', join(folder, 'model.safetensors'))
  for (const { path } of (await readCheckpointTensors(folder)).values()) assert.match(path, /blobs.abc$/)
})

test('a checkpoint has one hash wherever it lies, and another once a byte of it changes', async (t) => {
  const [a, b] = [await copyOf(t, 'llama'), await copyOf(t, 'llama')]
  const cache = join(await temporary(t), 'hashes')
  const hash = await checkpointHash(a, { cache })
  assert.match(hash, /^[0-9a-f]{64}$/)
  assert.equal(await checkpointHash(b), hash)
  assert.equal(await checkpointHash(a, { cache }), hash)
  for (const file of await readdir(cache)) await writeFile(join(cache, file), '0'.repeat(64))
  assert.notEqual(await checkpointHash(a, { cache }), hash, 'the second call reads its cache')
  const weights = await readFile(join(a, 'model.safetensors'))
  weights[weights.length - 1] ^= 1
  await writeFile(join(a, 'model.safetensors'), weights)
  assert.notEqual(await checkpointHash(a), hash)
  await writeFile(join(b, 'config.json'), `${await readFile(join(b, 'config.json'), 'utf8')} `)
  assert.notEqual(await checkpointHash(b), hash)
})
