import assert from 'node:assert/strict'
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { offsetOfPlace, pairKey, partitionOfPlace, type JudgedPair } from '../../src/analysis/index.js'
import { UserError } from '../../src/base/index.js'
import type { Log } from '../../src/log/index.js'
import { analyseRun } from '../../src/pipeline/analyse.js'
import { judge, judgedBefore } from '../../src/pipeline/concentrations.js'
import { openExplainer } from '../../src/pipeline/explain.js'
import { silentObserver, type ObservedStage, type Observer } from '../../src/pipeline/observer.js'
import { Interrupted } from '../../src/pipeline/outputs/index.js'
import { readRun } from '../../src/pipeline/runs.js'
import { resolveSettings, type RunRecord } from '../../src/settings/index.js'
import { documentOf, driveFit, driveScore, homeWith, temporary } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

const timeout = 120_000
const rows = 3
let home = ''
let model = ''
let log: Log
let run: RunRecord
let judged: ReadonlyMap<string, JudgedPair>
const kept = (): string => join(home, 'analyses', 'r', 'concentrations.json')
const options = () => ({ home, threads: 1 })

before(async () => {
  model = await tinyCheckpoint(join(temporary(), 'model'))
  ;({ home, log } = await homeWith(Array.from({ length: 20 }, (_, i) => documentOf(i))))
  await driveFit(log, home, model)
  await driveScore(log, home, model)
  run = await readRun(log, 'r')
  const { analyses } = await analyseRun(log, run, { home, threads: 1, spurious: rows })
  assert.equal(analyses.spurious.raw.rows, rows)
  assert.equal(analyses.spurious.normed.rows, rows)
  judged = judgedBefore(home, run)
}, { timeout })

test('what is judged of a pair is what its explanation says, worked out anew', { timeout }, async () => {
  assert.ok(judged.size >= rows * run.queries.length)
  await using explainer = await openExplainer(log, run, resolveSettings('explain', { flags: { home, threads: 1, run: 'r', query: 'water', document: 'any' }, env: {} }))
  for (const pair of judged.values()) {
    const [partition, offset] = [partitionOfPlace(pair.place), offsetOfPlace(pair.place)]
    const value = (await log.read('documents', partition, offset, { recordsMax: 1, bytesMax: 1 }))[0].value
    const { tokens, document } = await explainer.explain({ query: pair.query, partition, offset, piece: pair.piece })
    const sizes = tokens.map(({ term }) => Math.abs(term))
    const sum = sizes.reduce((a, b) => a + b, 0)
    const greatest = Math.max(...sizes)
    assert.deepEqual([pair.document, pair.source, pair.tokens], [document, value?.source, tokens.length])
    assert.ok(Math.abs((pair.concentration ?? NaN) - Math.sqrt(sizes.reduce((a, b) => a + b * b, 0)) / sum) < 1e-9)
    assert.ok(Math.abs(pair.tokenShare - greatest / sum) < 1e-9)
    assert.deepEqual([pair.tokenAt, pair.token], [sizes.indexOf(greatest), tokens[sizes.indexOf(greatest)].text])
  }
})

test('what was judged is read back without the checkpoint; what was not needs it', { timeout }, async () => {
  const away = `${model}-away`
  cpSync(model, away, { recursive: true })
  rmSync(model, { recursive: true })
  try {
    assert.deepEqual(await judge(log, run, [...judged.values()], options()), judged)
    assert.equal((await analyseRun(log, run, { home })).analyses.spurious.raw.rows, rows)
    await assert.rejects(analyseRun(log, run, { home, threads: 1, spurious: 5 }), UserError)
  } finally {
    cpSync(away, model, { recursive: true })
  }
  const stages = new Map<ObservedStage, number>()
  const observer: Observer = { ...silentObserver, time: (stage) => () => void stages.set(stage, (stages.get(stage) ?? 0) + 1) }
  const more = await analyseRun(log, run, { home, threads: 1, spurious: 5, observer })
  assert.equal(more.analyses.spurious.raw.rows, 5)
  for (const [key, pair] of judged) assert.deepEqual(judgedBefore(home, run).get(key), pair)
  assert.equal(stages.get('explain'), judgedBefore(home, run).size - judged.size, 'whoever watches hears of each')
})

test('what is kept of another run, or damaged, is nothing', () => {
  assert.equal(judgedBefore(home, { ...run, createdMs: run.createdMs + 1 }).size, 0)
  const text = readFileSync(kept(), 'utf8')
  try {
    for (const damaged of [text.slice(0, 100), '{}', text.replace('"concentration":', '"concentrated":')]) {
      writeFileSync(kept(), damaged)
      assert.equal(judgedBefore(home, run).size, 0)
    }
  } finally {
    writeFileSync(kept(), text)
  }
  assert.ok(judgedBefore(home, run).size > 0)
})

test('an interruption keeps what was judged; a document that is not there is passed over', { timeout }, async () => {
  const pairs = [...judged.values()].slice(0, 4)
  rmSync(kept())
  const stop = new AbortController()
  const silent = { start: () => undefined, log: () => undefined, stop: () => undefined }
  await assert.rejects(judge(log, run, pairs, { ...options(), signal: stop.signal, progress: { ...silent, update: (done) => void (done === 2 && stop.abort()) } }), Interrupted)
  assert.deepEqual([...judgedBefore(home, run).keys()], pairs.slice(0, 2).map(pairKey))
  const all = await judge(log, run, [{ ...pairs[0], place: 999 }, ...pairs], options())
  assert.deepEqual([...all.keys()].sort(), pairs.map(pairKey).sort())
})
