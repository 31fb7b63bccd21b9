import assert from 'node:assert/strict'
import { test } from 'node:test'
import { normals, uniforms } from '../../src/base/index.js'
import {
  atLeast, compareSpread, drawnAtLeast, holm, incompleteBeta, logGamma, noneDrawn, normalTwoSided, permutationP, quantile, shareInterval, studentTwoSided, weightedMarksP, welch,
} from '../../src/analysis/statistics.js'

const near = (actual: number, expected: number, tolerance = 1e-9): void =>
  assert.ok(Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)), `${actual} is not near ${expected}`)

test('distributions have the values of the tables', () => {
  near(logGamma(10), Math.log(362880), 1e-13)
  near(logGamma(0.5), Math.log(Math.sqrt(Math.PI)), 1e-13)
  near(incompleteBeta(0.5, 2, 2), 0.5)
  near(incompleteBeta(0.2, 1, 3), 1 - 0.8 ** 3)
  near(studentTwoSided(2.2281388519649385, 10), 0.05)
  near(studentTwoSided(12.706204736432095, 1), 0.05)
  near(normalTwoSided(1.959963984540054), 0.05, 1e-7)
})

test('the interval of a share is that of Clopper and Pearson', () => {
  const close = (actual: readonly number[], expected: readonly number[]): void => actual.forEach((value, i) => near(value, expected[i], 1e-4))
  close(shareInterval(0, 10), [0, 0.30850])
  close(shareInterval(5, 10), [0.18709, 0.81291])
  close(shareInterval(10, 10), [0.69150, 1])
})

test('draws without replacement agree with counting', () => {
  // 5 of 12 marked, 4 drawn: C(7,4) / C(12,4) = 35 / 495.
  near(noneDrawn({ total: 12, marked: 5, drawn: 4 }), 35 / 495)
  near(drawnAtLeast(1, { total: 12, marked: 5, drawn: 4 }), 460 / 495)
  near(drawnAtLeast(4, { total: 12, marked: 5, drawn: 4 }), 5 / 495)
  assert.equal(noneDrawn({ total: 5, marked: 3, drawn: 4 }), 0)
  near(atLeast([0.5, 0.5, 0.1], 2), 0.25 * 0.9 + 0.5 * 0.1 + 0.25 * 0.1)
  near(atLeast([0.2], 0), 1)
})

test("Welch's test has the value of a worked example", () => {
  // Means 20.82 and 23.71 of the first sample pair in Welch's article as Wikipedia works it: p = 0.021378 (t = -2.46, 24.99 degrees).
  const a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
  const b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]
  near(welch(a, b).p, 0.021378, 1e-4)
  assert.ok(Number.isNaN(welch([1], [1, 2]).p))
  assert.ok(Number.isNaN(welch([1, 1], [1, 1]).p))
})

test('quantiles, corrections and permutations keep their words', () => {
  assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5)
  assert.deepEqual(holm([0.01, NaN, 0.04, 0.03]), [0.03, NaN, 0.06, 0.06])
  assert.equal(permutationP(1, 3, () => 0), 0.25)
  assert.equal(permutationP(0.1 + 0.2, 3, () => 0.3), 1) // rounding is no difference
})

test('tests of nothing reject as often as they say: 5 % of seeds', () => {
  const seeds = 1000
  const rejected = { welch: 0, spread: 0, marks: 0, rareMarks: 0 }
  for (let seed = 0; seed < seeds; seed++) {
    const normal = normals(seed)
    const draw = (n: number): number[] => Array.from({ length: n }, () => 10 + normal())
    if (welch(draw(8), draw(12)).p < 0.05) rejected.welch++
    if (compareSpread(draw(12), draw(12)).p < 0.05) rejected.spread++
    // Lists that share documents: 200 of 2000 documents with weights 1 to 8; 30 % marked, then 1 %.
    const uniform = uniforms(seed)
    const weights = Float64Array.from({ length: 200 }, () => 1 + Math.floor(8 * uniform()))
    for (const [name, marked] of [['marks', 600], ['rareMarks', 40]] as const) {
      const left = { marked, total: 2000 }
      const observed = weights.reduce((sum, weight) => {
        const isMarked = uniform() < left.marked / left.total
        left.total--
        if (isMarked) left.marked--
        return sum + (isMarked ? weight : 0)
      }, 0)
      if (weightedMarksP(weights, observed, { total: 2000, marked }, uniforms(seed), 399) < 0.05) rejected[name]++
    }
  }
  // 50 expected of 1000; the seeds are fixed, so this does not flicker.
  for (const [name, count] of Object.entries(rejected)) assert.ok(count >= 15 && count <= 75, `${name}: ${count} of ${seeds}`)
})

test('marks that weigh more than chance are found, in either regime', () => {
  const weights = new Float64Array(300).fill(4)
  assert.ok(weightedMarksP(weights, 4 * 150, { total: 3000, marked: 900 }, uniforms(1)) < 1e-6)
  assert.ok(weightedMarksP(weights, 4 * 12, { total: 3000, marked: 20 }, uniforms(1)) < 0.01)
  assert.ok(weightedMarksP(weights, 4 * 288, { total: 3000, marked: 2980 }, uniforms(1)) < 0.01) // all but 20
})
