/** @file Whole pipelines with a model in stages: the factors, scores and explanations that the model whole has. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { openFactors } from '../../src/influence/index.js'
import { openModel } from '../../src/model/index.js'
import { explain } from '../../src/pipeline/explain.js'
import { readRun } from '../../src/pipeline/runs.js'
import { resolveSettings } from '../../src/settings/index.js'
import { documentOf, driveFit, driveScore, homeWith, influenceOf, temporary } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

/** Of the largest. */
const tolerance = 1e-4

const near = (found: ArrayLike<number>, wanted: ArrayLike<number>, what: string): void => {
  assert.equal(found.length, wanted.length, what)
  const largest = Math.max(...Array.from(wanted, Math.abs))
  for (let i = 0; i < wanted.length; i++) assert.ok(Math.abs(found[i] - wanted[i]) <= tolerance * largest, `${what}: ${found[i]} and ${wanted[i]} of ${largest}`)
}

test('fit, score, rescore and explain in stages are what they are whole; documents without a finite loss are left out', async () => {
  const model = await tinyCheckpoint(join(temporary(), 'model'), { overflowing: '%' })
  const { home, log } = await homeWith(Array.from({ length: 14 }, (_, i) => documentOf(i, i % 10 === 7 ? { text: 'all % of it' } : {})))
  // A part of this model has at most 8192 weights: embedding, two blocks and the head come apart.
  const staged = { stageMemory: '40KiB' }
  for (const [name, own] of [['whole', {}], ['staged', staged]] as const) {
    await driveFit(log, home, model, { factors: name, batchTokens: '64', ...own })
    await driveScore(log, home, model, { factors: 'whole', run: name, join: 'low-rank', batchTokens: '64', rescore: '3', ...own })
  }
  const { model: { layers } } = await openModel(model)
  const [wanted, found] = await Promise.all(['whole', 'staged'].map((name) => openFactors(join(home, 'factors', name), name, layers)))
  assert.deepEqual([found.manifest.sequences, found.manifest.tokens, found.manifest.unusable], [wanted.manifest.sequences, wanted.manifest.tokens, wanted.manifest.unusable])
  assert.equal(wanted.manifest.unusable, 1)
  for (const layer of wanted.layers) {
    const [a, b] = [await found.load(layer), await wanted.load(layer)]
    near(a.inputs?.values ?? [], b.inputs?.values ?? [], `eigenvalues of A, ${layer.name}`)
    near(a.outputs?.values ?? [], b.outputs?.values ?? [], `eigenvalues of S, ${layer.name}`)
  }
  const [whole, parted] = [await influenceOf(log, 'whole'), await influenceOf(log, 'staged')]
  assert.equal(parted.length, 13)
  whole.forEach((one, i) => {
    assert.equal(parted[i].document, one.document)
    near([parted[i].loss, parted[i].gradientNorm], [one.loss, one.gradientNorm], one.document)
  })
  for (const q of whole[0].influence.keys()) near(parted.map(({ influence }) => influence[q]), whole.map(({ influence }) => influence[q]), `query ${q}`)

  assert.equal((await readRun(log, 'staged')).settings.stageMemory, 40 * 1024)
  await assert.rejects(driveScore(log, home, model, { factors: 'whole', run: 'staged', join: 'low-rank', batchTokens: '64', rescore: '3' }), /stageMemory: 40960 then, nothing now/)
  await assert.rejects(driveFit(log, home, model, { factors: 'other', stageMemory: '1KiB' }), /holds not even/)

  const [{ document, influence }] = parted
  const { tokens } = await explain(log, resolveSettings('explain', { flags: { home, run: 'staged', query: (await readRun(log, 'staged')).queries[0].id, document }, env: {} }))
  near([tokens.reduce((sum, { term }) => sum + term, 0)], [influence[0]], 'terms')
})
