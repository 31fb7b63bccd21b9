/** @file The ONNX engine: what every engine must do, and what is its own. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { onnxEngine, type ProgramSpec, type TensorData } from '../../src/tensor/index.js'
import { engineConformance } from './conformance.js'
import { modelConformance } from './model-conformance.js'
import { precisionConformance } from './precision-conformance.js'

engineConformance('onnx', {
  open: ({ attention, head }) => onnxEngine({ threads: 1, attentionBlocks: attention, headBlocks: head }),
  tolerance: 3e-6,
})

modelConformance('onnx', { open: () => onnxEngine({ threads: 1 }), tolerance: 1e-4 })

for (const precision of ['f16', 'bf16'] as const) precisionConformance('onnx', { open: () => onnxEngine({ threads: 1 }), precision })
// As a GPU gets it. On the CPU, ONNX Runtime widens float16 again, and leaves out the rounding of what is float32 before and after.
precisionConformance('onnx, traced for CUDA', { open: () => onnxEngine({ threads: 1, tracedFor: 'cuda' }), precision: 'f16' })

test('what two callers both ask for is computed once', async () => {
  await using engine = onnxEngine({ threads: 1 })
  const nodes = async (times: number): Promise<number> => {
    await using program = await engine.compile({
      name: 'twice', inputs: { x: { type: 'float32', shape: ['N', 3] } }, weights: new Map(),
      build: (ops, value) => Object.fromEntries(Array.from({ length: times }, (_, i) => [`y${i}`, ops.matmul(ops.appendOne(value('x')), value('x'), { transA: true })])),
    })
    return program.nodes
  }
  assert.equal(await nodes(3), await nodes(1))
})

test('a weight of a type that is no float is refused before anything runs', async () => {
  await using engine = onnxEngine({ threads: 1 })
  const weight = { name: 'w', dtype: 'I8', shape: [2], path: '/nowhere/model.safetensors', offset: 0, length: 2 }
  await assert.rejects(
    engine.compile({ name: 'odd', inputs: {}, weights: new Map([['w', weight]]), build: (_ops, _value, take) => ({ w: take('w') }) }),
    /weight "w" is stored as I8/,
  )
})

test('a closed engine says so', async () => {
  const engine = onnxEngine({ threads: 1 })
  await engine[Symbol.asyncDispose]()
  await assert.rejects(engine.compile({ name: 'late', inputs: {}, weights: new Map(), build: (ops) => ({ x: ops.constant([1], [1]) }) }), /closed/)
})

test('a GPU keeps what is fixed: it is in the session, and bound once', async () => {
  await using engine = onnxEngine({ threads: 1, tracedFor: 'cuda' })
  const floats = (data: readonly number[]): TensorData => ({ type: 'float32', shape: [data.length], data: Float32Array.from(data) })
  await using program = await engine.compile({
    name: 'kept', weights: new Map(),
    inputs: { x: { type: 'float32', shape: ['N'] }, y: { type: 'float32', shape: [2], fixed: true }, z: { type: 'int64', shape: [2], fixed: true }, w: { type: 'float32', shape: [1] } },
    build: (ops, value) => ({ sum: ops.add(ops.mul(value('x'), value('y')), ops.gather(value('y'), value('z'))), own: ops.scale(value('w'), 1) }),
  })
  await program.bind({ y: floats([10, 20]), w: floats([7]) })
  await program.bind({ z: { type: 'int64', shape: [2], data: BigInt64Array.of(1n, 0n) } })
  for (const x of [[1, 2], [3, 4]]) {
    const { sum, own } = await program.run({ x: floats(x) })
    assert.deepEqual([...sum.data], [10 * x[0] + 20, 20 * x[1] + 10])
    assert.deepEqual([...own.data], [7], 'what is not fixed is bound as ever')
  }
  await program.bind({ w: floats([8]) })
  assert.deepEqual([...(await program.run({ x: floats([0, 0]) })).own.data], [8])
  await assert.rejects(program.bind({ y: floats([1, 1]) }), /"y" is fixed, and bound already/)
})

test('the CPU rounds what products take and give to the precision, and nothing that is no product', async () => {
  await using engine = onnxEngine({ threads: 1 })
  for (const [precision, wanted] of [['f32', [1.0004, 3.3333].map(Math.fround)], ['f16', [1, 3.333984375]], ['bf16', [1, 3.328125]]] as const) {
    await using program = await engine.compile({
      name: 'rounded', inputs: { x: { type: 'float32', shape: ['M', 2] } }, weights: new Map(), precision,
      build: (ops, value) => ({ y: ops.matmul(value('x'), ops.constant([1, 0, 0, 1], [2, 2])), z: ops.scale(value('x'), 2) }),
    })
    const { y, z } = await program.run({ x: { type: 'float32', shape: [1, 2], data: Float32Array.of(1.0004, 3.3333) } })
    assert.deepEqual([...y.data], wanted, precision)
    assert.deepEqual([...z.data], [1.0004, 3.3333].map((x) => 2 * Math.fround(x)))
  }
})

test('weights in place stay in their file, and give the same products', { skip: process.platform === 'linux' ? false : 'memory is read from /proc' }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-onnx-'))
  try {
    const [width, path] = [4096, join(folder, 'weights')]
    const bytes = width * width * 4 // 64 MiB
    writeFileSync(path, new Uint8Array(Float32Array.from({ length: width * width }, (_, i) => i % 5).buffer))
    const weights = new Map([['w', { name: 'w', dtype: 'F32', shape: [width, width], path, offset: 0, length: bytes }]])
    const spec: ProgramSpec = {
      name: 'products', inputs: { x: { type: 'float32', shape: ['M', width] } }, weights,
      build: (ops, value, weight) => ({ y: ops.matmul(value('x'), weight('w')), z: ops.matmul(value('x'), weight('w'), { transB: true }) }),
    }
    const anonymousBytes = (): number => 1024 * Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
    const inputs = (): Readonly<Record<string, TensorData>> => ({ x: { type: 'float32', shape: [2, width], data: Float32Array.from({ length: 2 * width }, (_, i) => i % 3) } })
    await using engine = onnxEngine({ threads: 1 })
    const before = anonymousBytes()
    await using inPlace = await engine.compile({ ...spec, weightsInPlace: true })
    const found = await inPlace.run(inputs())
    const grown = anonymousBytes() - before
    assert.ok(grown < bytes / 2, `${Math.round(grown / 2 ** 20)} MiB more in memory`)
    await using packed = await engine.compile(spec)
    assert.deepEqual(found, await packed.run(inputs())) // of integers: exact in any order
  } finally {
    rmSync(folder, { recursive: true })
  }
})
