/** @file The TensorFlow.js engine on its JavaScript backend: what every engine must do, and what is its own. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { tfjsEngine, type ProgramSpec } from '../../src/tensor/index.js'
import { engineConformance } from './conformance.js'
import { modelConformance } from './model-conformance.js'

engineConformance('tfjs, JavaScript', {
  open: ({ attention, head }) => tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu', attentionBlocks: attention, headBlocks: head }),
  tolerance: 3e-6,
})

modelConformance('tfjs, JavaScript', { open: () => tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu' }), tolerance: 1e-4 })

const cpu = '@tensorflow/tfjs-backend-cpu'

test('where no TensorFlow.js is installed, it says how to install one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-tfjs-'))
  try {
    assert.throws(() => tfjsEngine({ from: folder }), (error) => error instanceof UserError && /needs TensorFlow.js/.test(error.message) && /npm install @tensorflow\/tfjs-node.*--engine onnx/.test(error.fix ?? ''))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a package that is there but does not load is named, and it says what to do', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-tfjs-'))
  try {
    const broken = join(folder, 'node_modules', '@tensorflow', 'tfjs-node')
    mkdirSync(broken, { recursive: true })
    writeFileSync(join(broken, 'package.json'), '{ "version": "4.0.0", "main": "index.js" }')
    writeFileSync(join(broken, 'index.js'), "throw new Error('libtensorflow.so.2: cannot open shared object file')")
    await using engine = tfjsEngine({ from: folder })
    assert.deepEqual(engine.versions, { '@tensorflow/tfjs-node': '4.0.0' })
    await assert.rejects(
      engine.compile({ name: 'any', inputs: {}, weights: new Map(), build: (ops) => ({ x: ops.constant([1], [1]) }) }),
      (error) => error instanceof UserError && /tfjs-node is installed, but does not load: libtensorflow/.test(error.message) && /npm rebuild/.test(error.fix ?? ''),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('weights of every float type are read as float32, whatever surrounds them in the file; others are refused', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-tfjs-'))
  try {
    const path = join(folder, 'weights')
    // −1.5, 2⁻²⁴ (the least float16), 65504 (the largest), ∞
    const stored: Readonly<Record<string, Buffer>> = {
      F16: Buffer.from(Uint16Array.of(0xbe00, 0x0001, 0x7bff, 0x7c00).buffer),
      BF16: Buffer.from(Uint16Array.of(0xbfc0, 0x3380, 0x4780, 0x7f80).buffer),
      F32: Buffer.from(Float32Array.of(-1.5, 2 ** -24, 65504, Infinity).buffer),
      F64: Buffer.from(Float64Array.of(-1.5, 2 ** -24, 65504, Infinity).buffer),
    }
    let offset = 3
    const weights = new Map(Object.entries(stored).map(([dtype, { length }]) => {
      const weight = { name: dtype, dtype, shape: [2, 2], path, offset, length }
      offset += length
      return [dtype, weight] as const
    }))
    writeFileSync(path, Buffer.concat([Buffer.alloc(3, 7), ...Object.values(stored)]))
    await using engine = tfjsEngine({ backend: cpu })
    const build: ProgramSpec['build'] = (_ops, _value, weight) => Object.fromEntries(Object.keys(stored).map((dtype) => [dtype, weight(dtype)]))
    for (const round of [1, 2]) {
      await using program = await engine.compile({ name: 'read', inputs: {}, weights, build })
      const outputs = await program.run({})
      for (const dtype of Object.keys(stored)) assert.deepEqual([...outputs[dtype].data], [-1.5, 2 ** -24, dtype === 'BF16' ? 65536 : 65504, Infinity], `${dtype}, program ${round}`)
    }
    const odd = { name: 'w', dtype: 'I8', shape: [2], path, offset: 0, length: 2 }
    await assert.rejects(engine.compile({ name: 'odd', inputs: {}, weights: new Map([['w', odd]]), build: (_ops, _value, take) => ({ w: take('w') }) }), /weight "w" is stored as I8/)
    const beyond = { name: 'w', dtype: 'F32', shape: [100], path, offset: 0, length: 400 }
    await assert.rejects(engine.compile({ name: 'short', inputs: {}, weights: new Map([['w', beyond]]), build: (_ops, _value, take) => ({ w: take('w') }) }), /ends within weight "w"/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('what two callers both ask for is computed once, and what nobody needs not at all', async () => {
  await using engine = tfjsEngine({ backend: cpu })
  await using program = await engine.compile({
    name: 'twice', inputs: { x: { type: 'float32', shape: ['N', 3] } }, weights: new Map(),
    build: (ops, value) => {
      ops.exp(value('x'))
      return Object.fromEntries([1, 2, 3].map((i) => [`y${i}`, ops.matmul(ops.appendOne(value('x')), value('x'), { transA: true })]))
    },
  })
  assert.equal(program.nodes, 2)
})

test('ids beyond 32 bits are refused', async () => {
  await using engine = tfjsEngine({ backend: cpu })
  await using program = await engine.compile({ name: 'lookup', inputs: { ids: { type: 'int64', shape: ['N'] } }, weights: new Map(), build: (_ops, value) => ({ ids: value('ids') }) })
  assert.deepEqual([...(await program.run({ ids: { type: 'int64', shape: [2], data: BigInt64Array.of(5n, -7n) } })).ids.data], [5n, -7n])
  await assert.rejects(program.run({ ids: { type: 'int64', shape: [1], data: BigInt64Array.of(2n ** 31n) } }), /input "ids" holds 2147483648/)
})

test('a closed engine says so', async () => {
  const engine = tfjsEngine({ backend: cpu })
  await engine[Symbol.asyncDispose]()
  await assert.rejects(engine.compile({ name: 'late', inputs: {}, weights: new Map(), build: (ops) => ({ x: ops.constant([1], [1]) }) }), /closed/)
})

test('a precision that TensorFlow.js has not is refused when a program is made', async () => {
  await using engine = tfjsEngine({ backend: cpu })
  await assert.rejects(
    engine.compile({ name: 'narrow', inputs: {}, weights: new Map(), precision: 'f16', build: (ops) => ({ x: ops.constant([1], [1]) }) }),
    (error) => error instanceof UserError && /computes in float32, not in f16/.test(error.message),
  )
})
