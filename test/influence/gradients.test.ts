/** @file Gradients of documents and queries against PyTorch: in float64 and on the default engine, alone and in any batch. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  batchGradients, batchTensors, covarianceOf, covarianceProgram, covarianceShapes, inputName, inputWidth, queryGradient, queryProgram, scoreBatch, scoreProgram,
  type BatchScores, type Sequence,
} from '../../src/influence/index.js'
import { sequenceInputs } from '../../src/influence/batch.js'
import { openModel, type LinearLayer, type Model } from '../../src/model/index.js'
import { plainOps } from '../../src/tensor/engines/plain.js'
import { onnxEngine, type ProgramSpec } from '../../src/tensor/index.js'
import { plainWeights } from '../model/checkpoints.js'
import { readReference, referenceNames } from '../references/read.js'
import { assertNear, dice, randomTensor } from '../tensor/tensors.js'
import { runPlain } from './plain-program.js'

/** Each document's losses and gradients of all layers, G/<layer> [B, O, I']. */
const gradientProgram = (model: Model, weights: ProgramSpec['weights']): ProgramSpec => ({
  name: 'gradients', inputs: sequenceInputs, weights,
  build: (ops, value, weight) => {
    const { loss, layers } = batchGradients(ops, model, model.layers, value, weight)
    return { loss, ...Object.fromEntries(layers.map(({ layer, delta, input }) => [`G/${layer.name}`, ops.matmul(delta, input, { transA: true })])) }
  },
})

const inputsOf = (sequences: readonly Sequence[]) => {
  const { tokens, rows, labels } = batchTensors(sequences)
  return { tokens, rows, labels }
}
const sizeOf = (layer: LinearLayer): number => layer.outputs * inputWidth(layer)

for (const name of referenceNames) {
  const reference = readReference(name)
  const documents = reference.documents.map((tokens) => ({ tokens }))
  const layerAt = (layer: LinearLayer): number => reference.layers.findIndex((known) => known.name === layer.name)
  const queries = reference.queries.map(({ prompt, completion }) => ({ tokens: [...prompt, ...completion], promptTokens: prompt.length }))

  // Tables of rotary positions are float32, as in transformers; the references have them in float64.
  const exactly = name === 'gpt2' || name === 'micro' ? 1e-9 : 1e-6

  test(`${name}: losses, gradients, their norms and covariances are PyTorch's, in float64 to ${exactly} and on ONNX to 1e-4`, async () => {
    const checkpoint = await openModel(reference.modelDir)
    const { model, tensors } = checkpoint
    const weights = await plainWeights(checkpoint)
    const spec = gradientProgram(model, tensors)
    await using engine = onnxEngine({ threads: 1 })
    await using program = await engine.compile(spec)
    assert.deepEqual(model.layers.map((layer) => layer.name).sort(), reference.layers.map((layer) => layer.name).sort())

    // All documents as one batch: up to 38 positions of padding.
    const inWhole = inputsOf(documents)
    const runs = [{ outputs: runPlain(spec, inWhole, { weights }), tolerance: exactly }, { outputs: await program.run(inputsOf(documents)), tolerance: 1e-4 }]
    for (const { outputs, tolerance } of runs) {
      assertNear(outputs.loss.data as Float64Array, reference.tensor('losses').data, tolerance / 10, 'losses')
      for (const layer of model.layers) {
        const all = outputs[`G/${layer.name}`].data as Float64Array
        const size = sizeOf(layer)
        for (const n of [0, 1, 2]) assertNear(all.subarray(n * size, (n + 1) * size), reference.tensor(`gradient.document.${n}.${layer.name}`).data, tolerance, `document ${n}, ${layer.name}`)
        const squares = documents.map((_, n) => all.subarray(n * size, (n + 1) * size).reduce((sum, g) => sum + g * g, 0))
        const N = documents.length
        assertNear(squares, reference.tensor('squaredNorms').data.subarray(layerAt(layer) * N, (layerAt(layer) + 1) * N), tolerance, `squared norms, ${layer.name}`)
      }
    }

    const covariances = covarianceProgram(model, tensors, model.layers, { empirical: true })
    const { real } = batchTensors(documents)
    const sums = runPlain(covariances, { ...inWhole, real }, { weights })
    await using accumulating = await engine.compile(covariances)
    for (const part of [documents.slice(0, 5), documents.slice(5, 6), documents.slice(6)]) await accumulating.run({ ...inputsOf(part), real: batchTensors(part).real })
    for (const { from, tolerance } of [{ from: Object.fromEntries(Object.entries(sums).map(([key, { data }]) => [key, data])), tolerance: exactly }, { from: accumulating.sums, tolerance: 1e-4 }]) {
      const tokens = reference.documents.flat().length
      for (const shape of covarianceShapes(model.layers)) {
        const found = covarianceOf(from, shape, tokens)
        const [kind, owner] = [shape.name[0], shape.name.slice(2)]
        for (const layer of model.layers) {
          if (owner === (kind === 'A' ? inputName(layer) : layer.name)) assertNear(found, reference.tensor(`${kind}.${layer.name}`).data, tolerance, `${kind} of ${layer.name}`)
        }
      }
    }
  })

  test(`${name}: gradients of queries are PyTorch's; the prompt's positions keep theirs`, async () => {
    const checkpoint = await openModel(reference.modelDir)
    const { model, tensors } = checkpoint
    const weights = await plainWeights(checkpoint)
    const spec = queryProgram(model, tensors, model.layers)
    await using engine = onnxEngine({ threads: 1 })
    await using program = await engine.compile(spec)
    for (const [q, query] of queries.entries()) {
      const inputs = inputsOf([{ tokens: query.tokens, lossFrom: query.promptTokens }])
      const exact = runPlain(spec, inputs, { weights })
      const found = await queryGradient(program, model.layers, query)
      const measurement = reference.tensor('measurements').data[q]
      assertNear(exact.loss.data, [-measurement], exactly / 10, 'information')
      assertNear([found.informationNats], [-measurement], 1e-5, 'information')
      for (const layer of model.layers) {
        if (q > 1) continue
        const [O, I] = [layer.outputs, inputWidth(layer)]
        const wanted = reference.tensor(`gradient.query.${q}.${layer.name}`).data.map((g) => -g) // ∇f = −∇(loss)
        const gradient = (T: number, delta: ArrayLike<number>, input: ArrayLike<number>): Float64Array => {
          const sum = new Float64Array(O * I)
          for (let t = 0; t < T; t++) for (let o = 0; o < O; o++) for (let i = 0; i < I; i++) sum[o * I + i] += delta[t * O + o] * input[t * I + i]
          return sum
        }
        const T = inputs.tokens.shape[1]
        assertNear(gradient(T, exact[`D/${layer.name}`].data, exact[`A/${inputName(layer)}`].data), wanted, exactly, `query ${q}, ${layer.name}`)
        const own = found.layers.get(layer.name) ?? assert.fail()
        assertNear(gradient(own.tokens, own.delta, own.input), wanted, 1e-4, `query ${q}, ${layer.name}, on ONNX`)
      }
    }
  })

  test(`${name}: a document's loss, norm and scores are the same alone and among longer ones, to rounding`, async () => {
    const { model, tensors } = await openModel(reference.modelDir)
    await using engine = onnxEngine({ threads: 1 })
    const Q = 3
    await using program = await engine.compile(scoreProgram(model, tensors, model.layers, 'dense', { queries: Q, rank: 0 }))
    await program.bind(Object.fromEntries(model.layers.map((layer, l) => [
      `Q/${layer.name}`, { type: 'float32', shape: [Q, sizeOf(layer)], data: Float32Array.from(randomTensor([Q, sizeOf(layer)], l).data) },
    ])))
    const alone: BatchScores[] = []
    for (const document of documents) alone.push(await scoreBatch(program, [document], { lengthMax: model.positionsMax }))
    const below = dice(5)
    for (let round = 0; round < 12; round++) {
      const members = Array.from({ length: 1 + below(6) }, () => below(documents.length))
      const { losses, gradientNorms, influence } = await scoreBatch(program, members.map((n) => documents[n]), { lengthMax: model.positionsMax })
      members.forEach((n, b) => {
        const what = `document ${n} among ${members}`
        assertNear([losses[b], gradientNorms[b]], [alone[n].losses[0], alone[n].gradientNorms[0]], 2e-6, what)
        // Relative to what the scores are sums of: they may cancel.
        const scale = alone[n].gradientNorms[0] * 50
        influence[b].forEach((score, q) => assert.ok(Math.abs(score - alone[n].influence[0][q]) < 2e-6 * scale, `${what}: ${score} instead of ${alone[n].influence[0][q]}`))
      })
    }
  })
}

test('in float64 a document is the same in any batch to 1e-12, and padding carries no gradient', async () => {
  const reference = readReference('mistral')
  const checkpoint = await openModel(reference.modelDir)
  const { model } = checkpoint
  const weights = await plainWeights(checkpoint)
  const gradients = (documents: readonly (readonly number[])[]) => {
    const tensors = inputsOf(documents.map((tokens) => ({ tokens })))
    return runPlain({
      name: 'deltas', inputs: sequenceInputs, weights: new Map(),
      build: (ops, value, weight) => {
        const { loss, layers } = batchGradients(ops, model, model.layers, value, weight)
        return { loss, ...Object.fromEntries(layers.flatMap(({ layer, delta, input }) => [[`D/${layer.name}`, delta], [`G/${layer.name}`, ops.matmul(delta, input, { transA: true })]])) }
      },
    }, tensors, { weights, ops: plainOps() })
  }
  const [short, long] = [reference.documents[4].slice(0, 9), [...reference.documents[0], ...reference.documents[1]].slice(0, 21)]
  const alone = gradients([short])
  const together = gradients([long, short])
  const T = together['D/model.layers.0.mlp.up_proj'].shape[1]
  for (const layer of model.layers) {
    const size = sizeOf(layer)
    assertNear(together[`G/${layer.name}`].data.subarray(size), alone[`G/${layer.name}`].data, 1e-12, layer.name)
    const delta = together[`D/${layer.name}`].data.subarray(T * layer.outputs)
    assert.ok(delta.subarray((short.length - 1) * layer.outputs).every((d) => d === 0), `${layer.name}: δ of the last token and of padding is zero`)
    assert.ok(delta.subarray(0, (short.length - 1) * layer.outputs).some((d) => d !== 0))
  }
})
