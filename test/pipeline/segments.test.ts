/** @file SOURCE: factors averaged over the checkpoints of a segment, and scores by the exponentials of segments, against float64. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import {
  batchGradients, batchTensors, inputWidth, openFactors, type FactorSet, type LayerFactors,
} from '../../src/influence/index.js'
import { sequenceInputs } from '../../src/influence/batch.js'
import { openModel, openTokenizer } from '../../src/model/index.js'
import { explain } from '../../src/pipeline/explain.js'
import { homePaths } from '../../src/pipeline/home.js'
import { readRun } from '../../src/pipeline/runs.js'
import { replaySettings, resolveSettings } from '../../src/settings/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import type { ProgramSpec } from '../../src/tensor/index.js'
import { matrixOf } from '../influence/made-layer.js'
import { runPlain } from '../influence/plain-program.js'
import { plainWeights } from '../model/checkpoints.js'
import { assertNear } from '../tensor/tensors.js'
import { documentOf, driveFit, driveScore, homeWith, influenceOf, queries, temporary, type Given } from './drive.js'
import { tinyCheckpoint, vocabulary } from './tiny-checkpoint.js'

const ops = plainOps()
const folder = temporary()
const documents = Array.from({ length: 24 }, (_, i) => documentOf(i))
const models: string[] = []
before(async () => {
  for (const seed of [1, 2, 3]) models.push(await tinyCheckpoint(join(folder, `step-${seed}`), { seed }))
})

const factorsOf = async (home: string, name: string): Promise<FactorSet> => openFactors(join(homePaths(home).factors, name), name, (await openModel(models[0])).model.layers)
const tracked = 'model.layers.1.mlp.(gate|down)_proj'

/** Q diag(values) Qᵀ */
const covarianceBy = ({ width, values, blocks }: NonNullable<LayerFactors['inputs']>): PlainTensor => {
  const Q = matrixOf({ width, values, blocks }, width)
  return ops.matmul(ops.mul(Q, plainTensor(values, [width])), Q, { transB: true })
}

describe('factors averaged over checkpoints', () => {
  test('covariances are the mean of those of each, and Λ is their mean in the bases of all', async () => {
    const { home, log } = await homeWith(documents)
    for (const [name, model, average] of [['a', 0, []], ['b', 1, []], ['both', 0, [1]], ['twice', 0, [0]]] as const)
      await driveFit(log, home, models[model], { factors: name, track: tracked, empirical: true, average: average.map((at) => models[at]) })
    const [a, b, both, twice] = await Promise.all(['a', 'b', 'both', 'twice'].map((name) => factorsOf(home, name)))
    assert.equal(both.manifest.sequences, 2 * a.manifest.sequences)
    for (const layer of both.layers) {
      const [ofA, ofB, ofBoth, ofTwice] = await Promise.all([a, b, both, twice].map((set) => set.load(layer)))
      for (const side of ['inputs', 'outputs'] as const) {
        const [A, B, mean] = [ofA[side], ofB[side], ofBoth[side]].map((basis) => covarianceBy(basis ?? assert.fail()))
        assertNear(mean.data, ops.scale(ops.add(A, B), 0.5).data, 1e-5, `${side} of ${layer.name}`)
      }
      // E‖G‖² needs no basis.
      const total = (factors: LayerFactors): number => factors.eigenvalues.reduce((sum, value) => sum + value, 0)
      assertNear([total(ofBoth)], [(total(ofA) + total(ofB)) / 2], 1e-5, `Λ of ${layer.name}`)
      assertNear(ofTwice.eigenvalues, ofA.eigenvalues, 1e-3, `Λ of one checkpoint twice, ${layer.name}`)
    }
  })

  test('interrupted after every batch it ends in the bits of an undisturbed fit; other checkpoints are refused', async () => {
    const { home, log } = await homeWith(documents)
    const given: Given = { factors: 'f', track: tracked, average: [models[1], models[2]], batchTokens: 256, commitEveryMs: 0 }
    await driveFit(log, home, models[0], { ...given, factors: 'undisturbed' })
    for (let starts = 0; ; starts++) {
      assert.ok(starts < 200, 'it never ends')
      const stop = new AbortController()
      const { finished } = await driveFit(log, home, models[0], given, { signal: stop.signal, progress: { update: (done) => void (done > 0 && stop.abort()) } })
      if (finished) break
    }
    assert.equal((await factorsOf(home, 'f')).hash, (await factorsOf(home, 'undisturbed')).hash)
    await assert.rejects(driveFit(log, home, models[0], { ...given, average: [models[1]] }), (error: unknown) => error instanceof UserError && /begun under other settings:\n {2}checkpoints: /.test(error.message))
    const wider = await tinyCheckpoint(join(folder, 'wider'), { intermediate: 56 })
    await assert.rejects(driveFit(log, home, models[0], { factors: 'g', average: [wider] }), (error: unknown) => error instanceof UserError && /--average has other layers/.test(error.message))
  })
})

/** Each sequence's gradient of every tracked layer, in float64. */
const gradientsOf = async (folderOf: string, names: readonly string[], sequence: { readonly tokens: readonly number[]; readonly lossFrom?: number }): Promise<ReadonlyMap<string, PlainTensor>> => {
  const checkpoint = await openModel(folderOf)
  const layers = checkpoint.model.layers.filter(({ name }) => names.includes(name))
  const spec: ProgramSpec = {
    name: 'gradients', inputs: sequenceInputs, weights: checkpoint.tensors,
    build: (over, value, weight) => Object.fromEntries(
      batchGradients(over, checkpoint.model, layers, value, weight).layers.map(({ layer, delta, input }) => [layer.name, over.matmul(delta, input, { transA: true })]),
    ),
  }
  const { tokens, rows, labels } = batchTensors([sequence])
  const found = runPlain(spec, { tokens, rows, labels }, { weights: await plainWeights(checkpoint) })
  return new Map(layers.map(({ name, outputs, inputs }) => [name, ops.reshape(found[name], [outputs, inputs])]))
}

/** A function of the curvature, applied to X: Q_S [(Q_Sᵀ X Q_A) ⊙ f(Λ)] Q_Aᵀ. */
const applied = ({ layer, inputs, outputs, eigenvalues }: LayerFactors, f: (value: number) => number, X: PlainTensor): PlainTensor => {
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const [S, A] = [matrixOf(outputs, O), matrixOf(inputs, I)]
  const inside = ops.mul(ops.matmul(ops.matmul(S, X, { transA: true }), A), plainTensor(Array.from(eigenvalues, f), [O, I]))
  return ops.matmul(ops.matmul(S, inside), A, { transB: true })
}

describe('segments of a training', () => {
  const names = ['model.layers.1.mlp.gate_proj', 'model.layers.1.mlp.down_proj']
  const scoreOf = (given: Given): Given => ({ track: undefined, queryModel: models[2], k: 3, ...given })

  test('scores are ⟨F_1 S_2 S_3 ∇f, ∇L⟩ with the query at the last checkpoint, in every join; explained, they sum to themselves', async () => {
    const { home, log } = await homeWith(documents)
    for (const [at, name] of ['one', 'two', 'three'].entries()) await driveFit(log, home, models[at], { factors: name, track: tracked })
    const sets = await Promise.all(['one', 'two', 'three'].map((name) => factorsOf(home, name)))
    // Times in which the directions of most curvature settle and most do not.
    let most = 0
    for (const layer of sets[0].layers) most = Math.max(most, ...(await sets[0].load(layer)).eigenvalues)
    const [t1, t2, t3] = [8, 0.7, 0.2].map((factor) => Number((factor / most).toPrecision(6)))
    const given = scoreOf({ run: 'dense', factors: 'one', damping: `segment:${t1}`, later: [`two=${t2}`, `three=${t3}`], join: 'dense' })
    await driveScore(log, home, models[0], given)
    await driveScore(log, home, models[0], { ...given, run: 'low', join: 'low-rank', rank: 1000 })
    await driveScore(log, home, models[0], { ...given, run: 'alone', later: [] })

    const tokenizer = await openTokenizer(models[0], { vocabulary })
    const [dense, low, alone] = [await influenceOf(log, 'dense'), await influenceOf(log, 'low'), await influenceOf(log, 'alone')]
    const record = await readRun(log, 'dense')
    assert.deepEqual(record.settings.damping, { kind: 'segment', time: t1 })
    assert.deepEqual(record.settings.later, [{ factors: 'two', hash: sets[1].hash, time: t2 }, { factors: 'three', hash: sets[2].hash, time: t3 }])
    const wanted = { all: [] as number[], alone: [] as number[] }
    const found = { dense: [] as number[], low: [] as number[], alone: [] as number[] }
    for (const [q, { id }] of record.queries.entries()) {
      const query = queries.find((one) => one.id === id) ?? assert.fail()
      const { ids, promptLength } = tokenizer.encodeQuery(query)
      const gradients = await gradientsOf(models[2], names, { tokens: ids, lossFrom: Math.max(promptLength, 1) })
      const prepared = new Map<string, { readonly all: PlainTensor; readonly alone: PlainTensor }>()
      for (const layer of sets[0].layers) {
        const [one, two, three] = await Promise.all(sets.map((set) => set.load(layer)))
        const G = gradients.get(layer.name) ?? assert.fail()
        const F = (value: number): number => (value === 0 ? t1 : (1 - Math.exp(-t1 * value)) / value)
        prepared.set(layer.name, {
          all: applied(one, F, applied(two, (value) => Math.exp(-t2 * value), applied(three, (value) => Math.exp(-t3 * value), G))),
          alone: applied(one, F, G),
        })
      }
      for (const [i, { document }] of dense.entries()) {
        if (i % 6 !== 0) continue
        const text = documents.find((one) => one.id === document)?.text ?? assert.fail()
        const own = await gradientsOf(models[0], names, { tokens: tokenizer.encodeDocument(text) })
        const score = (kind: 'all' | 'alone'): number => names.reduce((sum, name) => {
          const [Q, G] = [prepared.get(name)?.[kind] ?? assert.fail(), own.get(name) ?? assert.fail()]
          return sum + Q.data.reduce((dot, value, n) => dot + value * G.data[n], 0)
        }, 0)
        wanted.all.push(score('all'))
        wanted.alone.push(score('alone'))
        found.dense.push(dense[i].influence[q])
        found.low.push(low[i].influence[q])
        found.alone.push(alone[i].influence[q])
      }
    }
    assertNear(found.dense, wanted.all, 1e-4, 'dense')
    assertNear(found.low, wanted.all, 2e-3, 'low-rank')
    assertNear(found.alone, wanted.alone, 1e-4, 'without later segments')
    assert.ok(Math.abs(found.alone[0] / found.dense[0] - 1) > 1e-2, 'what came later matters')

    const { score, document } = await explain(log, resolveSettings('explain', { flags: { home, threads: 1, run: 'dense', query: 'water', document: documents[5].id }, env: {} }))
    const recorded = dense.find((value) => value.document === document)?.influence[record.queries.findIndex(({ id }) => id === 'water')] ?? assert.fail()
    assertNear([score], [recorded], 1e-3, 'explained')
    const replayed = replaySettings(record, { run: 'again', set: [], given: { flags: {}, env: {} } })
    assert.deepEqual([replayed.damping, replayed.later], [{ kind: 'segment', time: t1 }, [`two=${t2}`, `three=${t3}`]])
  })

  test('what does not fit together is refused with what to do', async () => {
    const { home, log } = await homeWith(documents.slice(0, 4))
    await driveFit(log, home, models[0], { factors: 'few', track: tracked })
    await driveFit(log, home, models[0], { factors: 'fewer', track: 'model.layers.1.mlp.gate_proj' })
    await driveFit(log, home, models[0], { factors: 'plain', strategy: 'identity', documents: 1, track: tracked })
    const rejects = (given: Given, message: RegExp): Promise<void> =>
      assert.rejects(async () => driveScore(log, home, models[0], scoreOf(given)), (error: unknown) => {
        assert.ok(error instanceof UserError && error.fix !== undefined, String(error))
        assert.match(error.message, message)
        return true
      })
    await rejects({ factors: 'few', later: ['few=1'] }, /--later goes with the damping of a segment, not with --damping 0\.1x/)
    await rejects({ factors: 'few', damping: 'segment:1', later: ['fewer=1'] }, /"fewer" of --later has no layer model\.layers\.1\.mlp\.down_proj, which "few" has/)
    await rejects({ factors: 'few', damping: 'segment:1', later: ['nobody=1'] }, /no factor set "nobody"/)
    await rejects({ factors: 'few', damping: 'segment:1', later: ['few=1', 'few=2'] }, /names "few" twice/)
    for (const later of ['few', 'few=', 'few=0', 'few=-1', 'few=x', '=1']) await rejects({ factors: 'few', damping: 'segment:1', later: [later] }, /--later .*: a factor set with the sum of its learning rates is wanted/)
    await rejects({ factors: 'plain', damping: 'segment:1' }, /knows no curvature/)
    for (const damping of ['segment:', 'segment:0', 'segment:-1', 'segment:1x', 'segment']) await rejects({ factors: 'few', damping }, /--damping: "segment.*" is not allowed/)
  })
})
