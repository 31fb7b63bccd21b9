/** @file The ONNX engine: what every engine must do, and what is its own. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { onnxEngine } from '../../src/tensor/index.js'
import { engineConformance } from './conformance.js'
import { modelConformance } from './model-conformance.js'

engineConformance('onnx', {
  open: ({ attention, head }) => onnxEngine({ threads: 1, attentionBlocks: attention, headBlocks: head }),
  tolerance: 3e-6,
})

modelConformance('onnx', { open: () => onnxEngine({ threads: 1 }), tolerance: 1e-4 })

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
