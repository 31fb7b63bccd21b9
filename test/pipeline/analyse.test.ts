import assert from 'node:assert/strict'
import { readFileSync, writeFileSync, existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { keyOf, type InfluenceValue, type Log } from '../../src/log/index.js'
import { analyseRun, type RunAnalyses } from '../../src/pipeline/analyse.js'
import { openLog } from '../../src/pipeline/home.js'
import { Interrupted } from '../../src/pipeline/outputs/index.js'
import { writeRuisDemo } from '../../src/pipeline/outputs/ruis-demo.js'
import { silentProgress } from '../../src/pipeline/context.js'
import type { RunRecord } from '../../src/settings/index.js'
import { temporary } from './drive.js'
import { influenceOf, makeRun, normOf } from './made-run.js'

const logs: Log[] = []
after(async () => {
  for (const log of logs) await log[Symbol.asyncDispose]()
})
const home = async (): Promise<{ folder: string; log: Log }> => {
  const folder = temporary()
  const log = await openLog({ home: folder }, { partitions: 3 })
  logs.push(log)
  return { folder, log }
}
const bytes = ({ state }: RunAnalyses): string => Buffer.from(state.serialize()).toString('base64')

/** More documents of a run that was made: their influence alone, in partition 1. */
const more = (log: Log, run: RunRecord, from: number, count: number): Promise<unknown> =>
  log.append(Array.from({ length: count }, (_, at) => {
    const i = from + at
    const value: InfluenceValue = {
      run: run.run, document: `more${i}`, source: 'late', partition: 1, offset: 100_000 + i, piece: 0, pieces: 1, tokens: 4, tokensTotal: 4, loss: 1, gradientNorm: normOf(i),
      influence: run.queries.map((_query, q) => influenceOf(i, q)),
    }
    return { topic: 'influence' as const, key: keyOf(run.run, value.source, value.document), partition: 1, value }
  }))

test('a run is analysed as its records say; what comes later is read alone, and ends in the same bits', async () => {
  const { folder, log } = await home()
  await makeRun(log, 'another', { documents: 20, queries: 1 })
  const run = await makeRun(log, 'made', { documents: 250, queries: 3 })
  const first = await analyseRun(log, run, { home: folder })
  assert.equal(first.analyses.documents, 275) // every tenth is two pieces
  assert.equal(first.state.texts, 250)
  assert.deepEqual(first.state.sources().map(({ count }) => count).sort((a, b) => a - b), [125, 150])
  // Correlation against a plain sum over the matrix, pieces and all.
  const scores = Array.from({ length: 250 }, (_, i) => (i % 10 === 0 ? [i, i + 1] : [i])).flat()
  const column = (q: number): number[] => scores.map((i) => influenceOf(i, q))
  const mean = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0) / x.length
  const covariance = (x: readonly number[], y: readonly number[]): number => mean(x.map((value, i) => (value - mean(x)) * (y[i] - mean(y))))
  const expected = covariance(column(0), column(2)) / Math.sqrt(covariance(column(0), column(0)) * covariance(column(2), column(2)))
  assert.ok(Math.abs(first.analyses.correlations.raw.matrix[0][2] - expected) < 1e-12)

  assert.equal((await analyseRun(log, run, { home: folder })).recordsRead, 0)
  await more(log, run, 0, 40)
  const later = await analyseRun(log, run, { home: folder })
  assert.equal(later.recordsRead, 40)
  assert.equal(later.analyses.documents, 315)
  assert.equal(bytes(later), bytes(await analyseRun(log, run, { home: null })))
  const ends = (await log.describe()).find(({ topic }) => topic === 'influence')?.ends
  assert.deepEqual(later.offsets.map(({ end }) => end), ends)
})

test('a cache that is damaged, or of a run that was begun anew, is made again; another label field has its own', async () => {
  const { folder, log } = await home()
  const run = await makeRun(log, 'made', { documents: 60, queries: 2 })
  const expected = bytes(await analyseRun(log, run, { home: folder }))
  const states = readdirSync(join(folder, 'analyses', 'made')).map((name) => join(folder, 'analyses', 'made', name))
  assert.equal(states.length, 3)
  writeFileSync(states[0], readFileSync(states[0]).subarray(0, 100))
  writeFileSync(states[1], 'nonsense')
  const again = await analyseRun(log, run, { home: folder })
  assert.equal(bytes(again), expected)
  assert.ok(again.recordsRead > 0 && again.recordsRead < 66)
  assert.equal((await analyseRun(log, { ...run, createdMs: run.createdMs + 1 }, { home: folder })).recordsRead, 66)
  assert.equal((await analyseRun(log, { ...run, createdMs: run.createdMs + 1 }, { home: folder, labelField: 'l' })).recordsRead, 66)
})

test('an interruption keeps what was read; without a home nothing is kept', async () => {
  const { folder, log } = await home()
  const run = await makeRun(log, 'made', { documents: 60, queries: 2 })
  await assert.rejects(analyseRun(log, run, { home: folder, signal: AbortSignal.abort() }), Interrupted)
  await analyseRun(log, run, { home: null })
  assert.ok(!existsSync(join(folder, 'analyses', 'made', '0.state')))
})

test('a run without a document yet is analysed: there is nothing, and no error', async () => {
  const { folder, log } = await home()
  const run = await makeRun(log, 'made', { documents: 0, queries: 2 })
  const { analyses } = await analyseRun(log, run, { home: folder })
  assert.equal(analyses.documents, 0)
  assert.ok(analyses.findings.every(({ verdict }) => verdict === 'not measured'))
})

test('a record that does not fit the run is told, not counted', async () => {
  const { log } = await home()
  const run = await makeRun(log, 'made', { documents: 10, queries: 2 })
  await more(log, { ...run, queries: run.queries.slice(1) }, 0, 1)
  await assert.rejects(analyseRun(log, run, { home: null }), (error: unknown) => error instanceof UserError && /1 scores, the run 2 queries/.test(error.message))
})

test('the form of the demo of Ruis et al.: scores are those of the run, ranks those of a sort of all documents', async () => {
  const { folder, log } = await home()
  const run = await makeRun(log, 'made', { documents: 90, queries: 2 })
  const out = join(folder, 'demo')
  const result = await writeRuisDemo(log, run, { out, force: false, rows: 4, progress: silentProgress, signal: new AbortController().signal })
  assert.equal(result.scored, 99)
  const json = <T>(name: string): T => JSON.parse(readFileSync(join(out, `${name}.json`), 'utf8')) as T
  const ids = json<string[]>('training_ids')
  assert.equal(ids.length, result.documents)
  assert.deepEqual(json<string[]>('test_ids'), ['q0', 'q1'])
  const matrix = (name: string): { bytes: Buffer; head: string } => {
    const file = readFileSync(join(out, `${name}.npy`))
    const length = 10 + file.readUInt16LE(8)
    return { bytes: file.subarray(length), head: file.subarray(0, length).toString('latin1') }
  }
  const [dot, cos, ranks, normed] = ['influences_dot', 'influences_cos', 'ranks', 'ranks_normed'].map(matrix)
  assert.match(ranks.head, /'<u4'.*\(2, \d+\)/)
  const all = Array.from({ length: 90 }, (_, i) => (i % 10 === 0 ? [{ i, piece: 0 }, { i, piece: 1 }] : [{ i, piece: 0 }])).flat()
  const texts = json<(string | null)[]>('training_sequences')
  ids.forEach((id, d) => {
    const [, number, piece = '0'] = /^d(\d+)(?:#(\d+))?$/.exec(id) ?? []
    const i = Number(number)
    assert.equal(texts[d], `text of d${i}\nsecond line`)
    for (const q of [0, 1]) {
      const own = influenceOf(i + Number(piece), q)
      assert.equal(dot.bytes.readFloatLE(4 * (q * ids.length + d)), Math.fround(own))
      assert.equal(cos.bytes.readFloatLE(4 * (q * ids.length + d)), Math.fround(own / normOf(i)))
      assert.equal(ranks.bytes.readUInt32LE(4 * (q * ids.length + d)), all.filter((other) => influenceOf(other.i + other.piece, q) > own).length)
      const ownNormed = Math.fround(own / normOf(i))
      assert.equal(normed.bytes.readUInt32LE(4 * (q * ids.length + d)), all.filter((other) => Math.fround(influenceOf(other.i + other.piece, q) / normOf(other.i)) > ownNormed).length)
    }
  })
})
