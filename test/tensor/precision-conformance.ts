/**
 * @file What every engine that has products of 16 bits must do with them: no more error than rounding makes, whatever sizes
 * queries and gradients have, and the same tables but for near ties. Everything that is no product is held by conformance.ts.
 */
import assert from 'node:assert/strict'
import { after, before, test as run } from 'node:test'
import { batchGradients, batchTensors, joins, scaledQueries, scoreProgram, type JoinKind } from '../../src/influence/index.js'
import { sequenceInputs } from '../../src/influence/batch.js'
import { openModel, type Checkpoint } from '../../src/model/index.js'
import type { Engine, Ops, Precision, ProgramSpec, TensorData } from '../../src/tensor/index.js'
import { runPlain } from '../influence/plain-program.js'
import { fixture, plainWeights } from '../model/checkpoints.js'
import { readReference } from '../references/read.js'
import { dice, randomTensor, relativeError } from './tensors.js'

export interface PreciseEngine {
  readonly open: () => Engine
  readonly precision: Exclude<Precision, 'f32'>
  readonly skip?: string | false
}

/** Half of the last digit: 11 and 8 bits. */
const roundoff: Readonly<Record<PreciseEngine['precision'], number>> = { f16: 2 ** -11, bf16: 2 ** -8 }

export const precisionConformance = (name: string, { open, precision, skip = false }: PreciseEngine): void => {
  const test = (what: string, body: () => Promise<void>): void => void run(`${name}, ${precision}: ${what}`, { skip }, body)
  const ulp = roundoff[precision]
  let engine: Engine
  before(() => {
    if (skip === false) engine = open()
  })
  after(async () => {
    if (skip === false) await engine[Symbol.asyncDispose]()
  })

  test('products round what they take and what they give, and nothing else does', async () => {
    const K = 64
    const spec: ProgramSpec = {
      name: 'products', weights: new Map(), precision,
      inputs: { x: { type: 'float32', shape: ['M', K] }, y: { type: 'float32', shape: [K, K], fixed: true, operand: true }, z: { type: 'float32', shape: [K], fixed: true } },
      build: <T>(ops: Ops<T>, value: (input: string) => T) => {
        const xy = ops.matmul(value('x'), value('y'))
        return {
          plain: xy, transposed: ops.matmul(value('y'), value('x'), { transA: true, transB: true, alpha: 0.5 }), again: ops.matmul(xy, value('y'), { transB: true }),
          sum: ops.add(value('x'), value('z')), softmax: ops.softmax(value('x')), squares: ops.sumSquares(value('x'), { axes: [-1] }),
        }
      },
    }
    const inputs = (): Readonly<Record<string, TensorData>> => ({ x: floats([5, K], 1), y: floats([K, K], 2), z: floats([K], 3) })
    const wanted = runPlain(spec, inputs())
    await using program = await engine.compile(spec)
    const { x, ...fixed } = inputs()
    await program.bind(fixed)
    const found = await program.run({ x })
    for (const output of ['plain', 'transposed', 'again']) {
      const error = relativeError(numbers(found[output]), wanted[output].data)
      assert.ok(error > 0.1 * ulp && error < 4 * ulp, `${output}: ${error}`)
    }
    for (const output of ['sum', 'softmax', 'squares']) assert.ok(relativeError(numbers(found[output]), wanted[output].data) < 1e-6, output)
  })

  for (const [model, folder] of [['gpt2', readReference('gpt2').modelDir], ['llama', readReference('llama').modelDir], ['qwen3', fixture('qwen3')], ['stored in f16', fixture('gpt2-bare-f16')], ['stored in bf16', fixture('llama-tied-stored-bf16')]] as const)
    test(`losses and per-document gradients of ${model}`, async () => {
      const checkpoint = await openModel(folder)
      const spec: ProgramSpec = { ...gradientProgram(checkpoint), precision }
      const inputs = (): Readonly<Record<string, TensorData>> => sequences(checkpoint, [9, 5])
      const wanted = runPlain(spec, inputs(), { weights: await plainWeights(checkpoint) })
      await using program = await engine.compile(spec)
      const found = await program.run(inputs())
      for (const [output, { data }] of Object.entries(wanted)) {
        const error = relativeError(numbers(found[output]), data)
        assert.ok(error < 40 * ulp, `${output}: relative error ${error.toExponential(1)}`)
      }
    })

  // 1e-9 and 1e9: queries as they are with much damping and with none.
  for (const kind of Object.keys(joins) as JoinKind[])
    for (const size of [1e-9, 1, 1e9])
      test(`scores of the ${kind} join, queries of size ${size}`, async () => {
        const checkpoint = await openModel(readReference('llama').modelDir)
        const { model, tensors } = checkpoint
        const shape = { queries: 3, rank: 4 }
        const queries = (): Record<string, TensorData> =>
          Object.fromEntries(model.layers.flatMap((layer, l) => Object.entries(joins[kind].inputs(layer, shape)).map(([input, { shape: dimensions }], i) => [input, floats(dimensions.map(Number), 10 * l + i, i === 0 ? size : 1)])))
        const exact = scoreProgram(model, tensors, model.layers, kind, shape)
        await using program = await engine.compile(scoreProgram(model, tensors, model.layers, kind, shape, { precision }))
        await program.bind(scaledQueries(kind, model.layers, shape, queries()))
        const weights = await plainWeights(checkpoint)
        const inputs = (): Readonly<Record<string, TensorData>> => sequences(checkpoint, [12, 12, 7, 12], 20)
        const wanted = runPlain(exact, { ...queries(), ...inputs() }, { weights })
        const found = await program.run(inputs())
        for (const output of ['loss', 'squares', 'scores']) {
          const error = relativeError(numbers(found[output]), wanted[output].data)
          assert.ok(error < 40 * ulp, `${output}: relative error ${error.toExponential(1)}`)
        }
        assert.ok(relativeError(numbers(found.scores), wanted.scores.data) > 0.01 * ulp, 'it did round')
      })
}

const gradientProgram = ({ model, tensors }: Checkpoint): ProgramSpec => ({
  name: 'gradients', inputs: sequenceInputs, weights: tensors,
  build: (ops, value, weight) => {
    const { loss, layers } = batchGradients(ops, model, model.layers, value, weight)
    return { loss, ...Object.fromEntries(layers.map(({ layer, delta, input }) => [layer.name, ops.matmul(delta, input, { transA: true })])) }
  },
})

const sequences = ({ model }: Checkpoint, lengths: readonly number[], seed = 5): Readonly<Record<string, TensorData>> => {
  const below = dice(seed)
  const { tokens, rows, labels } = batchTensors(lengths.map((length) => ({ tokens: Array.from({ length }, () => below(model.vocabulary)) })))
  return { tokens, rows, labels }
}

const floats = (shape: readonly number[], seed: number, size = 1): TensorData => ({ type: 'float32', shape, data: Float32Array.from(randomTensor(shape, seed).data, (x) => size * x) })
const numbers = ({ data }: TensorData): Float64Array => Float64Array.from(data as ArrayLike<number | bigint>, Number)
