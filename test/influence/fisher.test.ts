/** @file The true Fisher: with labels drawn from the model, factors approach the exact ones, which a tiny model allows to be formed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seedOf, uniformAt } from '../../src/base/index.js'
import {
  batchTensors, blockBounds, inputWidth, preconditioner, queryGradient, queryProgram, scoreBatch, scoreProgram, trackedLayers, type LayerFactors, type QueryGradient, type Sequence,
} from '../../src/influence/index.js'
import { fitInputs } from '../../src/influence/batch.js'
import { openModel } from '../../src/model/index.js'
import { onnxEngine, sampleLabels, type Ops, type ProgramSpec } from '../../src/tensor/index.js'
import { plainWeights } from '../model/checkpoints.js'
import { readReference } from '../references/read.js'
import { relativeError } from '../tensor/tensors.js'
import { fitInMemory } from './fit-in-memory.js'
import { parametersOf } from './made-layer.js'
import { runPlain } from './plain-program.js'

const reference = readReference('micro')
/** A document's labels come from the seed, the document and the position alone, as in a fit. */
const sampled = (tokens: readonly number[], document: number, seed: number): Sequence => {
  const own = seedOf(`${seed}\u001f${document}`)
  return { tokens, uniforms: Array.from({ length: tokens.length - 1 }, (_, t) => uniformAt(own, 0, t)) }
}
const batchOf = (seed: number): readonly Sequence[] => reference.documents.map((tokens, n) => sampled(tokens, n, seed))

test('factors with sampled labels approach the exact Fisher at the rate 1/√n, and EK-FAC is as far from the exact inverse as it must be', async (t) => {
  const checkpoint = await openModel(reference.modelDir)
  const { model, tensors } = checkpoint
  await using engine = onnxEngine({ threads: 1 })
  const exact = reference.exact ?? assert.fail()
  const meanOf = (errors: readonly number[]): number => Math.sqrt(errors.reduce((sum, e) => sum + e * e, 0) / errors.length)

  // Q̃ of a dense gradient: δ is the identity and ā the gradient.
  const preconditioned = async (factors: ReadonlyMap<string, LayerFactors>): Promise<{ readonly found: number; readonly dampings: number }> => {
    await using precondition = preconditioner(engine, 'ekfac', { kind: 'relative', factor: 0.1 })
    const errors = []
    const dampings = []
    for (const layer of model.layers) {
      const O = layer.outputs
      const own = precondition.layer(factors.get(layer.name) ?? assert.fail())
      const gradient = { tokens: O, delta: Float32Array.from({ length: O * O }, (_, n) => Number(n % (O + 1) === 0)), input: Float32Array.from(reference.tensor(`gradient.query.0.${layer.name}`).data) }
      errors.push(relativeError(parametersOf(layer, (await own.dense([gradient]))[0]), reference.tensor(`exact.preconditioned.query.0.${layer.name}`).data))
      dampings.push(Math.abs(own.damping / exact.dampingOfLayers[layer.name] - 1))
    }
    return { found: meanOf(errors), dampings: meanOf(dampings) }
  }

  const steps = []
  let factors: ReadonlyMap<string, LayerFactors> = new Map()
  for (const { seeds, fits } of [{ seeds: 8, fits: 5 }, { seeds: 200, fits: 2 }]) {
    const each = []
    for (let f = 0; f < fits; f++) {
      const fit = await fitInMemory(engine, checkpoint, model.layers, Array.from({ length: seeds }, (_, seed) => batchOf(10_000 * f + seed)), { strategy: 'ekfac', empirical: false })
      factors = fit.factors
      const S = meanOf(model.layers.map(({ name }) => relativeError(fit.covariances.get(`S/${name}`) ?? [], reference.tensor(`exact.S.${name}`).data)))
      each.push({ S, ...(await preconditioned(factors)) })
    }
    const step = { S: meanOf(each.map(({ S }) => S)), dampings: meanOf(each.map(({ dampings }) => dampings)), found: meanOf(each.map(({ found }) => found)) }
    t.diagnostic(`${seeds} seeds: S off by ${step.S.toPrecision(2)}, λ by ${step.dampings.toPrecision(2)}, Q̃ by ${step.found.toPrecision(2)}`)
    steps.push(step)
  }
  // √(200/8) = 5
  const [few, many] = steps
  for (const [what, ratio] of [['S', few.S / many.S], ['Q̃', few.found / many.found]] as const) assert.ok(ratio > 2.8 && ratio < 9, `${what} got better by ${ratio}, not by about 5`)
  assert.ok(many.S < 0.03 && many.dampings < 0.03 && many.found < 0.06, JSON.stringify(many))
  const empirical = await fitInMemory(engine, checkpoint, model.layers, [reference.documents.map((tokens) => ({ tokens }))], { strategy: 'ekfac' })
  const distance = (await preconditioned(empirical.factors)).found
  assert.ok(distance > 5 * many.found, `the empirical Fisher is another thing: ${distance}`)

  await using gradients = await engine.compile(queryProgram(model, tensors, model.layers))
  const queries: QueryGradient[] = []
  for (const { prompt, completion } of reference.queries) queries.push(await queryGradient(gradients, model.layers, { tokens: [...prompt, ...completion], promptTokens: prompt.length }))
  for (const track of ['mlp', 'all'] as const) {
    const tracked = trackedLayers(model, track)
    await using precondition = preconditioner(engine, 'ekfac', { kind: 'relative', factor: 0.1 })
    await using score = await engine.compile(scoreProgram(model, tensors, tracked, 'dense', { queries: queries.length, rank: 0 }))
    for (const layer of tracked) {
      const own = precondition.layer(factors.get(layer.name) ?? assert.fail())
      const dense = await own.dense(queries.map(({ layers }) => layers.get(layer.name) ?? assert.fail()))
      const size = layer.outputs * inputWidth(layer)
      const data = new Float32Array(queries.length * size)
      dense.forEach((query, q) => data.set(query, q * size))
      await score.bind({ [`Q/${layer.name}`]: { type: 'float32', shape: [queries.length, size], data } })
    }
    const { influence } = await scoreBatch(score, reference.documents.map((tokens) => ({ tokens })), { lengthMax: model.positionsMax })
    const scores = queries.flatMap((_, q) => influence.map((row) => row[q]))
    const toFull = relativeError(scores, reference.tensor(`exact.scores.full.${track}`).data)
    const wanted = exact.distanceToFull[`ekfac, ${track}`].relativeError
    t.diagnostic(`${track}: EK-FAC is ${toFull.toPrecision(3)} from the exact damped Gauss-Newton inverse (relative; exact EK-FAC ${wanted})`)
    assert.ok(Math.abs(toFull - wanted) < 0.1 * wanted, `${track}: ${toFull} from the exact inverse, exact EK-FAC is ${wanted}`)
  }
})

test('drawn labels depend on the seed, the document and the position: not on the batch, nor on the engine', async () => {
  const checkpoint = await openModel(reference.modelDir)
  const { model, tensors } = checkpoint
  const weights = await plainWeights(checkpoint)
  const spec: ProgramSpec = {
    name: 'labels', inputs: fitInputs(false), weights: tensors,
    build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
      const hidden = model.forward(ops, weight, { tokens: value('tokens') }, (_layer, x, compute) => compute(x))
      const rows = ops.takeRows(ops.reshape(hidden, [-1, model.width]), value('rows'))
      return { labels: sampleLabels(ops, rows, weight(model.head.weight), value('uniforms'), model.head) }
    },
  }
  await using engine = onnxEngine({ threads: 1 })
  await using program = await engine.compile(spec)
  const inputs = (batch: readonly Sequence[]) => {
    const { tokens, rows, uniforms } = batchTensors(batch)
    return { tokens, rows, uniforms }
  }
  const draw = async (batch: readonly Sequence[]): Promise<number[]> => Array.from((await program.run(inputs(batch))).labels.data, Number)
  const alone: number[][] = []
  for (const sequence of batchOf(3)) alone.push(await draw([sequence])) // the shortest has one label, fewer than row blocks
  assert.deepEqual(await draw(batchOf(3)), alone.flat())
  assert.deepEqual(await draw([...batchOf(3)].reverse()), [...alone].reverse().flat())
  assert.deepEqual([...runPlain(spec, inputs(batchOf(3)), { weights }).labels.data], alone.flat())
  const other = await draw(batchOf(4))
  const changed = other.filter((label, n) => label !== alone.flat()[n]).length
  assert.ok(changed > other.length / 2, `another seed changes ${changed} of ${other.length} labels`)
  const twins = await draw([sampled(reference.documents[1], 1, 3), sampled(reference.documents[1], 2, 3)])
  assert.notDeepEqual(twins.slice(0, twins.length / 2), twins.slice(twins.length / 2), 'two documents of one text draw apart')
})

test('an axis is cut into blocks that cover it, of as equal size as can be', () => {
  for (const [width, count] of [[10, 1], [10, 3], [7, 7], [3, 5], [577, 4]]) {
    const bounds = blockBounds(width, count)
    assert.equal(bounds.length, Math.min(width, count))
    bounds.forEach(({ from, size }, b) => {
      assert.equal(from, b === 0 ? 0 : bounds[b - 1].from + bounds[b - 1].size)
      assert.ok(size >= Math.floor(width / bounds.length) && size <= Math.ceil(width / bounds.length))
    })
    assert.equal(bounds.reduce((sum, { size }) => sum + size, 0), width)
  }
})
