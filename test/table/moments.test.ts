import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { documentId, normals } from '../../src/base/index.js'
import { RunningMoments, type Moments, type MomentsRow, type Scored } from '../../src/table/index.js'
import { exactProduct } from '../../src/table/exact-sum.js'

const queries = 3
const scored: fc.Arbitrary<Scored> = fc.record({
  document: fc.constant(documentId('z')),
  source: fc.constant('s'),
  piece: fc.constant(0),
  partition: fc.constant(0),
  offset: fc.nat(),
  gradientNorm: fc.double({ min: 1, max: 1e6, noNaN: true }),
  influence: fc
    .array(fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }), fc.float({ noNaN: true, min: -9, max: 9 })), {
      minLength: queries,
      maxLength: queries,
    })
    .map((scores) => Float32Array.from(scores)),
})
const batches = fc.array(scored, { maxLength: 30 })

const momentsOf = (batch: readonly Scored[]): RunningMoments => {
  const moments = new RunningMoments(queries)
  moments.insert(batch)
  return moments
}
const rowsOf = (moments: RunningMoments): MomentsRow[] =>
  Array.from({ length: moments.queries }, (_, query) => moments.serializeRow(query))

const document = (influence: readonly number[], gradientNorm = 1): Scored => ({
  document: documentId('z'), source: 's', piece: 0, partition: 0, offset: 0, gradientNorm,
  influence: Float32Array.from(influence),
})

test('moments are the same bytes in any order, batching and merge', () => {
  const permuted = batches.chain((batch) =>
    fc.tuple(fc.constant(batch), fc.shuffledSubarray(batch, { minLength: batch.length }), fc.array(fc.nat(batch.length))),
  )
  fc.assert(
    fc.property(permuted, ([batch, shuffled, cuts]) => {
      const expected = rowsOf(momentsOf(batch))
      const bounds = [0, ...cuts.sort((a, b) => a - b), batch.length]
      const parts = bounds.slice(1).map((to, part) => shuffled.slice(bounds[part], to))
      const running = new RunningMoments(queries)
      for (const part of parts) {
        running.insert(part)
        if (part.length % 2 === 0) running.raw.sum(0) // reading in between changes nothing
      }
      assert.deepEqual(rowsOf(running), expected)
      const merged = parts.map(momentsOf).reduceRight((right, left) => {
        left.merge(right)
        return left
      }, new RunningMoments(queries))
      assert.deepEqual(rowsOf(merged), expected)
      const restored = RunningMoments.deserialize(expected)
      assert.deepEqual(rowsOf(restored), expected)
      assert.equal(restored.count, batch.length)
    }),
  )
})

/** Σ x_i x_j by integers; a sum alone is that with ones. */
const exactly = (batch: readonly Scored[], x: (z: Scored) => number, y: (z: Scored) => number): number =>
  Number(batch.reduce((sum, z) => sum + exactProduct(x(z), y(z)), 0n)) * 2 ** -300

test('sums, squares and cross products are those of exact arithmetic, raw and normed', () => {
  fc.assert(
    fc.property(batches, (batch) => {
      const moments = momentsOf(batch)
      const kinds: [Moments, (query: number) => (z: Scored) => number][] = [
        [moments.raw, (query) => (z) => z.influence[query]],
        [moments.normed, (query) => (z) => Math.fround(z.influence[query] / z.gradientNorm)],
      ]
      for (const [view, x] of kinds)
        for (let i = 0; i < queries; i++) {
          assert.equal(view.sum(i), exactly(batch, x(i), () => 1))
          for (let j = 0; j < queries; j++) assert.equal(view.sumOfProducts(i, j), exactly(batch, x(i), x(j)))
        }
    }),
  )
})

test('correlations, means and variances over 1,000 documents are those of two passes in f64', () => {
  const next = normals(7)
  const batch = Array.from({ length: 1000 }, () => {
    const shared = next()
    return document([shared + next(), 50 + 3 * shared + next(), -shared], 1 + Math.abs(next()))
  })
  const { raw, normed } = momentsOf(batch)
  const near = (actual: number, expected: number): void =>
    assert.ok(Math.abs(actual - expected) < 1e-12 * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`)
  const check = (view: Moments, x: (query: number) => number[]): void => {
    const mean = (xs: number[]): number => xs.reduce((sum, value) => sum + value, 0) / xs.length
    const covariance = (i: number, j: number): number => {
      const [a, b] = [x(i), x(j)]
      const [meanA, meanB] = [mean(a), mean(b)]
      return mean(a.map((value, at) => (value - meanA) * (b[at] - meanB)))
    }
    for (let i = 0; i < queries; i++) {
      near(view.mean(i), mean(x(i)))
      near(view.variance(i), covariance(i, i))
      assert.equal(view.correlation(i, i), 1)
      for (let j = 0; j < queries; j++) {
        near(view.correlation(i, j), covariance(i, j) / Math.sqrt(covariance(i, i) * covariance(j, j)))
        assert.equal(view.correlation(i, j), view.correlation(j, i))
      }
    }
  }
  check(raw, (query) => batch.map((z) => z.influence[query]))
  check(normed, (query) => batch.map((z) => Math.fround(z.influence[query] / z.gradientNorm)))
})

test('700 documents give the exact sums and one sequence of bytes in batches of 1, 100, 128 and 300', () => {
  const next = normals(11)
  const batch = Array.from({ length: 700 }, () =>
    document([next(), next() * 1e-6 * Math.exp(5 * next()), next() * 1e6], 1 + Math.abs(next())),
  )
  const expected = rowsOf(momentsOf(batch))
  for (const size of [1, 100, 128, 300]) {
    const moments = new RunningMoments(queries)
    for (let from = 0; from < batch.length; from += size) moments.insert(batch.slice(from, from + size))
    assert.deepEqual(rowsOf(moments), expected)
  }
  const { raw } = momentsOf(batch)
  for (let i = 0; i < queries; i++)
    for (let j = 0; j < queries; j++)
      assert.equal(raw.sumOfProducts(i, j), exactly(batch, (z) => z.influence[i], (z) => z.influence[j]))
})

test('a correlation stands where f64 sums would cancel: 1 beside an offset of 2^20', () => {
  const batch = [1, 2, 3].map((x) => document([2 ** 20 + x / 8, -x, 5]))
  const { raw } = momentsOf(batch)
  assert.equal(raw.correlation(0, 1), -1)
  assert.equal(raw.variance(0), 2 / 3 / 64)
})

test('a correlation is within [-1, 1] for any scores, and NaN exactly where a column is constant', () => {
  fc.assert(
    fc.property(batches, (batch) => {
      const { raw } = momentsOf(batch)
      const isConstant = (query: number): boolean => new Set(batch.map((z) => z.influence[query] + 0)).size <= 1
      for (let i = 0; i < queries; i++)
        for (let j = 0; j < queries; j++) {
          const r = raw.correlation(i, j)
          assert.equal(Number.isNaN(r), isConstant(i) || isConstant(j))
          if (!Number.isNaN(r)) assert.ok(Math.abs(r) <= 1)
        }
    }),
  )
})

test('nothing counted has no mean, and one document no correlation', () => {
  const { raw } = momentsOf([])
  assert.deepEqual([raw.count, raw.sum(0), raw.mean(0), raw.variance(0), raw.correlation(0, 1)], [0, 0, NaN, NaN, NaN])
  assert.deepEqual([momentsOf([document([1, 2, 3])]).raw.mean(1), momentsOf([document([1, 2, 3])]).raw.correlation(0, 1)], [2, NaN])
})

test('a batch with a bad score is refused whole; damaged rows too', () => {
  const moments = momentsOf([document([1, 2, 3])])
  const before = rowsOf(moments)
  for (const bad of [document([1, NaN, 3]), document([1, -Infinity, 3]), document([1, 2, 3], 0), document([1e30, 2, 3], 1e-30)])
    assert.throws(() => moments.insert([document([1, 2, 3]), bad]), RangeError)
  assert.throws(() => moments.insert([document([1])]), /1 scores for 3 queries/)
  assert.deepEqual(rowsOf(moments), before)
  assert.throws(() => RunningMoments.deserialize([before[0], { ...before[1], count: 2 }, before[2]]), /count/)
  assert.throws(() => RunningMoments.deserialize([{ ...before[0], raw: Uint8Array.of(9) }, before[1], before[2]]), /format 9/)
  assert.throws(() => moments.raw.correlation(0, 3), RangeError)
})
