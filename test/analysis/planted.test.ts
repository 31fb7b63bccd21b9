import assert from 'node:assert/strict'
import { test } from 'node:test'
import { analyse, answers, correlations, findings, isSpurious, concentration, magnitudes, powerLaws, selfChecks, sources, type AnalysedDocument, type Verdict } from '../../src/analysis/index.js'
import { powerLaw } from '../../src/analysis/power-law.js'
import { madeDocuments, madeQueries, madeQuery, stateOf, textsOf } from './made.js'

const queries = madeQueries(6)
const isOf = (q: number, task: string): boolean => queries[q].group === 'reasoning' && queries[q].task === task

/** A corpus with everything in it that the paper found. */
const planted = (seed: number, documents = 2000): AnalysedDocument[] =>
  madeDocuments({
    seed, documents, queries,
    // Documents 0, 20, 40... teach slopes, and 1, 21... sums; documents 2 + 20 q state the answer of fact q.
    text: (i) => (i % 20 === 2 && i < 20 * 6 ? `It is Answer${'abcdefghijkl'[Math.floor(i / 20)]}, they say` : 'nothing of note'),
    labels: (i) => (i % 20 === 0 ? ['slope'] : i % 20 === 1 ? ['sum'] : []),
    source: (i) => (i % 20 < 2 ? 'lessons' : i % 2 === 0 ? 'web' : 'books'),
    score: (i, q, own) => {
      const { group } = queries[q]
      const teaches = (isOf(q, 'slope') && i % 20 === 0) || (isOf(q, 'sum') && i % 20 === 1)
      // Facts draw more, and unevenly: each query in its own measure.
      const scale = group === 'factual' ? 3 + 4 * (q % 3) : 1 + 0.02 * q
      return scale * (own + (teaches ? 4 : 0) + (group === 'factual' && i === 2 + 20 * q ? 12 : 0))
    },
  })

const all = planted(1)
const state = stateOf(queries, all)
const texts = textsOf(state, all)
const analyses = analyse(state, texts)

test('planted: every finding is found, by raw influence', () => {
  const verdicts = analyses.findings.filter(({ kind }) => kind === 'raw').map(({ verdict }) => verdict)
  assert.deepEqual(verdicts, ['agrees', 'agrees', 'agrees', 'agrees', 'agrees'])
})

test('planted: correlation within tasks, none between them', () => {
  const { reasoning, cells, summary, blocks } = correlations(state, 'raw')
  assert.ok(reasoning !== null && reasoning.within > 0.3 && Math.abs(reasoning.between) < 0.15 && reasoning.p < 0.01)
  assert.ok(cells.filter(({ cell }) => cell.startsWith('reasoning')).every(({ pCorrected }) => pCorrected < 0.05))
  assert.ok(cells.filter(({ cell }) => cell.startsWith('factual')).every(({ pCorrected }) => pCorrected > 0.05))
  assert.equal(summary.find(({ name }) => name === 'factual with factual')?.pairs, 15)
  const own = blocks.find(({ a, b }) => a === 'reasoning/slope' && b === a)
  assert.ok(own !== undefined && own.overlap > 0.3)
})

test('planted: a source that is over-represented is, with its interval; the other ends and groups are not', () => {
  const { shares, ks, ksLeftOut } = sources(state, 'raw')
  assert.deepEqual([ks, ksLeftOut], [[50, 500], [5000, 50_000]])
  const bar = (group: string, end: string, source: string, k = 50): (typeof shares)[number] => {
    const found = shares.find((share) => share.group === group && share.end === end && share.source === source && share.k === k)
    assert.ok(found)
    return found
  }
  const lessons = bar('reasoning', 'top', 'lessons')
  assert.ok(lessons.multiplier > 5 && lessons.interval[0] > 3 && lessons.pCorrected < 0.01)
  assert.ok(bar('reasoning', 'top', 'web').multiplier < 0.5)
  for (const group of ['control', 'factual']) assert.ok(bar(group, 'bottom', 'lessons').pCorrected > 0.05)
  // The multiplier by hand.
  const rows = queries.flatMap((query, q) => (query.group === 'reasoning' ? [[...state.rows(q, 'raw', 'top').sources.subarray(0, 50)]] : []))
  const names = state.sources()
  const share = rows.flat().filter((source) => names[source].source === 'lessons').length / rows.flat().length
  assert.ok(Math.abs(lessons.multiplier - share / 0.1) < 1e-9)
})

test('planted: answers of facts stand in the first ten, those of reasoning nowhere; ranks are right', () => {
  const { hits, queries: ranks, labels } = answers(state, texts, 'raw')
  const of = (group: string, by: string, n: number): (typeof hits)[number] | undefined => hits.find((hit) => hit.group === group && hit.by === by && hit.n === n && hit.only === 'all')
  assert.equal(of('factual', 'answer', 10)?.hits, 6)
  assert.ok((of('factual', 'answer', 10)?.p ?? 1) < 1e-6)
  assert.equal(of('reasoning', 'steps', 500)?.hits, 0)
  assert.equal(of('reasoning', 'steps', 500)?.p, 1)
  assert.ok(ranks.filter(({ group }) => group === 'factual').every(({ answerRank, answerInCorpus }) => answerRank === 0 && answerInCorpus === 1))
  assert.ok(labels.filter(({ group }) => group === 'reasoning').every(({ significant, queries: count, reached }) => significant === count && reached === count))
})

test('steps may stand in different documents; one that is missing is no hit', () => {
  const two = [madeQuery('q', { answer: '5', steps: ['2 + 1 = 3', '3 + 2 = 5'] }), madeQuery('r', { answer: '9', steps: ['2 + 1 = 3', '4 + 5 = 9'] })]
  const documents = madeDocuments({
    seed: 3, documents: 200, queries: two, score: (i) => 200 - i, text: (i) => (i === 4 ? 'so 2 + 1 = 3 then' : i === 17 ? '3+2=5' : 'no'),
  })
  const own = stateOf(two, documents)
  const [q, r] = answers(own, textsOf(own, documents), 'raw').queries
  assert.deepEqual([q.stepsRank, q.answerRank, q.steps.map(({ rank }) => rank)], [17, 17, [4, 17]])
  assert.deepEqual([r.stepsRank, r.steps.map(({ inCorpus }) => inCorpus)], [null, [1, 0]])
})

test('a power law is read back, and a query with few positive documents has none', () => {
  const { slope, r2 } = powerLaw(Float64Array.from({ length: 500 }, (_, rank) => 3 * (rank + 1) ** -0.35))
  assert.ok(Math.abs(slope + 0.35) < 1e-12 && r2 > 1 - 1e-12)
  const one = [madeQuery('q')]
  const few = stateOf(one, madeDocuments({ seed: 1, documents: 100, queries: one, score: (i) => (i < 10 ? 1 + i : -1) }))
  assert.ok(Number.isNaN(powerLaws(few, 'raw').queries[0].slope))
})

test('sums per nat compare groups as they were planted, and a query without information is left out', () => {
  const { test: compared, groups } = magnitudes(state, 'raw')
  assert.ok(compared !== null && compared.total.meanA > 3 * compared.total.meanB && compared.total.p < 0.05)
  assert.equal(groups.find(({ group }) => group === 'factual')?.queries, 6)
  const odd = [madeQuery('a', { informationNats: 0 }), madeQuery('b')]
  assert.deepEqual(magnitudes(stateOf(odd, madeDocuments({ seed: 1, documents: 50, queries: odd })), 'raw').groups.map((group) => group.queries), [1])
})

test("a query's own text has its rank, in the corpus and scored apart", () => {
  const one = [madeQuery('q'), madeQuery('r')]
  const documents = madeDocuments({ seed: 1, documents: 60, queries: one, score: (i) => 60 - i, text: (i) => (i === 7 ? '  prompt of q completion of q\n' : 'no') })
  const own = stateOf(one, documents)
  assert.deepEqual(selfChecks(own).filter(({ kind }) => kind === 'raw').map(({ query, rank, from }) => [query, rank, from]), [['q', 7, 'corpus']])
  const scored = selfChecks(own, [{ raw: 1e6, normed: 1, promptRaw: 10 }, { raw: 59.5, normed: 1, promptRaw: null }]).filter(({ kind, from }) => kind === 'raw' && from === 'scored')
  assert.deepEqual(scored.map(({ rank }) => rank), [0, 1])
  assert.equal(selfChecks(stateOf(one, documents, 5), [{ raw: -5, normed: 0, promptRaw: null }])[1].rank, null)
})

test('influence that hangs on one token is spurious', () => {
  assert.equal(concentration([0, 3, 0]), 1)
  assert.ok(isSpurious([0.1, -5, 0.2]))
  assert.ok(!isSpurious([1, 1, -1, 1]))
})

test('nothing planted: few verdicts agree, over many seeds', () => {
  const seeds = 60
  const agreed = new Map<number, number>()
  const small = madeQueries(4)
  let weakCells = 0
  let bars = { all: 0, significant: 0 }
  for (let seed = 0; seed < seeds; seed++) {
    // All queries share a tenth of their variance: correlated lists, and no structure.
    const documents = madeDocuments({ seed: 1000 + seed, documents: 400, queries: small, score: (_i, _q, own, shared) => own + shared / 3, labels: (i) => (i % 20 < 2 ? [i % 20 === 0 ? 'slope' : 'sum'] : []) })
    const own = stateOf(small, documents)
    const read = {
      correlations: correlations(own, 'raw'), magnitudes: magnitudes(own, 'raw'), powerLaws: powerLaws(own, 'raw'), answers: answers(own, textsOf(own, documents), 'raw'), sources: sources(own, 'raw'),
    }
    for (const { number, verdict } of findings('raw', read)) if (verdict === ('agrees' satisfies Verdict)) agreed.set(number, (agreed.get(number) ?? 0) + 1)
    if (read.correlations.cells.some(({ pCorrected }) => pCorrected < 0.05)) weakCells++
    const counted = read.sources.shares
    bars = { all: bars.all + counted.length, significant: bars.significant + counted.filter(({ p }) => p < 0.05).length }
  }
  // At 5 %: 3 of 60 expected where one test decides, fewer where several must agree. The seeds are fixed.
  for (const [number, count] of agreed) assert.ok(count <= 8, `finding ${number} agrees for ${count} of ${seeds} seeds`)
  assert.ok(weakCells <= 8, `${weakCells} of ${seeds} seeds show a task`)
  assert.ok(bars.significant <= 0.08 * bars.all, `${bars.significant} of ${bars.all} bars`)
})
