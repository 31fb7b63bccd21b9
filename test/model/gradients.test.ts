/** @file Gradients of each architecture's linear layers against PyTorch's, in float64 and on the default engine. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { batchGradients, batchTensors, covarianceOf, covarianceProgram, covarianceShapes, inputWidth } from '../../src/influence/index.js'
import { sequenceInputs } from '../../src/influence/batch.js'
import { openModel, readSafetensors, readTensorExact, type LinearLayer, type Model } from '../../src/model/index.js'
import { onnxEngine, type ProgramSpec } from '../../src/tensor/index.js'
import { runPlain } from '../influence/plain-program.js'
import { assertNear } from '../tensor/tensors.js'
import { expected, fixture, plainWeights } from './checkpoints.js'

/** Each sequence's gradients of all layers, G/<layer> [B, O, I'], and what the experts' layers read, I/<layer> [B, T, I], and where, N/<layer> [B, T, 1]. */
const gradientProgram = (model: Model, weights: ProgramSpec['weights']): ProgramSpec => ({
  name: 'gradients', inputs: sequenceInputs, weights,
  build: (ops, value, weight) => {
    const { loss, layers } = batchGradients(ops, model, model.layers, value, weight)
    const outputs = layers.flatMap(({ layer, delta, input, seen }) => [
      [`G/${layer.name}`, ops.matmul(delta, input, { transA: true })] as const, ...(seen === undefined ? [] : [[`N/${layer.name}`, seen] as const, [`I/${layer.name}`, input] as const]),
    ])
    return { loss, ...Object.fromEntries(outputs) }
  },
})

const sizeOf = (layer: LinearLayer): number => layer.outputs * inputWidth(layer)
const inputsOf = (sequences: readonly (readonly number[])[]) => {
  const { tokens, rows, labels } = batchTensors(sequences.map((ids) => ({ tokens: ids })))
  return { tokens, rows, labels }
}

const names = readdirSync(fixture('.')).filter((name) => existsSync(join(fixture(name), 'gradients.safetensors'))).sort()

test('there are gradients of every architecture that has none in test/references', () => {
  const architectures = new Set(names.map((name) => name.replace(/-.*/, '')))
  assert.deepEqual([...architectures], ['cohere', 'cohere2', 'gemma2', 'gemma3', 'gpt', 'mixtral', 'olmo2', 'phi3', 'qwen3'])
})

for (const name of names)
  test(`${name}: the gradient of every linear layer is PyTorch's, in float64 and on ONNX, in one batch with padding`, async (t) => {
    const checkpoint = await openModel(fixture(name))
    const { model, tensors } = checkpoint
    const [long, short] = await expected(name)
    const wanted = await readSafetensors(join(fixture(name), 'gradients.safetensors'))
    assert.deepEqual(model.layers.map((layer) => layer.name).sort(), [...wanted.keys()].sort())
    const spec = gradientProgram(model, tensors)
    await using engine = onnxEngine({ threads: 1 })
    await using program = await engine.compile(spec)
    const runs = [
      { outputs: runPlain(spec, inputsOf([long.ids, short.ids]), { weights: await plainWeights(checkpoint) }), tolerance: 1e-5 }, // transformers rounds norms and routers to float32
      { outputs: await program.run(inputsOf([long.ids, short.ids])), tolerance: 1e-4 },
    ]
    for (const { outputs, tolerance } of runs) {
      assertNear(Array.from(outputs.loss.data, Number), [long.loss, short.loss], tolerance / 10, 'losses')
      let worst = 0
      for (const layer of model.layers) {
        const all = Float64Array.from(outputs[`G/${layer.name}`].data, Number)
        const info = wanted.get(layer.name) ?? assert.fail()
        assert.deepEqual(info.shape, [layer.outputs, inputWidth(layer)])
        const reference = await readTensorExact(info)
        const own = all.subarray(sizeOf(layer))
        const squares = [all.subarray(0, sizeOf(layer)), own].map((g) => g.reduce((sum, x) => sum + x * x, 0))
        const norms = [long, short].map(({ squaredNorms = {} }) => squaredNorms[layer.name])
        // Nothing but rounding: an expert that reads no token, the router where one expert takes all.
        const isNothing = norms.map((square) => square < 1e-10)
        if (!isNothing[1]) assertNear(own, reference, tolerance, layer.name)
        squares.forEach((square, i) => (worst = Math.max(worst, isNothing[i] ? square * 1e4 : Math.abs(square / norms[i] - 1))))
      }
      t.diagnostic(`squared norms off by ${worst.toExponential(1)}, ${tolerance} allowed`)
      assert.ok(worst < 2 * tolerance, `squared norms are off by ${worst}`)
    }
  })

for (const name of ['mixtral', 'mixtral-one', 'qwen3-moe'])
  test(`${name}: an expert's means are over the tokens that are routed to it, and each token is routed to as many as there should be`, async () => {
    const checkpoint = await openModel(fixture(name))
    const { model, tensors } = checkpoint
    const weights = await plainWeights(checkpoint)
    const sequences = (await expected(name)).map(({ ids }) => ids)
    const real = batchTensors(sequences.map((ids) => ({ tokens: ids }))).real
    const inputs = inputsOf(sequences)
    const at = Array.from(real.data, Number)
    const seen = runPlain(gradientProgram(model, tensors), inputs, { weights })
    const covariances = covarianceProgram(model, tensors, model.layers, { empirical: true })
    const outputs = runPlain(covariances, { ...inputs, real }, { weights })
    const sums = Object.fromEntries(Object.entries(outputs).map(([key, { data }]) => [key, Float64Array.from(data, Number)]))
    const experts = model.layers.filter(({ routed }) => routed === true)
    assert.ok(experts.length > 0)
    let routed = 0
    for (const layer of experts) {
      const reads = at.filter((row) => Number(seen[`N/${layer.name}`].data[row]) === 1)
      const input = seen[`I/${layer.name}`].data
      for (const row of at)
        assert.equal(input.subarray(row * layer.inputs, (row + 1) * layer.inputs).some((x) => Number(x) !== 0), reads.includes(row), `${layer.name}, token ${row}`)
      if (layer.name.endsWith('w2') || layer.name.endsWith('down_proj')) routed += reads.length
      const shape = covarianceShapes([layer]).find((known) => known.name.startsWith('S/')) ?? assert.fail()
      const S = covarianceOf(sums, shape, at.length)
      const trace = (matrix: Float64Array, width: number): number => Array.from({ length: width }, (_, i) => matrix[i * width + i]).reduce((a, b) => a + b, 0)
      const whole = covarianceOf(sums, { name: shape.name, width: shape.width }, at.length)
      if (reads.length > 0) assertNear([trace(S, shape.width) * reads.length], [trace(whole, shape.width) * at.length], 1e-12, layer.name)
      assert.equal(sums[shape.count ?? assert.fail()][0], reads.length, layer.name)
    }
    const mixtures = model.layers.filter((layer) => /\.gate$/.test(layer.name)).length
    const perToken = Number(checkpoint.config.num_experts_per_tok)
    assert.equal(routed, mixtures * perToken * at.length)
  })
