/** @file Scores taken apart by token and layer: against the definition in float64, and against the scores of the pass. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  batchGradients, batchTensors, documentTerms, explainProgram, inputWidth, joins, scoreBatch, scoreProgram, sharedWidths, trackedLayers, type JoinKind,
} from '../../src/influence/index.js'
import { sequenceInputs } from '../../src/influence/batch.js'
import { lowRankOf } from '../../src/influence/precondition.js'
import { openModel, type LinearLayer } from '../../src/model/index.js'
import { onnxEngine, type ProgramSpec, type TensorData } from '../../src/tensor/index.js'
import { plainWeights } from '../model/checkpoints.js'
import { readReference, referenceNames } from '../references/read.js'
import { assertNear, randomTensor } from '../tensor/tensors.js'
import { runPlain } from './plain-program.js'

const kinds: readonly JoinKind[] = ['dense', 'low-rank', 'shared']
const rank = 3

/** One query of a join's form with random entries, as float32. */
const queryOf = (kind: JoinKind, tracked: readonly LinearLayer[]): Record<string, TensorData> =>
  Object.fromEntries(tracked.flatMap((layer, l) =>
    Object.entries(joins[kind].inputs(layer, { queries: 1, rank })).map(([name, { shape }]) => [
      name, { type: 'float32' as const, shape: shape.map(Number), data: Float32Array.from(randomTensor(shape.map(Number), 100 * l + name.charCodeAt(0)).data) },
    ]),
  ))

/** Q̃ [O, I'] of a layer, by the definition of each join, in plain loops. */
const matrixOf = (kind: JoinKind, layer: LinearLayer, tensors: Readonly<Record<string, TensorData>>): readonly (readonly number[])[] => {
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const at = (name: string) => (i: number): number => Number(tensors[`${name}/${layer.name}`].data[i])
  const sum = (n: number, of: (i: number) => number): number => Array.from({ length: n }, (_, i) => of(i)).reduce((total, x) => total + x, 0)
  const [q, u, v, p, r, c] = ['Q', 'U', 'V', 'P', 'R', 'C'].map(at)
  const R = lowRankOf(layer, rank)
  const [kO, kI] = sharedWidths(layer, rank)
  const entry: Readonly<Record<JoinKind, (o: number, i: number) => number>> = {
    dense: (o, i) => q(O > I ? i * O + o : o * I + i),
    'low-rank': (o, i) => sum(R, (k) => u(o * R + k) * v(i * R + k)),
    shared: (o, i) => sum(kO, (a) => p(o * kO + a) * sum(kI, (b) => c(a * kI + b) * r(i * kI + b))),
  }
  return Array.from({ length: O }, (_, o) => Array.from({ length: I }, (_, i) => entry[kind](o, i)))
}

for (const name of referenceNames)
  test(`${name}: terms are δᵀ Q̃ ā of each token and layer, in float64 and on ONNX, and sum to the score of the pass, with every join`, { timeout: 120_000 }, async () => {
    const reference = readReference(name)
    const checkpoint = await openModel(reference.modelDir)
    const { model, tensors } = checkpoint
    const weights = await plainWeights(checkpoint)
    const tracked = trackedLayers(model, 'all')
    const sorted = [...reference.documents].sort((a, b) => a.length - b.length)
    const documents = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted[sorted.length - 1]]
    const parts: ProgramSpec = {
      name: 'parts', inputs: sequenceInputs, weights: tensors,
      build: (ops, value, weight) => {
        const { loss, layers } = batchGradients(ops, model, tracked, value, weight)
        return Object.fromEntries([['loss', loss], ...layers.flatMap(({ layer, delta, input }) => [[`D/${layer.name}`, delta], [`A/${layer.name}`, input]])])
      },
    }
    await using engine = onnxEngine({ threads: 1 })
    for (const kind of kinds) {
      const query = queryOf(kind, tracked)
      const copy = (): Record<string, TensorData> => structuredClone(query)
      const spec = explainProgram(model, tensors, tracked, kind, rank)
      await using program = await engine.compile(spec)
      await program.bind(copy())
      await using scoring = await engine.compile(scoreProgram(model, tensors, tracked, kind, { queries: 1, rank }))
      await scoring.bind(copy())
      const matrices = new Map(tracked.map((layer) => [layer.name, matrixOf(kind, layer, query)]))
      for (const tokens of documents) {
        const given = batchTensors([{ tokens }])
        const inputs = { tokens: given.tokens, rows: given.rows, labels: given.labels }
        const exact = runPlain(parts, inputs, { weights })
        const inWhole = runPlain(spec, { ...inputs, ...query }, { weights })
        const found = await documentTerms(program, tracked, tokens, { lengthMax: model.positionsMax })
        assert.deepEqual(found.layers.map(({ layer }) => layer), tracked.map((layer) => layer.name))
        const wanted = tracked.map((layer) => {
          const [O, I] = [layer.outputs, inputWidth(layer)]
          const matrix = matrices.get(layer.name) ?? assert.fail()
          const [d, a] = [exact[`D/${layer.name}`].data, exact[`A/${layer.name}`].data]
          return tokens.map((_, t) => matrix.reduce((sum, row, o) => sum + d[t * O + o] * row.reduce((dot, x, i) => dot + x * a[t * I + i], 0), 0))
        })
        const about = `${kind}, ${tokens.length} tokens`
        assertNear(tracked.flatMap((layer) => [...inWhole[`terms/${layer.name}`].data.slice(0, tokens.length)]), wanted.flat(), 1e-10, `float64, ${about}`)
        assertNear(found.layers.flatMap(({ terms }) => [...terms]), wanted.flat(), 1e-4, `ONNX, ${about}`)
        const { influence: [[score]], losses: [loss] } = await scoreBatch(scoring, [{ tokens }], { lengthMax: model.positionsMax })
        const all = found.layers.flatMap(({ terms }) => [...terms])
        const [sum, magnitude] = [all.reduce((total, x) => total + x, 0), all.reduce((total, x) => total + Math.abs(x), 0)]
        assert.ok(Math.abs(sum - score) <= 1e-5 * magnitude, `${about}: the terms sum to ${sum}, the score is ${score}`)
        assert.ok(Math.abs(found.loss - loss) <= 1e-5 * loss, about)
        // The last token predicts nothing, and nothing attends to it.
        assert.ok(found.layers.every(({ terms }) => terms[tokens.length - 1] === 0), about)
      }
    }
  })
