import assert from 'node:assert/strict'
import { test } from 'node:test'
import { answers, analyse, baselines, correlations, magnitudes, pairKey, pairsToJudge, placeOf, powerLaws, selfChecks, sources, spurious, type AnalysisState, type Baseline, type JudgedPair } from '../../src/analysis/index.js'
import { normalQuantile } from '../../src/analysis/statistics.js'
import { normals, uniforms } from '../../src/base/index.js'
import { madeDocuments, madeQueries, madeQuery, stateOf, textsOf } from './made.js'

const judgedAs = (state: AnalysisState, rows: number, concentrationOf: (query: string, rank: number) => number | null): Map<string, JudgedPair> =>
  new Map(state.queries.flatMap(({ id }, q) => {
    const { places, pieces } = state.rows(q, 'raw', 'top')
    return Array.from({ length: rows }, (_, rank): [string, JudgedPair] => {
      const pair = { query: id, place: places[rank], piece: pieces[rank] }
      return [pairKey(pair), { ...pair, document: `at ${places[rank]}`, source: 's', tokens: 9, concentration: concentrationOf(id, rank), token: 'x', tokenAt: 3, tokenShare: 0.9 }]
    })
  }))

test('documents that hang on one token are found at their ranks, and so is the first that does not', () => {
  const two = [madeQuery('q'), madeQuery('r', { group: 'factual' })]
  const state = stateOf(two, madeDocuments({ seed: 5, documents: 100, queries: two }))
  // 2/3 itself is not above 2/3; nothing at all is not flagged.
  const found = spurious(state, 'raw', judgedAs(state, 5, (query, rank) => (query === 'q' ? [0.9, 0.7, 2 / 3, 0.1, 1][rank] : rank === 0 ? null : 0.2)))
  assert.deepEqual([found.rows, found.judged], [5, 10])
  assert.deepEqual(found.flagged.map(({ query, rank, score }) => [query, rank, score]), [0, 1, 4].map((rank) => ['q', rank, state.rows(0, 'raw', 'top').scores[rank]]))
  assert.deepEqual(found.queries.map(({ judged, flagged, firstSound }) => [judged, flagged, firstSound]), [[5, 3, 2], [5, 0, 0]])
  assert.deepEqual(found.groups.map(({ group, flagged, median, firstFlagged }) => [group, flagged, median, firstFlagged]), [['reasoning', 3, 0.7, 1], ['factual', 0, 0.2, 0]])
})

test('pairs to judge are the first of both tables, each once; what was not judged leaves a gap, not an error', () => {
  const one = [madeQuery('q')]
  const state = stateOf(one, madeDocuments({ seed: 6, documents: 50, queries: one }))
  const pairs = pairsToJudge(state, 8)
  const tops = (['raw', 'normed'] as const).flatMap((kind) => [...state.rows(0, kind, 'top').places.subarray(0, 8)])
  assert.deepEqual(new Set(pairs.map(({ place }) => place)), new Set(tops))
  assert.equal(new Set(pairs.map(pairKey)).size, pairs.length)
  const judged = judgedAs(state, 4, () => 0.8)
  judged.delete(pairKey({ query: 'q', place: state.rows(0, 'raw', 'top').places[2], piece: 0 }))
  assert.deepEqual([spurious(state, 'raw', judged).rows, spurious(state, 'raw', judged).judged], [2, 3])
  assert.equal(spurious(state, 'raw', new Map()).judged, 0)
})

test('documents that share most words with a query are named for reading, with what they are', () => {
  const one = [madeQuery('q', { prompt: 'the capital of Ashnia is', completion: ' Kelgate.' })]
  const documents = madeDocuments({
    seed: 7, documents: 60, queries: one, score: (i) => 60 - i, text: (i) => (i === 9 ? 'Kelgate is the capital of Ashnia.' : i === 3 ? 'Ashnia has rivers' : 'nothing of note'),
  })
  const state = stateOf(one, documents)
  const [{ readings }] = answers(state, textsOf(state, documents), 'raw').queries
  assert.deepEqual(readings.map(({ rank, document, excerpt }) => [rank, document, excerpt]), [[9, 'd9', 'Kelgate is the capital of Ashnia.'], [3, 'd3', 'Ashnia has rivers']])
  assert.equal(readings[0].place, placeOf(documents[9].partition, documents[9].offset))
  assert.ok(readings[0].overlap > readings[1].overlap)
})

test("the completion's part is the text's score less its prompt's", () => {
  const one = [madeQuery('q', { informationNats: 0.01 })]
  const state = stateOf(one, madeDocuments({ seed: 8, documents: 20, queries: one }))
  assert.deepEqual(selfChecks(state, [{ raw: -2, normed: -1, promptRaw: -5 }]).map(({ kind, completionPart, informationNats }) => [kind, completionPart, informationNats]), [['raw', 3, 0.01], ['normed', 3, 0.01]])
})

test('the normal quantile', () => {
  for (const [p, z] of [[0.5, 0], [0.975, 1.959964], [0.025, -1.959964], [1e-6, -4.753424]]) assert.ok(Math.abs(normalQuantile(p) - z) < 1e-5, `${p}`)
})

const baselinesOf = (state: AnalysisState, documents: Parameters<typeof textsOf>[1]): readonly Baseline[] =>
  baselines(state, 'raw', { correlations: correlations(state, 'raw'), magnitudes: magnitudes(state, 'raw'), powerLaws: powerLaws(state, 'raw'), answers: answers(state, textsOf(state, documents), 'raw'), sources: sources(state, 'raw') }).rows

test('of normal scores and dealt labels the figures are their baselines; of planted ones they are not', () => {
  const queries = madeQueries(4)
  const inRange = { yes: 0, all: 0 }
  for (let seed = 0; seed < 20; seed++) {
    const documents = madeDocuments({ seed: 200 + seed, documents: 1000, queries })
    const rows = baselinesOf(stateOf(queries, documents), documents)
    for (const { range, value } of rows) {
      if (range === null) continue
      inRange.all++
      if (value >= range[0] && value <= range[1]) inRange.yes++
    }
    const share = rows.find(({ measure }) => measure.startsWith('held by'))
    const slope = rows.find(({ measure }) => measure.startsWith('mean slope'))
    assert.ok(share !== undefined && Math.abs(share.value / share.baseline - 1) < 0.25, JSON.stringify(share))
    // The last of the positive scores are anywhere near 0, where a logarithm is steep.
    assert.ok(slope !== undefined && Math.abs(slope.value / slope.baseline - 1) < 0.35, JSON.stringify(slope))
  }
  assert.ok(inRange.yes >= 0.85 * inRange.all, `${inRange.yes} of ${inRange.all}`)
  const planted = madeDocuments({ seed: 1, documents: 1000, queries, source: (i) => (i % 20 === 0 ? 'lessons' : 'web'), score: (i, q, own) => own + (queries[q].task === 'slope' && queries[q].group === 'reasoning' && i % 20 === 0 ? 4 : 0) })
  const rows = baselinesOf(stateOf(queries, planted), planted)
  for (const figure of ['correlation', 'overlap', 'sources'] as const)
    assert.ok(rows.some((row) => row.figure === figure && row.range !== null && row.value > row.range[1]), figure)
})

test('intervals of sources hold the true multiplier about as often as they say, over many seeds', () => {
  const size = 8
  const queries = Array.from({ length: size }, (_, q) => madeQuery(`q${q}`))
  const held = { varied: 0, same: 0, bars: 0 }
  const seeds = 60
  for (let seed = 0; seed < seeds; seed++) {
    // Every query draws on "lessons" in its own measure about a common one; documents differ, too.
    const normal = normals(9000 + seed)
    const uniform = uniforms(9500 + seed)
    const own = queries.map(() => 1 + 0.3 * normal())
    for (const [name, of] of [['varied', own], ['same', queries.map(() => 1)]] as const) {
      const isLesson = Array.from({ length: 1500 }, () => uniform() < 0.2)
      const documents = madeDocuments({
        seed: 10_000 + 2 * seed + (name === 'same' ? 1 : 0), documents: 1500, queries, source: (i) => (isLesson[i] ? 'lessons' : 'web'),
        score: (i, q, score, shared) => score + shared / 2 + (isLesson[i] ? of[q] : 0),
      })
      const bar = sources(stateOf(queries, documents), 'raw').shares.find((share) => share.source === 'lessons' && share.end === 'top' && share.k === 50)
      assert.ok(bar !== undefined)
      const truth = truths[name]
      if (bar.interval[0] <= truth && truth <= bar.interval[1]) held[name]++
    }
    held.bars++
  }
  // 95 % is 57 of 60; a binomial of 60 at 0.95 is below 51 once in 200. "A little wide" is allowed, narrow is not.
  assert.ok(held.varied >= 51, `${held.varied} of ${held.bars} where queries differ`)
  assert.ok(held.same >= 51, `${held.same} of ${held.bars} where they are alike`)
})

/** The share of lessons among the first 50 of 1500 over their share of all, for any query of the kind; by a great many. */
const truths: Readonly<Record<'varied' | 'same', number>> = (() => {
  const truthOf = (deviation: number): number => {
    const normal = normals(77)
    const uniform = uniforms(78)
    let [lessons, share] = [0, 0]
    const lists = 400
    for (let list = 0; list < lists; list++) {
      const shift = 1 + deviation * normal()
      const rows = Array.from({ length: 1500 }, () => {
        const isLesson = uniform() < 0.2
        return { isLesson, score: normal() + normal() / 2 + (isLesson ? shift : 0) }
      })
      const count = rows.filter(({ isLesson }) => isLesson).length
      lessons += rows.sort((a, b) => b.score - a.score).slice(0, 50).filter(({ isLesson }) => isLesson).length / 50 / (count / 1500)
      share++
    }
    return lessons / share
  }
  return { varied: truthOf(0.3), same: truthOf(0) }
})()

test('all figures of no documents are there, empty', () => {
  const one = [madeQuery('q')]
  const state = stateOf(one, [])
  const { baselines: none, spurious: nothing } = analyse(state, textsOf(state, []))
  assert.deepEqual([none.raw.rows, nothing.raw.judged], [[], 0])
})
