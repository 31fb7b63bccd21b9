import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync, truncateSync, cpSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { runId, UserError } from '../../src/base/index.js'
import { keyOf, type InfluenceValue, type Log } from '../../src/log/index.js'
import { homePaths } from '../../src/pipeline/home.js'
import type { RunRecord } from '../../src/settings/index.js'
import { RunningMoments, type QueryTables, type Row } from '../../src/table/index.js'
import {
  addQueries, append, deadLettersOf, documentOf, driveFit, driveScore, homeWith, influenceOf, momentsOf, queries, stateOf, tablesOf, temporary, textOf,
} from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

const folder = temporary()
const ids = queries.map(({ id }) => id).sort()
const documents = Array.from({ length: 60 }, (_, i) => documentOf(i))
let model = ''
/** A home with factors that the tests below start from. */
let fitted = ''

const withFactors = async (of: Parameters<typeof homeWith>[0] = documents, options: Parameters<typeof homeWith>[1] = {}) => {
  const made = await homeWith(of, options)
  cpSync(homePaths(fitted).factors, homePaths(made.home).factors, { recursive: true })
  return made
}

before(async () => {
  model = await tinyCheckpoint(join(folder, 'model'), { overflowing: '~' })
  const { home, log } = await homeWith(documents)
  await driveFit(log, home, model)
  fitted = home
})

/** The tables of a run from its influence records: sorted, ties by document. */
const bruteTables = (influence: readonly InfluenceValue[], q: number, k: number): QueryTables => {
  const ends = (normed: boolean, sign: 1 | -1): readonly Row[] =>
    influence
      .map(({ document, source, piece, partition, offset, influence: scores, gradientNorm }) => ({
        document, source, piece, partition, offset, score: (normed ? scores[q] / gradientNorm : scores[q]) + 0,
      }) as Row)
      .sort((a, b) => sign * (b.score - a.score) || (a.document < b.document ? -1 : 1))
      .slice(0, k)
  return { top: ends(false, 1), bottom: ends(false, -1), topNormed: ends(true, 1), bottomNormed: ends(true, -1) }
}

/** Tables, moments and records of a run agree, and every document is there once. */
const assertSound = async (log: Log, { of, k = 5 }: { of: number; k?: number }): Promise<readonly InfluenceValue[]> => {
  const influence = await influenceOf(log)
  assert.equal(influence.length, of)
  assert.equal(new Set(influence.map(({ partition, offset, piece }) => keyOf(partition, offset, piece))).size, of)
  const tables = await tablesOf(log, ids, { k })
  for (const q of ids.keys()) assert.deepEqual(tables[q], bruteTables(influence, q, k), `tables of ${ids[q]}`)
  const moments = await momentsOf(log, ids)
  const brute = new RunningMoments(ids.length)
  brute.insert(influence.map((value) => ({ ...value, document: documentOf(0).id as never, influence: Float32Array.from(value.influence) })))
  for (const q of ids.keys()) {
    const own = brute.serializeRow(q)
    assert.deepEqual(moments.serializeRow(q), own, `moments of ${ids[q]}`)
    const sum = influence.reduce((total, value) => total + value.influence[q], 0)
    assert.ok(Math.abs(moments.raw.sum(q) - sum) < 1e-6 * influence.reduce((total, value) => total + Math.abs(value.influence[q]), 0))
  }
  return influence
}

const rejectsWith = (work: Promise<unknown>, message: RegExp, fix?: RegExp): Promise<void> =>
  assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error))
    assert.match(error.message, message)
    if (fix !== undefined) assert.match(error.fix ?? '', fix)
    return true
  })

const filesOf = (path: string): ReadonlyMap<string, number> =>
  new Map(readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => {
    const own = join(entry.parentPath, entry.name)
    return [own, statSync(own).mtimeMs]
  }))

describe('score', () => {
  test('every document once; tables and moments are those of the records', async () => {
    const { home, log } = await withFactors()
    const result = await driveScore(log, home, model)
    assert.deepEqual([result.documents, result.deadLetters, result.documentsLeft, result.finished], [60, 0, 0, true])
    const influence = await assertSound(log, { of: 60 })
    assert.ok(influence.every(({ pieces, tokens, tokensTotal, loss, gradientNorm }) => pieces === 1 && tokens === tokensTotal && loss > 0 && gradientNorm > 0))
    assert.equal(result.tokens, influence.reduce((sum, { tokens }) => sum + tokens, 0))
    // Again: nothing to do, nothing done.
    const state = await stateOf(log)
    assert.deepEqual((await driveScore(log, home, model)).documents, 0)
    assert.equal(await stateOf(log), state)
  })

  test('other batches, partitions and orders come to the same scores', async () => {
    const { home, log } = await withFactors()
    await driveScore(log, home, model)
    const wanted = new Map((await influenceOf(log)).map((value) => [value.document, value]))
    for (const [partitions, batchTokens, shuffled] of [[1, 32, false], [3, 1024, true]] as const) {
      const other = await withFactors(shuffled ? [...documents].reverse() : documents, { partitions })
      await driveScore(other.log, other.home, model, { batchTokens })
      const influence = await assertSound(other.log, { of: 60 })
      for (const { document, influence: scores, loss, gradientNorm } of influence) {
        const value = wanted.get(document)
        assert.ok(value !== undefined)
        const near = (a: number, b: number, scale: number): void => assert.ok(Math.abs(a - b) <= 2e-5 * scale, `${document}: ${a} and ${b}`)
        near(loss, value.loss, value.loss)
        near(gradientNorm, value.gradientNorm, value.gradientNorm)
        const scale = Math.hypot(...value.influence)
        scores.forEach((score, q) => near(score, value.influence[q], scale))
      }
    }
  })

  for (const long of ['split', 'truncate'] as const)
    test(`--long ${long} says so in the records`, async () => {
      const { home, log } = await withFactors([documentOf(0, { text: 'the river of stone' }), documentOf(1, { text: textOf(3).repeat(4) })])
      await driveScore(log, home, model, { long, context: 20 })
      const influence = await influenceOf(log)
      const pieces = influence.filter(({ document }) => document === 'd1').sort((a, b) => a.piece - b.piece)
      const total = pieces[0].tokensTotal
      assert.ok(total > 40)
      const expected = long === 'split' ? Math.ceil(total / 20) : 1
      assert.deepEqual(pieces.map(({ piece, pieces: of }) => [piece, of]), Array.from({ length: expected }, (_, i) => [i, expected]))
      assert.equal(pieces.reduce((sum, { tokens }) => sum + tokens, 0), long === 'split' ? total : 20)
      await assertSound(log, { of: 1 + expected })
    })

  test('a document in pieces is one document, in what is told at the end and on the way; its pieces are told beside', async () => {
    const broken = textOf(5).repeat(4)
    const { home, log } = await withFactors([
      documentOf(0, { text: 'the river of stone' }), documentOf(1, { text: textOf(3).repeat(4) }), documentOf(2, { text: broken }),
      documentOf(3, { text: `${broken} ~` }), documentOf(4, { text: 'x' }), // the last piece of the one overflows, the other is too short
    ])
    const told: { done: number; note: string; total: number }[] = []
    const update = (done: number, note = '', total = 0): void => void told.push({ done, note, total })
    let unit = ''
    const start = (_total: number | null, what: string): void => void (unit = what)
    const result = await driveScore(log, home, model, { long: 'split', context: 20, batchTokens: 20 }, { progress: { start, update: (...given) => unit === 'documents' && update(...given) } })
    const influence = await influenceOf(log)
    const last = (influence.find(({ document }) => document === 'd3')?.pieces ?? 0) - 1
    assert.deepEqual((await deadLettersOf(log, 'r')).map(({ document, piece }) => [document, piece]).sort(), [['d3', last], ['d4', null]])
    assert.deepEqual([result.documents, result.pieces, result.deadLetters, result.documentsLeft], [4, influence.length, 2, 0])
    assert.ok(influence.length > 8)
    assert.ok(told.every(({ done, total }) => done <= 5 && total <= 5), JSON.stringify(told))
    assert.deepEqual([told.at(-1)?.done, told.at(-1)?.total], [5, 5])
    assert.match(told.at(-1)?.note ?? '', new RegExp(`^${influence.length} pieces, [\\d,]+ tokens, 2 dead letters$`))
  })

  test('what cannot be decoded, tokenized or scored goes to dead-letters with its cause, once; the others of its batch go on', async () => {
    const bad = [
      documentOf(100, { text: 'a ~ b' }), documentOf(101, { text: '' }), documentOf(102, { text: 'x' }), documentOf(103, { text: null, tokens: [1, 5000] }),
      documentOf(104, { text: null }), documentOf(105, { text: null, tokens: [3, 4, 5] }),
    ]
    const { home, log } = await withFactors([...documents.slice(0, 20), ...bad, ...documents.slice(20)])
    const result = await driveScore(log, home, model, { batchTokens: 1024 })
    assert.deepEqual([result.documents, result.deadLetters, result.documentsLeft, result.finished], [61, 5, 0, true])
    await assertSound(log, { of: 61 })
    const letters = (await deadLettersOf(log, 'r')).map(({ document, stage, cause }) => `${document} ${stage}: ${cause}`).sort()
    assert.match(letters[0], /^d100 score: its loss is NaN/)
    assert.match(letters[1], /^d101 tokenize: .*no token/)
    assert.match(letters[2], /^d102 tokenize: .*one token/)
    assert.match(letters[3], /^d103 tokenize: token id 5000/)
    assert.match(letters[4], /^d104 decode: /)
    assert.equal(letters.length, 5)
    await driveScore(log, home, model, { batchTokens: 1024 })
    assert.equal((await deadLettersOf(log, 'r')).length, 5)
  })

  test('no documents are no error; fewer documents than k fill shorter tables', async () => {
    const { home, log } = await withFactors([])
    assert.deepEqual((await driveScore(log, home, model, { k: 1000 })).finished, true)
    assert.deepEqual((await tablesOf(log, ids, { k: 1000 }))[0].top, [])
    await append(log, documents.slice(0, 3))
    assert.equal((await driveScore(log, home, model, { k: 1000 })).documents, 3)
    await assertSound(log, { of: 3, k: 1000 })
  })

  test('what does not fit together is refused before anything is scored', async () => {
    const { home, log } = await withFactors()
    await rejectsWith(driveScore(log, home, model, { factors: 'nobody' }), /no factor set "nobody"/, /tributary fit/)
    await rejectsWith(driveScore(log, home, model, { queries: ['nobody'] }), /no query "nobody"/)
    await rejectsWith(driveScore(log, home, model, { group: ['nobody'] }), /nobody/)
    const wider = await tinyCheckpoint(join(folder, 'wider'), { intermediate: 64 })
    await rejectsWith(driveScore(log, home, wider), /was fitted on .* but the model has 64×32/, /fit another set/)
    await rejectsWith(driveScore(log, home, model, { queryModel: wider }), /was fitted on .* but the model has 64×32/)
    await rejectsWith(driveScore(log, home, join(folder, 'nowhere')), /nowhere/)
    const none = await homeWith(documents)
    cpSync(homePaths(fitted).factors, homePaths(none.home).factors, { recursive: true })
    await none.log.append(ids.map((id) => ({ topic: 'queries' as const, key: id, value: null })))
    await rejectsWith(driveScore(none.log, none.home, model), /no queries/, /queries add/)
    assert.equal((await influenceOf(log)).length, 0)
    // Nothing of it holds the run: it can begin.
    assert.equal((await driveScore(log, home, model)).documents, 60)
  })

  test('a run keeps the length of batches that was chosen when it began, whatever memory there is later', async () => {
    const { home, log } = await withFactors()
    const chosen = async (run: string): Promise<unknown> => (JSON.parse((await log.latest('runs', run))[0].value?.settings ?? '') as RunRecord).settings.batchTokens
    const given = { batchTokens: undefined, run: 'chosen' }
    await driveScore(log, home, model, { ...given, memory: '1GiB' })
    assert.equal(await chosen('chosen'), 2048)
    // Too little for batches of that length: a new run would have shorter ones.
    assert.equal((await driveScore(log, home, model, { ...given, memory: '112MiB' })).documentsLeft, 0)
    assert.equal(await chosen('chosen'), 2048)
    await driveScore(log, home, model, { ...given, run: 'small', memory: '112MiB' })
    assert.equal(await chosen('small'), 1024)
    await rejectsWith(driveScore(log, home, model, { ...given, batchTokens: 1024 }), /batchTokens: 2048 then, 1024 now/)
    assert.deepEqual((await influenceOf(log, 'small')).map(({ influence }) => influence), (await influenceOf(log, 'chosen')).map(({ influence }) => influence))
  })

  test('a run goes on only under the settings that it began with', async () => {
    const { home, log } = await withFactors()
    await driveScore(log, home, model)
    await rejectsWith(driveScore(log, home, model, { k: 6, batchTokens: 64 }), /began under other settings:\n {2}batchTokens: 128 then, 64 now\n {2}k: 5 then, 6 now/, /another --run|new --run/)
    await addQueries(log, [{ id: 'late', prompt: 'then', completion: ' the', group: 'dry' }])
    await rejectsWith(driveScore(log, home, model), /added late/)
    assert.equal((await driveScore(log, home, model, { queries: ids, threads: 2 })).finished, true)
    const other = await tinyCheckpoint(join(folder, 'other'), { seed: 2 })
    await rejectsWith(driveScore(log, home, other, { queries: ids }), /checkpoint: /)
  })

  test('a second worker of the same run is refused, another run is not', async () => {
    const { home, log } = await withFactors()
    const controller = new AbortController()
    const follower = driveScore(log, home, model, { follow: true }, { signal: controller.signal })
    while ((await influenceOf(log)).length < 60) await new Promise((resolve) => setTimeout(resolve, 20))
    await rejectsWith(driveScore(log, home, model), new RegExp(`${process.pid}`))
    assert.equal((await driveScore(log, home, model, { run: 'other' })).documents, 60)
    controller.abort()
    assert.equal((await follower).finished, true)
  })

  test('--follow scores what comes later, and ends with all of it committed', async () => {
    const { home, log } = await withFactors(documents.slice(0, 10))
    const controller = new AbortController()
    const follower = driveScore(log, home, model, { follow: true }, { signal: controller.signal })
    for (const count of [25, 60]) {
      await append(log, documents.slice(0, count))
      while ((await influenceOf(log)).length < count) await new Promise((resolve) => setTimeout(resolve, 20))
    }
    controller.abort()
    const { documents: scored, documentsLeft } = await follower
    assert.deepEqual([scored, documentsLeft], [60, 0])
    await assertSound(log, { of: 60 })
  })

  test('stopped after any number of outcomes and started again, it ends with the bits of an undisturbed run', async () => {
    const whole = await withFactors()
    await driveScore(whole.log, whole.home, model)
    const wanted = JSON.parse(await stateOf(whole.log)) as unknown
    const { home, log } = await withFactors()
    let starts = 0
    for (let finished = false; !finished; starts++) {
      const controller = new AbortController()
      // Aborted at the first, the second, the third, ... outcome of its turn.
      let outcomes = 0
      const result = await driveScore(log, home, model, {}, {
        signal: controller.signal,
        progress: { update: (_done, note) => void (note?.includes('tokens') === true && ++outcomes > starts % 4 && controller.abort()) },
      })
      assert.equal(result.documentsLeft === 0 || !result.finished, true)
      finished = result.finished
      assert.ok(starts < 100)
    }
    assert.ok(starts > 4, `${starts} starts`)
    assert.deepEqual(JSON.parse(await stateOf(log)), wanted)
  })

  test('the query cache is used again by other runs; a damaged file is computed again', async () => {
    const { home, log } = await withFactors()
    await driveScore(log, home, model, { join: 'low-rank', rank: 4 })
    const before = filesOf(homePaths(home).queryCache)
    assert.equal(before.size, 2 * ids.length)
    await driveScore(log, home, model, { join: 'low-rank', rank: 4, run: 'again' })
    assert.deepEqual(filesOf(homePaths(home).queryCache), before)
    await driveScore(log, home, model, { join: 'low-rank', rank: 3, run: 'narrower' })
    assert.equal(filesOf(homePaths(home).queryCache).size, 3 * ids.length)
    const contents = new Map([...before.keys()].map((path) => [path, readFileSync(path)]))
    for (const path of before.keys()) truncateSync(path, Math.floor(statSync(path).size / 2))
    await driveScore(log, home, model, { join: 'low-rank', rank: 4, run: 'mended' })
    for (const [path, bytes] of contents) assert.ok(readFileSync(path).equals(bytes), path)
    const scoresOf = async (run: string) => (await influenceOf(log, run)).map(({ influence }) => influence)
    assert.deepEqual(await scoresOf('again'), await scoresOf('r'))
    assert.deepEqual(await scoresOf('mended'), await scoresOf('r'))
  })

  test('queries of another checkpoint of the same shape: theirs are the scores, and the run keeps both', async () => {
    const tuned = await tinyCheckpoint(join(folder, 'tuned'), { seed: 5 })
    const { home, log } = await withFactors()
    await driveScore(log, home, model)
    await driveScore(log, home, model, { run: 'tuned', queryModel: tuned })
    const [plain, other] = [await influenceOf(log), await influenceOf(log, 'tuned')]
    assert.deepEqual(other.map(({ loss, gradientNorm }) => [loss, gradientNorm]), plain.map(({ loss, gradientNorm }) => [loss, gradientNorm]))
    assert.ok(other.some(({ influence }, i) => influence[0] !== plain[i].influence[0]))
    const [{ value }] = await log.latest('runs', 'tuned')
    const record = JSON.parse(value?.settings ?? '{}') as { checkpoint: string; queryCheckpoint: string }
    assert.notEqual(record.checkpoint, record.queryCheckpoint)
  })

  test('--rescore brings the scores of the dense join to the first rows', async () => {
    const { home, log } = await withFactors()
    await driveScore(log, home, model, { join: 'dense' })
    const exact = new Map((await influenceOf(log)).map((value) => [value.document as string, value]))
    const { notes } = await driveScore(log, home, model, { run: 'rough', join: 'low-rank', rank: 1, rescore: 3 })
    assert.ok(notes.some((note) => /3 rows .* full-rank/.test(note)), notes.join('\n'))
    assert.ok(notes.some((note) => /Pearson/.test(note)), notes.join('\n'))
    for (const [q, id] of ids.entries()) {
      const [{ value }] = await log.latest('rescored', keyOf('rough', id))
      assert.ok(value !== undefined && value.scored === 60)
      for (const [table, sign] of [[value.top, 1], [value.bottom, -1]] as const) {
        assert.equal(table.length, 3)
        table.forEach(({ score, document }, i) => {
          const wanted = exact.get(document)
          assert.ok(wanted !== undefined)
          assert.ok(Math.abs(score - wanted.influence[q]) <= 2e-5 * Math.hypot(...wanted.influence))
          if (i > 0) assert.ok(sign * (table[i - 1].score - score) >= 0)
        })
      }
    }
    assert.deepEqual((await log.positions(runId('rough'))).map(({ detail }) => detail), [undefined, undefined])
  })
})
