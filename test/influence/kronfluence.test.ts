import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  preconditioner, queryGradient, queryProgram, scoreBatch, scoreProgram, trackedLayers, inputWidth, type QueryGradient, type Strategy,
} from '../../src/influence/index.js'
import { openModel } from '../../src/model/index.js'
import { onnxEngine, type TensorData } from '../../src/tensor/index.js'
import { readReference, type ReferenceName, type ReferenceScores } from '../references/read.js'
import { fitInMemory } from './fit-in-memory.js'

/** Influence [Q][N] of the whole path: fit, precondition, dense join. */
const influence = async (name: ReferenceName, track: 'mlp' | 'all', strategy: Strategy, blocks = 1): Promise<number[]> => {
  const reference = readReference(name)
  await using engine = onnxEngine({ threads: 1 })
  const checkpoint = await openModel(reference.modelDir)
  const { model, tensors } = checkpoint
  const tracked = trackedLayers(model, track)
  const documents = reference.documents.map((tokens) => ({ tokens }))
  const batches = [documents.slice(0, 7), documents.slice(7, 8), documents.slice(8)]
  const { factors } = await fitInMemory(engine, checkpoint, tracked, batches, { strategy, blocks })
  await using gradients = await engine.compile(queryProgram(model, tensors, tracked))
  const queries: QueryGradient[] = []
  for (const { prompt, completion } of reference.queries) {
    queries.push(await queryGradient(gradients, tracked, { tokens: [...prompt, ...completion], promptTokens: prompt.length }))
  }
  reference.tensor('measurements').data.forEach((f, q) => assertClose(queries[q].informationNats, -f, 1e-5))
  await using precondition = preconditioner(engine, strategy, { kind: 'relative', factor: 0.1 })
  const bound: Record<string, TensorData> = {}
  for (const layer of tracked) {
    const own = factors.get(layer.name)
    if (own === undefined) throw new Error(layer.name)
    const preconditioned = precondition.layer(own)
    const dense = await preconditioned.dense(queries.map(({ layers }) => layers.get(layer.name) ?? assert.fail()))
    const size = layer.outputs * inputWidth(layer)
    const all = new Float32Array(queries.length * size)
    dense.forEach((query, q) => all.set(query, q * size))
    bound[`Q/${layer.name}`] = { type: 'float32', shape: [queries.length, size], data: all }
    const expected = reference.layers.find((l) => l.name === layer.name)?.damping[blocks === 2 ? 'ekfac-blocks2' : strategy]
    if (strategy !== 'identity') assertClose(preconditioned.damping, expected ?? NaN, 1e-4)
  }
  await using score = await engine.compile(scoreProgram(model, tensors, tracked, 'dense', { queries: queries.length, rank: 0 }))
  await score.bind(bound)
  const rows: number[][] = queries.map(() => [])
  for (const batch of batches) {
    const { influence: scores, losses } = await scoreBatch(score, batch, { lengthMax: model.positionsMax })
    scores.forEach((row) => row.forEach((value, q) => rows[q].push(value)))
    losses.forEach((loss, b) => assertClose(loss, reference.tensor('losses').data[documents.indexOf(batch[b])], 1e-5))
  }
  return rows.flat()
}

const assertClose = (found: number, wanted: number, tolerance: number): void =>
  assert.ok(Math.abs(found - wanted) <= tolerance * Math.abs(wanted), `${found} is not ${wanted} to ${tolerance}`)

const agreement = (found: readonly number[], wanted: Float64Array): { pearson: number; relativeError: number } => {
  const dot = (x: readonly number[], y: readonly number[]): number => x.reduce((sum, v, i) => sum + v * y[i], 0)
  const centred = (x: readonly number[]): number[] => x.map((v) => v - dot(x, x.map(() => 1)) / x.length)
  const w = [...wanted]
  const [a, b] = [centred(found), centred(w)]
  const difference = found.map((v, i) => v - w[i])
  return { pearson: dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)), relativeError: Math.sqrt(dot(difference, difference) / dot(w, w)) }
}

for (const name of ['gpt2', 'llama', 'mistral', 'qwen2', 'micro'] as const) {
  for (const track of ['mlp', 'all'] as const) {
    for (const strategy of ['ekfac', 'kfac', 'diagonal', 'identity'] as const) {
      if (track === 'all' && strategy !== 'ekfac') continue
      test(`${strategy} scores of ${name}, ${track} tracked, agree with kronfluence`, async () => {
        const of: ReferenceScores = `kronfluence.${strategy}`
        const { pearson, relativeError } = agreement(await influence(name, track, strategy), readReference(name).scores(of, track).data)
        assert.ok(pearson >= 0.9999 && relativeError < 1e-3, `Pearson ${pearson}, relative error ${relativeError}`)
      })
    }
  }
}

test('ekfac with two blocks agrees with the dense reference', async () => {
  const { pearson, relativeError } = agreement(await influence('gpt2', 'all', 'ekfac', 2), readReference('gpt2').scores('dense.ekfac-blocks2', 'all').data)
  assert.ok(pearson >= 0.9999 && relativeError < 1e-3, `Pearson ${pearson}, relative error ${relativeError}`)
})
