/**
 * @file What every engine must do with whole programs: losses and gradients of every architecture and scores of every
 * join as in float64, the same tables; derivatives as slopes; numbers that are none; memory that comes back.
 */
import assert from 'node:assert/strict'
import { after, before, test as run } from 'node:test'
import { batchGradients, batchTensors, joins, scoreProgram, type JoinKind } from '../../src/influence/index.js'
import { sequenceInputs } from '../../src/influence/batch.js'
import { openModel, type Checkpoint } from '../../src/model/index.js'
import { plainOps } from '../../src/tensor/engines/plain.js'
import { NotFiniteError, tape, type Engine, type Ops, type ProgramSpec, type TensorData } from '../../src/tensor/index.js'
import { runPlain } from '../influence/plain-program.js'
import { fixture, plainWeights } from '../model/checkpoints.js'
import { readReference } from '../references/read.js'
import { assertNear, dice, randomTensor, relativeError, sizeOf } from './tensors.js'

export interface ModelEngine {
  readonly open: () => Engine
  /** ‖found − float64‖ / ‖float64‖ of a layer's gradients, of losses and of scores at most. */
  readonly tolerance: number
  readonly skip?: string | false
}

/** Every architecture, and weights of 16 bits, in shards, and stored both ways round. */
const checkpoints: readonly (readonly [name: string, folder: () => string])[] = [
  ...(['gpt2', 'llama', 'mistral', 'qwen2'] as const).map((name) => [name, () => readReference(name).modelDir] as const),
  ...['cohere', 'cohere2', 'gemma2', 'gemma3', 'gpt-neox', 'mixtral', 'olmo2', 'phi3', 'qwen3', 'qwen3-moe', 'gpt2-bare-f16', 'llama-tied-stored-bf16', 'llama-gqa-sharded'].map(
    (name) => [name, () => fixture(name)] as const,
  ),
]

export const modelConformance = (name: string, { open, tolerance, skip = false }: ModelEngine): void => {
  const test = (what: string, body: () => Promise<void>): void => void run(`${name}: ${what}`, { skip }, body)
  let engine: Engine
  before(() => {
    if (skip === false) engine = open()
  })
  after(async () => {
    if (skip === false) await engine[Symbol.asyncDispose]()
  })

  for (const [model, folder] of checkpoints)
    test(`losses and per-document gradients of ${model}`, async () => {
      const checkpoint = await openModel(folder())
      const spec = gradientProgram(checkpoint)
      const inputs = (): Readonly<Record<string, TensorData>> => sequences(checkpoint, [9, 5])
      const wanted = runPlain(spec, inputs(), { weights: await plainWeights(checkpoint) })
      await using program = await engine.compile(spec)
      const found = await program.run(inputs())
      assertNear(numbers(found.loss), wanted.loss.data, tolerance, 'losses')
      // An expert that reads no token has nothing but rounding for a gradient.
      const largest = Math.max(...Object.values(wanted).map(({ data }) => Math.hypot(...data)))
      for (const [output, { data, shape }] of Object.entries(wanted)) {
        assert.deepEqual(found[output].shape, shape, output)
        const error = relativeError(numbers(found[output]), data) * Math.hypot(...data) / Math.max(Math.hypot(...data), 1e-3 * largest)
        assert.ok(Math.hypot(...data) === 0 || error <= tolerance, `${output}: relative error ${error.toExponential(1)}, ${tolerance} allowed`)
      }
    })

  for (const kind of Object.keys(joins) as JoinKind[])
    test(`scores of the ${kind} join, and the tables they make`, async () => {
      const checkpoint = await openModel(readReference('llama').modelDir)
      const { model, tensors } = checkpoint
      const shape = { queries: 3, rank: 4 }
      const spec = scoreProgram(model, tensors, model.layers, kind, shape)
      const bound = (): Readonly<Record<string, TensorData>> =>
        Object.fromEntries(model.layers.flatMap((layer, l) => Object.entries(joins[kind].inputs(layer, shape)).map(([input, { shape: dimensions }], i) => [input, floats(dimensions.map(Number), 10 * l + i)])))
      const weights = await plainWeights(checkpoint)
      await using program = await engine.compile(spec)
      await program.bind(bound())
      const wanted: number[][] = []
      const found: number[][] = []
      for (let batch = 0; batch < 6; batch++) {
        const inputs = (): Readonly<Record<string, TensorData>> => sequences(checkpoint, [12, 12, 7 + batch, 12], 20 + batch)
        const exact = runPlain(spec, { ...bound(), ...inputs() }, { weights })
        const outputs = await program.run(inputs())
        for (const output of ['loss', 'squares', 'scores']) assertNear(numbers(outputs[output]), exact[output].data, tolerance, output)
        for (let b = 0; b < 4; b++) {
          wanted.push([...exact.scores.data.subarray(3 * b, 3 * b + 3)])
          found.push([...numbers(outputs.scores).subarray(3 * b, 3 * b + 3)])
        }
      }
      const table = (scores: readonly (readonly number[])[], q: number): readonly number[] => [...scores.keys()].sort((i, j) => scores[j][q] - scores[i][q]).slice(0, 10)
      for (let q = 0; q < 3; q++) assert.deepEqual(table(found, q), table(wanted, q), `table of query ${q}`)
    })

  test('a gradient is the slope of its function, over random shapes and directions', async () => {
    const below = dice(11)
    for (let round = 0; round < 4; round++)
      for (const { what, shape, of } of slopes(below)) {
        const [x, direction] = [randomTensor(shape, 100 + round), randomTensor(shape, 200 + round)]
        const step = 1e-5
        const valueAt = (h: number): number => {
          const y = of(plainOps(), { shape, data: x.data.map((a, i) => a + h * direction.data[i]) })
          return y.data.reduce((sum, a, i) => sum + a * Math.sin(i + 1), 0)
        }
        const slope = (valueAt(step) - valueAt(-step)) / (2 * step)
        const outShape = of(plainOps(), x).shape
        const seedData = Float32Array.from({ length: sizeOf(outShape) }, (_, i) => Math.sin(i + 1))
        await using program = await engine.compile({
          name: what, weights: new Map(),
          inputs: { x: { type: 'float32', shape: shape.map((_, axis) => `${axis}`) }, seed: { type: 'float32', shape: outShape.map((_, axis) => `s${axis}`) } },
          build: <T>(ops: Ops<T>, value: (name: string) => T) => {
            const { ops: taped, constant, watch, gradients } = tape(ops)
            const at = watch(constant(value('x')))
            return { gradient: gradients(of(taped, at), value('seed'), [at])[0] }
          },
        })
        const { gradient } = await program.run({ x: { type: 'float32', shape, data: Float32Array.from(x.data) }, seed: { type: 'float32', shape: outShape, data: seedData } })
        const along = numbers(gradient).reduce((sum, g, i) => sum + g * direction.data[i], 0)
        const size = Math.hypot(...numbers(gradient)) * Math.hypot(...direction.data)
        assert.ok(Math.abs(along - slope) <= 1e-4 * size, `${what} of [${shape.join(', ')}]: ${along} along a direction, ${slope} by differences`)
      }
  })

  test('NaN and infinity stay in their row, and never get into a sum', async () => {
    await using program = await engine.compile({
      name: 'odd numbers', inputs: { x: { type: 'float32', shape: ['B', 3] } }, weights: new Map(), accumulate: { total: [3] },
      build: (ops, value) => ({
        total: ops.sum(value('x'), { axes: [0] }), exp: ops.exp(value('x')), softmax: ops.softmax(value('x')), norm: ops.rmsNorm(value('x'), ops.constant([1, 1, 1], [3]), { epsilon: 1e-5 }),
        product: ops.matmul(value('x'), ops.constant([1, 0, 0, 0, 1, 0, 0, 0, 1], [3, 3])),
      }),
    })
    const rows = (...data: number[]): Readonly<Record<string, TensorData>> => ({ x: { type: 'float32', shape: [data.length / 3, 3], data: Float32Array.from(data) } })
    const good = await program.run(rows(1, 2, 3))
    assert.deepEqual([...program.sums.total], [1, 2, 3])
    for (const bad of [NaN, Infinity, -Infinity, 3e38]) {
      const both = bad === 3e38 ? rows(1, 2, 3, bad, 1, 1, bad, 1, 1) : rows(1, 2, 3, bad, 1, 1)
      await assert.rejects(program.run(both), (error) => error instanceof NotFiniteError && /odd numbers.*total/.test(error.message))
      assert.deepEqual([...program.sums.total], [1, 2, 3], 'as they were')
    }
    const outputs = await program.run(rows(1, 2, 3, 100, 1, 1))
    assert.equal(numbers(outputs.exp)[3], Infinity, 'overflow of float32')
    for (const output of ['softmax', 'norm', 'product']) assert.deepEqual([...numbers(outputs[output])].slice(0, 3).map(Math.fround), [...numbers(good[output])], `${output}: the row beside`)

    await using alone = await engine.compile({
      name: 'rows', inputs: { x: { type: 'float32', shape: ['B', 3] } }, weights: new Map(),
      build: (ops, value) => ({ softmax: ops.softmax(value('x')), losses: ops.logSumExp(value('x')), norm: ops.rmsNorm(value('x'), ops.constant([1, 1, 1], [3]), { epsilon: 1e-5 }) }),
    })
    const seen = await alone.run(rows(1, 2, 3, NaN, 1, 1))
    for (const [output, width] of [['softmax', 3], ['losses', 1], ['norm', 3]] as const) {
      const values = [...numbers(seen[output])]
      assert.ok(values.slice(0, width).every(Number.isFinite), `${output}: the row beside is untouched: ${values.join(', ')}`)
      assert.ok(values.slice(width).some(Number.isNaN), `${output}: NaN is seen: ${values.join(', ')}`)
    }
  })

  test('memory comes back: a thousand batches take no more than a hundred', async () => {
    const numbersMade = 1 << 17
    await using program = await engine.compile({
      name: 'memory', inputs: { x: { type: 'float32', shape: ['N'] } }, weights: new Map(),
      build: (ops, value) => ({ y: ops.slice(ops.add(ops.scale(value('x'), 2), ops.scale(value('x'), 3)), { axis: 0, from: 0, to: 8 }) }),
    })
    const batches = async (count: number): Promise<number> => {
      for (let i = 0; i < count; i++) await program.run({ x: { type: 'float32', shape: [numbersMade], data: new Float32Array(numbersMade).fill(1) } })
      return process.memoryUsage.rss()
    }
    const before = await batches(100)
    const grown = (await batches(900)) - before
    // One tensor that is kept is 900 × 0.5 MiB.
    assert.ok(grown < 225 * 2 ** 20, `${Math.round(grown / 2 ** 20)} MiB more after 900 batches`)
  })
}

/** Losses [B] and each document's gradient of every layer, [B, O, I']. */
const gradientProgram = ({ model, tensors }: Checkpoint): ProgramSpec => ({
  name: 'gradients', inputs: sequenceInputs, weights: tensors,
  build: (ops, value, weight) => {
    const { loss, layers } = batchGradients(ops, model, model.layers, value, weight)
    return { loss, ...Object.fromEntries(layers.map(({ layer, delta, input }) => [layer.name, ops.matmul(delta, input, { transA: true })])) }
  },
})

/** A batch of random documents of these lengths, padded to the longest. */
const sequences = ({ model }: Checkpoint, lengths: readonly number[], seed = 5): Readonly<Record<string, TensorData>> => {
  const below = dice(seed)
  const { tokens, rows, labels } = batchTensors(lengths.map((length) => ({ tokens: Array.from({ length }, () => below(model.vocabulary)) })))
  return { tokens, rows, labels }
}

const floats = (shape: readonly number[], seed: number): TensorData => ({ type: 'float32', shape, data: Float32Array.from(randomTensor(shape, seed).data) })
const numbers = ({ data }: TensorData): Float64Array => Float64Array.from(data as ArrayLike<number | bigint>, Number)

/** Functions of one tensor that keep clear of where they have no slope. */
const slopes = (below: (n: number) => number): readonly { readonly what: string; readonly shape: readonly number[]; readonly of: <T>(ops: Ops<T>, x: T) => T }[] => {
  const [B, T, D] = [1 + below(3), 4 + below(6), 2 * (1 + below(4))]
  const gamma = Array.from({ length: D }, (_, i) => 1 + i / D)
  return [
    { what: 'exp, tanh, sigmoid and erf', shape: [B, D], of: (ops, x) => ops.add(ops.mul(ops.exp(ops.scale(x, 0.3)), ops.tanh(x)), ops.mul(ops.sigmoid(x), ops.erf(x))) },
    { what: 'gelu, geluTanh and silu', shape: [B, T, D], of: (ops, x) => ops.add(ops.gelu(x), ops.mul(ops.geluTanh(x), ops.silu(x))) },
    { what: 'layerNorm', shape: [B, T, D], of: (ops, x) => ops.layerNorm(x, ops.constant(gamma, [D]), ops.constant(gamma, [D]), { epsilon: 0.1 }) },
    { what: 'rmsNorm', shape: [B, D], of: (ops, x) => ops.rmsNorm(x, ops.constant(gamma, [D]), { epsilon: 0.1 }) },
    { what: 'softmax and logSumExp', shape: [B, D + 1], of: (ops, x) => ops.concat([ops.softmax(x), ops.logSumExp(x)], -1) },
    { what: 'attention with itself', shape: [B, T, 2, D], of: (ops, x) => ops.attention(x, x, x, { heads: 2, headsKv: 2, headDim: D, scale: 0.5 }) },
    { what: 'losses', shape: [T, D], of: (ops, x) => ops.tokenLosses(x, ops.constant(randomTensor([7, D], 3).data, [7, D]), ops.constant(Array.from({ length: T }, (_, t) => t % 7), [T], 'int')) },
  ]
}
