import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { documentId } from '../../src/base/index.js'
import { AnalysisState, placeOf, scoreKinds, type AnalysedDocument, type ScoreKind } from '../../src/analysis/index.js'
import { SignedSketch } from '../../src/analysis/signed-sketch.js'
import { sumOfFirst } from '../../src/analysis/magnitude.js'
import { madeDocuments, madeQueries, madeQuery, stateOf } from './made.js'

const queries = [madeQuery('a', { answer: 'Rome', steps: ['1 + 1'] }), madeQuery('b')]

const documents: fc.Arbitrary<AnalysedDocument[]> = fc
  .array(
    fc.record({
      source: fc.constantFrom('x', 'y', 'z', ''), gradientNorm: fc.double({ min: 1, max: 1e3, noNaN: true }), text: fc.constantFrom(null, 'Rome', '1 + 1 is Rome', 'x', 'prompt of b completion of b'),
      labels: fc.constantFrom([], ['l'], ['l', 'm']),
      // Few values, so that ties are common; wild ones, so that sums need all their limbs.
      influence: fc.array(fc.oneof(fc.constantFrom(0, -0, 1, -1, 0.5), fc.float({ noNaN: true, noDefaultInfinity: true })), { minLength: 2, maxLength: 2 }),
    }),
    { maxLength: 60 },
  )
  .map((rows) => rows.map((row, i) => ({
    ...row, document: documentId(`d${i}`), piece: i % 3 === 2 ? 1 : 0, partition: i % 2, offset: Math.floor(i / 3), influence: Float32Array.from(row.influence),
  })))

const bytes = (state: AnalysisState): string => Buffer.from(state.serialize()).toString('base64')

test('a state is the same bytes in any order, batching, split and merge, and survives its bytes', () => {
  const shuffled = documents.chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length }), fc.array(fc.nat(all.length), { maxLength: 4 }), fc.constantFrom(1, 3, 50)))
  fc.assert(
    fc.property(shuffled, ([all, mixed, cuts, depth]) => {
      const expected = bytes(stateOf(queries, all, depth))
      const bounds = [0, ...cuts.sort((a, b) => a - b), all.length]
      const parts = bounds.slice(1).map((to, part) => mixed.slice(bounds[part], to))
      const running = new AnalysisState({ queries, depth })
      for (const part of parts) {
        running.insert(part)
        running.rows(0, 'raw', 'top') // reading in between changes nothing
      }
      assert.equal(bytes(running), expected)
      const merged = parts.map((part) => stateOf(queries, part, depth)).reduceRight((right, left) => {
        left.merge(AnalysisState.deserialize({ queries, depth }, right.serialize()))
        return left
      }, new AnalysisState({ queries, depth }))
      assert.equal(bytes(merged), expected)
    }),
    { numRuns: 150 },
  )
})

test('states of other queries or depth neither merge nor come from each other\'s bytes; damage is seen', () => {
  const state = stateOf(queries, [], 5)
  assert.throws(() => state.merge(new AnalysisState({ queries, depth: 6 })), /other queries or another depth/)
  assert.throws(() => AnalysisState.deserialize({ queries: [queries[0]], depth: 5 }, state.serialize()), /other queries/)
  assert.throws(() => AnalysisState.deserialize({ queries, depth: 5 }, state.serialize().slice(0, -1)), /cut off/)
  assert.throws(() => AnalysisState.deserialize({ queries, depth: 5 }, new Uint8Array(40)), /not the state/)
})

/* ---------------------------------- against brute force over the full score matrix ---------------------------------- */

const made = madeQueries(2)
const corpus = madeDocuments({ seed: 7, documents: 2000, queries: made, score: (i, _q, own, shared) => Math.exp(own) * (i % 3 === 0 ? -1 : 1) * (1 + 0.2 * shared), text: (i) => (i % 10 === 0 ? 'it is 1001, see' : 'no') })
const state = stateOf(made, corpus, 300)
const column = (q: number, kind: ScoreKind): number[] => corpus.map(({ influence, gradientNorm }) => (kind === 'raw' ? influence[q] : Math.fround(influence[q] / gradientNorm)))
const places = corpus.map(({ partition, offset }) => placeOf(partition, offset))

for (const kind of scoreKinds) {
  test(`first and last documents by ${kind} influence are those of a sort of all`, () => {
    for (let q = 0; q < made.length; q++)
      for (const [end, sign] of [['top', 1], ['bottom', -1]] as const) {
        const scores = column(q, kind)
        const expected = scores.map((_, i) => i).sort((a, b) => sign * (scores[b] - scores[a]) || places[a] - places[b]).slice(0, 300)
        const rows = state.rows(q, kind, end)
        assert.deepEqual([...rows.places], expected.map((i) => places[i]))
        assert.deepEqual([...rows.scores], expected.map((i) => sign * scores[i]))
        assert.deepEqual([...rows.sources].map((source) => state.sources()[source].source), expected.map((i) => corpus[i].source))
      }
  })

  test(`correlations by ${kind} influence are Pearson's r of the columns`, () => {
    const mean = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0) / x.length
    const [x, y] = [column(0, kind), column(1, kind)]
    const [mx, my] = [mean(x), mean(y)]
    const dot = (a: readonly number[], ma: number, b: readonly number[], mb: number): number => a.reduce((sum, value, i) => sum + (value - ma) * (b[i] - mb), 0)
    const expected = dot(x, mx, y, my) / Math.sqrt(dot(x, mx, x, mx) * dot(y, my, y, my))
    assert.ok(Math.abs(state.correlation(kind, 0, 1) - expected) < 1e-12)
  })

  test(`sums over the first documents by ${kind} influence are exact up to the depth, within 1 % beyond, and exact in all`, () => {
    for (const sign of ['positive', 'negative'] as const) {
      const magnitudes = column(0, kind).map((score) => (sign === 'positive' ? score : -score)).filter((score) => score > 0).sort((a, b) => b - a)
      assert.equal(state.total(0, kind, sign).count, magnitudes.length)
      for (const count of [1, 50, 300, 301, 400, 600, magnitudes.length]) {
        const { sum, isExact } = sumOfFirst(state, { query: 0, kind, sign, count })
        const expected = magnitudes.slice(0, count).reduce((a, b) => a + b, 0)
        assert.equal(isExact, count <= 300 || count === magnitudes.length)
        assert.ok(Math.abs(sum - expected) <= (isExact ? 1e-9 : 0.01) * expected, `${sign} ${count}: ${sum} for ${expected}`)
      }
    }
  })
}

test('texts, labels and sources are counted once a document', () => {
  assert.equal(state.texts, 2000)
  assert.equal(state.needleCount(state.needles.findIndex(({ text }) => text === '1001')), 200)
  assert.equal(state.sources().reduce((sum, { count }) => sum + count, 0), 2000)
  const pieces = stateOf(queries, [0, 1].map((piece) => ({ ...corpus[0], influence: Float32Array.of(1, 2), piece, text: 'Rome', labels: ['l', 'l'] })))
  assert.equal(pieces.texts, 1)
  assert.equal(pieces.labelCount('l'), 1)
  assert.equal(pieces.count, 2)
})

test('a sketch that is merged has every bin of both, also where the last one has the key 0', () => {
  // DenseStore.merge of sketches-js loses such a bin; a magnitude of 1 has the key 0.
  const [low, high] = [new SignedSketch(), new SignedSketch()]
  low.insert(1e-3)
  for (const score of [1, 1, 0.5]) high.insert(score)
  low.merge(high)
  assert.equal(low.bins('positive').reduce((sum, { count }) => sum + count, 0), 4)
  assert.deepEqual(SignedSketch.deserialize(low.serialize()).bins('positive'), low.bins('positive'))
})
