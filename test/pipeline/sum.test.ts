/** @file The weighted sum of runs: made-up runs of many documents, and two real checkpoints of one training. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { runId, seedOf, uniformAt, uniforms, UserError } from '../../src/base/index.js'
import { keyOf, type InfluenceValue, type Log, type NewRecord } from '../../src/log/index.js'
import { silentProgress, type PipelineContext, type WorkResult } from '../../src/pipeline/context.js'
import { checkpointsOf, scoreCheckpoints } from '../../src/pipeline/score-checkpoints.js'
import { splitWeight, sum } from '../../src/pipeline/sum.js'
import { readRun } from '../../src/pipeline/runs.js'
import { resolveSettings } from '../../src/settings/index.js'
import { append, documentOf, driveFit, driveScore, homeWith, influenceOf, momentsOf, queries, tablesOf, temporary } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

const ids = queries.map(({ id }) => id).sort()

const contextWith = (log: Log, options: Partial<PipelineContext> = {}): PipelineContext => ({
  log, progress: silentProgress, signal: new AbortController().signal, now: Date.now, ...options,
})
const driveSum = (log: Log, of: readonly string[], given: Readonly<Record<string, unknown>> = {}, options: Partial<PipelineContext> = {}): Promise<WorkResult> =>
  sum(resolveSettings('sum', { flags: { run: 's', k: 5, of, ...given }, env: {} }), contextWith(log, options))

/** A run's records, tables and moments, without its name; not its positions, which say where in the topic it read. */
const resultOf = async (log: Log, run: string): Promise<unknown> => {
  const moments = await momentsOf(log, ids, run)
  return [(await influenceOf(log, run)).map((value) => ({ ...value, run: '' })), await tablesOf(log, ids, { run }), ids.map((_, q) => moments.serializeRow(q))]
}

const rejectsWith = (work: Promise<unknown>, message: RegExp): Promise<void> =>
  assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error))
    assert.match(error.message, message)
    return true
  })

/** Makes up a run over the documents that are there: scores by chance, chunks of 512 in any order within, from `from` to `to` of each partition. */
const makeUpRun = async (
  log: Log, run: string, { from = 0, to = Infinity, without = [], settings = {} }:
  { from?: number; to?: number; without?: readonly number[]; settings?: Readonly<Record<string, unknown>> } = {},
): Promise<void> => {
  if (from === 0) {
    const record = {
      run, settings: { queries: ids, long: 'truncate', context: null, ...settings }, model: `/${run}`, queryModel: `/${run}`, checkpoint: run, queryCheckpoint: run, factors: 'f',
      factorsHash: 'f', join: 'dense', joinReason: 'said so', damping: {}, createdMs: 1, versions: {},
      queries: ids.map((id, q) => ({ id, prompt: id, completion: ' x', group: null, task: null, answer: null, steps: null, tokens: 3, promptTokens: 1, informationNats: 1 + q + run.length })),
    }
    await log.append([{ topic: 'runs', key: run, value: { run, createdMs: 1, settings: JSON.stringify(record) } }])
  }
  const release = new AbortController()
  for await (const assignment of log.assignments(runId(run), { signal: release.signal })) {
    const { partition } = assignment
    await assignment.restore()
    const documents = (await assignment.read(from, { recordsMax: 100_000, bytesMax: 1 << 28 })).filter(({ offset }) => offset < to)
    for (let at = 0; at < documents.length; at += 512) {
      const chunk = documents.slice(at, at + 512)
      const next = uniforms(seedOf(`${run} ${partition} ${from + at}`))
      const shuffled = chunk.map((record) => ({ record, by: next() })).sort((a, b) => a.by - b.by)
      const records = shuffled.flatMap(({ record: { key, offset, value } }): NewRecord<'influence'>[] => {
        if (value === undefined || without.includes(offset)) return []
        const pieces = offset % 7 === 0 ? 2 : 1
        return Array.from({ length: pieces }, (_, piece) => {
          const own = seedOf(`${run} ${key} ${piece}`)
          return {
            topic: 'influence', key: keyOf(run, key, ...(pieces > 1 ? [piece] : [])),
            value: {
              run, document: value.id, source: value.source, partition, offset, piece, pieces, tokens: 4, tokensTotal: 4 * pieces,
              loss: Math.fround(3 + uniformAt(own, 90)), gradientNorm: Math.fround(1 + uniformAt(own, 91)),
              influence: ids.map((_, q) => Math.fround(uniformAt(own, q) - 0.5)),
            },
          }
        })
      })
      await assignment.commit({ append: records, position: { offset: chunk[chunk.length - 1].offset + 1 } })
    }
    // All partitions are assigned at once, and the last one ends it.
    if (partition === 1) release.abort()
  }
}

describe('made-up runs', () => {
  const many = Array.from({ length: 3000 }, (_, i) => documentOf(i, { text: `t${i}` }))

  test('scores are Σ w·I, norms √(Σ w·norm²), losses the weighted mean; tables and moments are those of the sums', async () => {
    const { log } = await homeWith(many)
    await makeUpRun(log, 'a')
    await makeUpRun(log, 'b', { without: [3, 700] })
    const done = await driveSum(log, ['a=0.25', 'b=2'])
    assert.equal(done.finished, true)
    const [a, b, sums] = [await influenceOf(log, 'a'), await influenceOf(log, 'b'), await influenceOf(log, 's')]
    const place = ({ partition, offset, piece }: InfluenceValue): string => keyOf(partition, offset, piece)
    const ofB = new Map(b.map((value) => [place(value), value]))
    const wanted = a.flatMap((value) => {
      const other = ofB.get(place(value))
      if (other === undefined) return []
      const over = (of: (value: InfluenceValue) => number): number => 0.25 * of(value) + 2 * of(other)
      return [{
        ...value, run: 's', loss: Math.fround(over(({ loss }) => loss) / 2.25), gradientNorm: Math.fround(Math.sqrt(over(({ gradientNorm }) => gradientNorm ** 2))),
        influence: value.influence.map((_, q) => Math.fround(over(({ influence }) => influence[q]))),
      }]
    })
    assert.equal(wanted.length, b.length)
    assert.ok(wanted.length < a.length, 'what one run could not score is left out')
    assert.deepEqual(sums, wanted)
    assert.deepEqual([done.documents, done.pieces], [wanted.filter(({ piece }) => piece === 0).length, wanted.length])
    assert.ok(done.pieces > done.documents)
    const tables = await tablesOf(log, ids, { run: 's' })
    const best = wanted.toSorted((x, y) => y.influence[1] - x.influence[1]).slice(0, 5)
    assert.deepEqual(tables[1].top.map(({ score }) => score), best.map(({ influence }) => influence[1]))
    const lowest = wanted.map((value) => value.influence[2] / value.gradientNorm).sort((x, y) => x - y).slice(0, 5)
    assert.deepEqual(tables[2].bottomNormed.map(({ score }) => score), lowest)
    assert.equal((await momentsOf(log, ids, 's')).count, wanted.length)
    const record = await readRun(log, 's')
    assert.equal(record.joinReason, 'the sum of 0.25 × a + 2 × b')
    assert.deepEqual(record.queries.map(({ informationNats }) => informationNats), ids.map((_, q) => (0.25 * (2 + q) + 2 * (2 + q)) / 2.25))
  })

  test('a sum that is stopped again and again, while its runs grow, ends as an undisturbed one', async () => {
    const { log } = await homeWith(many)
    await makeUpRun(log, 'a', { to: 900 })
    await makeUpRun(log, 'b', { to: 700 })
    const stopped = async (): Promise<WorkResult> => {
      const stop = new AbortController()
      return driveSum(log, ['a', 'b=3'], { commitEveryMs: 0 }, { signal: stop.signal, progress: { ...silentProgress, update: () => stop.abort() } })
    }
    assert.equal((await stopped()).finished, false)
    await makeUpRun(log, 'a', { from: 900 })
    const first = await driveSum(log, ['a', 'b=3'])
    assert.match(first.notes.join(), /documents are not scored by all of the runs yet/)
    await makeUpRun(log, 'b', { from: 700 })
    for (let i = 0; i < 2; i++) await stopped()
    assert.equal((await driveSum(log, ['a', 'b=3'])).documentsLeft, 0)
    await driveSum(log, ['a', 'b=3'], { run: 'undisturbed' })
    assert.deepEqual(await resultOf(log, 's'), await resultOf(log, 'undisturbed'))
    assert.equal((await influenceOf(log, 's')).length, (await influenceOf(log, 'a')).length)
    const again = await driveSum(log, ['a', 'b=3'])
    assert.deepEqual([again.documents, again.finished], [0, true])
  })

  test('what does not belong together is refused by what differs', async () => {
    const { log } = await homeWith(many.slice(0, 20))
    await makeUpRun(log, 'a')
    await makeUpRun(log, 'b')
    await makeUpRun(log, 'asks-other', { settings: { queries: ['x'] } })
    await makeUpRun(log, 'cuts-other', { settings: { long: 'split' } })
    await rejectsWith(driveSum(log, ['a', 'nobody']), /there is no run "nobody"/)
    await rejectsWith(driveSum(log, ['a', 'asks-other']), /runs "a" and "asks-other" have other queries/)
    await rejectsWith(driveSum(log, ['a', 'cuts-other']), /runs "a" and "cuts-other" have other settings of --long/)
    await rejectsWith(driveSum(log, ['a', 'a=2']), /run "a" is named twice/)
    await rejectsWith(driveSum(log, ['a', 's']), /run "s" cannot be a part of itself/)
    for (const weight of ['0', '-1', 'x', '', 'Infinity']) await rejectsWith(driveSum(log, [`a=${weight}`]), /gives the weight/)
    await driveSum(log, ['a', 'b'])
    await rejectsWith(driveSum(log, ['a', 'b=2']), /run "s" began under other settings:\n {2}sum: 1 × a \+ 1 × b then, 1 × a \+ 2 × b now/)
    await rejectsWith(driveSum(log, ['a', 'b'], { k: 6 }), /k: 5 then, 6 now/)
    assert.deepEqual(splitWeight('dir=1/x=0.5'), ['dir=1/x', 0.5])
  })
})

describe('checkpoints of a training', () => {
  const folder = temporary()
  const models: string[] = []
  before(async () => {
    for (const seed of [1, 2]) models.push(await tinyCheckpoint(join(folder, `step-${seed}`), { seed }))
  })
  const settingsOf = (home: string, given: Readonly<Record<string, unknown>> = {}) =>
    resolveSettings('score', { flags: { factors: 'f', threads: 1, batchTokens: 128, run: 'r', k: 5, home, model: models[1], checkpoints: [`${models[0]}=0.5`], ...given }, env: {} })

  test('TracIn: each has its run, the run is their sum, and both go on where they were stopped', async () => {
    const documents = Array.from({ length: 40 }, (_, i) => documentOf(i))
    const { home, log } = await homeWith(documents)
    await driveFit(log, home, models[0], { strategy: 'identity', documents: 1 })
    const stop = new AbortController()
    let unit = ''
    const progress = { ...silentProgress, start: (_total: number | null, what: string) => void (unit = what), update: () => void (unit === 'documents' && stop.abort()) }
    const first = await scoreCheckpoints(settingsOf(home, { commitEveryMs: 0 }), contextWith(log, { signal: stop.signal, progress }))
    assert.equal(first.finished, false)
    const done = await scoreCheckpoints(settingsOf(home), contextWith(log))
    assert.equal(done.finished, true)
    assert.match(done.notes.join('\n'), /the sum of 0\.5 × r\.1 \+ 1 × r\.2/)
    const [one, two, both] = [await influenceOf(log, 'r.1'), await influenceOf(log, 'r.2'), await influenceOf(log, 'r')]
    assert.equal(both.length, documents.length)
    both.forEach((value, i) => assert.deepEqual(value.influence, value.influence.map((_, q) => Math.fround(0.5 * one[i].influence[q] + two[i].influence[q]))))
    // Each is what a run of its own checkpoint alone is.
    await driveScore(log, home, models[0], { run: 'alone' })
    assert.deepEqual(await resultOf(log, 'r.1'), await resultOf(log, 'alone'))
    await append(log, [documentOf(99)])
    assert.equal((await scoreCheckpoints(settingsOf(home), contextWith(log))).documents, 1)
  })

  test('--model is the last of them with the weight 1, unless the list names it; nothing is named twice, nothing followed', async () => {
    const [a, b] = models
    assert.deepEqual(checkpointsOf({ checkpoints: [`${a}=0.5`], model: b }), [{ model: a, weight: 0.5 }, { model: b, weight: 1 }])
    assert.deepEqual(checkpointsOf({ checkpoints: [`${b}=0.1`, a], model: b }), [{ model: b, weight: 0.1 }, { model: a, weight: 1 }])
    assert.throws(() => checkpointsOf({ checkpoints: [a, `${a}/=3`], model: b }), /is named twice/)
    const { home, log } = await homeWith([])
    await rejectsWith(scoreCheckpoints(settingsOf(home, { follow: true }), contextWith(log)), /--follow goes with one checkpoint/)
  })
})
