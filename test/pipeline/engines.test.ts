/** @file Engines through whole pipelines: the same top tables of a small corpus, and a run that stays with its engine. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { explain } from '../../src/pipeline/explain.js'
import { readRun } from '../../src/pipeline/runs.js'
import { resolveSettings } from '../../src/settings/index.js'
import type { Row } from '../../src/table/index.js'
import { gpuPresent } from '../../src/tensor/index.js'
import { documentOf, driveFit, driveScore, homeWith, influenceOf, queries, tablesOf, temporary } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

/** Of the largest score of a query. */
const tolerance = 1e-4
const ids = queries.map(({ id }) => id).sort()

test('factors and scores of TensorFlow.js are those of ONNX Runtime, and so are the tables; each run stays with its engine', async () => {
  const model = await tinyCheckpoint(join(temporary(), 'model'))
  const { home, log } = await homeWith(Array.from({ length: 40 }, (_, i) => documentOf(i)))
  for (const engine of ['onnx', 'tfjs']) {
    await driveFit(log, home, model, { engine, factors: engine })
    await driveScore(log, home, model, { engine, factors: engine, run: engine })
  }
  const [onnx, tfjs] = [await influenceOf(log, 'onnx'), await influenceOf(log, 'tfjs')]
  assert.equal(onnx.length, 40)
  for (const q of ids.keys()) {
    const largest = Math.max(...onnx.map(({ influence }) => Math.abs(influence[q])))
    assert.ok(largest > 0)
    const near = (a: number, b: number, what: string): void => assert.ok(Math.abs(a - b) <= tolerance * largest, `${what}: ${a} and ${b}`)
    onnx.forEach((one, i) => {
      assert.equal(one.document, tfjs[i].document)
      near(one.influence[q], tfjs[i].influence[q], `${one.document} on ${ids[q]}`)
    })
    const [wanted, found] = [(await tablesOf(log, ids, { run: 'onnx' }))[q].top, (await tablesOf(log, ids, { run: 'tfjs' }))[q].top]
    assert.equal(found.length, wanted.length)
    // Two documents nearer to each other than the engines are may change places.
    const isApart = (i: number, j: number): boolean => wanted[i] === undefined || wanted[j] === undefined || Math.abs(wanted[i].score - wanted[j].score) > 2 * tolerance * largest
    const sure = [...wanted.keys()].filter((i) => isApart(i, i - 1) && isApart(i, i + 1))
    assert.ok(sure.length >= 3)
    const named = (rows: readonly Row[]): readonly string[] => sure.map((i) => rows[i].document)
    assert.deepEqual(named(found), named(wanted), `table of ${ids[q]}`)
  }
  assert.ok(onnx.some((one, i) => one.influence.some((score, q) => score !== tfjs[i].influence[q])), 'another engine did compute')

  const record = await readRun(log, 'tfjs')
  assert.equal(record.settings.engine, 'tfjs')
  assert.deepEqual(Object.keys(record.versions ?? {}).filter((name) => /tensorflow|onnx/.test(name)).map((name) => name.split('/')[0]), ['@tensorflow'])
  await assert.rejects(driveScore(log, home, model, { engine: 'onnx', factors: 'tfjs', run: 'tfjs' }), /began under other settings:\n {2}engine: "tfjs" then, "onnx" now/)
  await assert.rejects(driveFit(log, home, model, { engine: 'onnx', factors: 'tfjs' }), /begun under other settings:\n {2}engine: tfjs then, onnx now/)

  const [document, query] = [tfjs[7].document, ids[0]]
  const { tokens } = await explain(log, resolveSettings('explain', { flags: { home, run: 'tfjs', query, document }, env: {} }))
  const sum = tokens.reduce((total, { term }) => total + term, 0)
  assert.ok(Math.abs(sum - tfjs[7].influence[0]) <= 1e-3 * Math.abs(tfjs[7].influence[0]) + 1e-6, `${sum} explained of ${tfjs[7].influence[0]}`)
})

test('a device is refused before any work: one that is not there, and any with TensorFlow.js', { skip: gpuPresent() && 'there is a GPU here, and CUDA may be usable' }, async () => {
  const model = await tinyCheckpoint(join(temporary(), 'model'))
  const { home, log } = await homeWith([documentOf(0)])
  const isSaid = (pattern: RegExp) => (error: unknown) => error instanceof UserError && pattern.test(error.message) && /--device/.test(error.fix ?? '')
  await assert.rejects(driveFit(log, home, model, { device: 'cuda' }), isSaid(/^device cuda is not usable here: /))
  assert.ok(!existsSync(join(home, 'factors', 'f')), 'nothing was begun')
  await driveFit(log, home, model, { device: 'cpu' })
  await assert.rejects(driveScore(log, home, model, { device: 'cuda' }), isSaid(/^device cuda is not usable here: /))
  await assert.rejects(driveScore(log, home, model, { device: 'cpu', engine: 'tfjs' }), isSaid(/goes with --engine onnx/))
  await driveScore(log, home, model, { device: 'cpu' })
  const record = await readRun(log, 'r')
  assert.equal(record.settings.engine, 'onnx')
  await driveScore(log, home, model, { device: 'auto' }) // the CPU again
})

test('a run with products of 16 bits is near one without, says so in its record, and stays with its precision', async () => {
  const model = await tinyCheckpoint(join(temporary(), 'model'))
  const { home, log } = await homeWith(Array.from({ length: 20 }, (_, i) => documentOf(i)))
  await driveFit(log, home, model, { device: 'cpu' })
  await driveScore(log, home, model, { run: 'wide', device: 'cpu' })
  await driveScore(log, home, model, { run: 'half', device: 'cpu', precision: 'f16' })
  const [wide, half] = [await influenceOf(log, 'wide'), await influenceOf(log, 'half')]
  assert.equal(half.length, 20)
  for (const q of ids.keys()) {
    const largest = Math.max(...wide.map(({ influence }) => Math.abs(influence[q])))
    const errors = wide.map(({ influence }, i) => Math.abs(half[i].influence[q] - influence[q]) / largest)
    assert.ok(Math.max(...errors) < 0.02 && Math.max(...errors) > 1e-6, `${ids[q]}: ${Math.max(...errors)}`)
  }
  assert.equal((await readRun(log, 'half')).settings.precision, 'f16')
  await assert.rejects(driveScore(log, home, model, { run: 'half', device: 'cpu' }), /precision: "f16" then, nothing now/)
})
