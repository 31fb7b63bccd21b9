import { test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { eighPlain, qrThin, svdSmall } from '../../../src/tensor/linalg/index.js'
import { gaussian, scaledBy } from './matrices.js'

const eps = Number.EPSILON

/** A Bᵀ of a [m, k] and b [n, k]. */
const timesTransposed = (a: Float64Array, b: Float64Array, { m, n, k }: { m: number; n: number; k: number }) => {
  const c = new Float64Array(m * n)
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) for (let l = 0; l < k; l++) c[i * n + j] += a[i * k + l] * b[j * k + l]
  return c
}

const transposed = (a: Float64Array, m: number, n: number): Float64Array =>
  Float64Array.from({ length: m * n }, (_, k) => a[(k % m) * n + Math.floor(k / m)])

const most = (a: ArrayLike<number>): number => Array.from(a).reduce((x, y) => Math.max(x, Math.abs(y)), 0)

const assertOrthonormal = (u: Float64Array, m: number, r: number): void => {
  const t = transposed(u, m, r)
  const gram = timesTransposed(t, t, { m: r, n: r, k: m })
  for (let i = 0; i < r; i++) gram[i * r + i] -= 1
  assert.ok(most(gram) <= 10 * Math.max(m, 4) * eps, `columns are off orthonormal by ${most(gram)}`)
}

const assertNear = (a: Float64Array, b: Float64Array, size: number): void =>
  assert.ok(most(a.map((x, i) => x - b[i])) <= 10 * size * eps * most(a), 'the product is not the matrix')

const assertSvd = (a: Float64Array, m: number, n: number): void => {
  const { u, values, v } = svdSmall(a, m, n)
  const r = Math.min(m, n)
  assert.deepEqual([u.length, values.length, v.length], [m * r, r, n * r])
  assertOrthonormal(u, m, r)
  assertOrthonormal(v, n, r)
  for (let i = 0; i < r; i++) assert.ok(values[i] >= 0 && (i === 0 || values[i - 1] >= values[i]), 'values descend')
  assertNear(a, timesTransposed(u.map((x, i) => x * values[i % r]), v, { m, n, k: r }), Math.max(m, n))
}

const assertQr = (a: Float64Array, m: number, n: number): void => {
  const { q, r } = qrThin(a, m, n)
  assert.deepEqual([q.length, r.length], [m * n, n * n])
  assertOrthonormal(q, m, n)
  for (let i = 0; i < n; i++) {
    assert.ok(r[i * n + i] >= 0)
    for (let j = 0; j < i; j++) assert.equal(r[i * n + j], 0)
  }
  assertNear(a, timesTransposed(q, transposed(r, n, n), { m, n, k: n }), m)
}

const rankTwo = (m: number, n: number): Float64Array =>
  timesTransposed(gaussian(m, 2, 7), gaussian(n, 2, 8), { m, n, k: 2 })

for (const [m, n] of [
  [1, 1],
  [5, 3],
  [3, 5],
  [40, 40],
  [64, 1],
  [1, 64],
  [130, 33],
  [512, 64],
])
  test(`${m} × ${n}: the singular values and the QR give the matrix back`, () => {
    for (const a of [gaussian(m, n, 1), rankTwo(m, n), new Float64Array(m * n), scaledBy(gaussian(m, n, 2), 1e200)]) {
      assertSvd(a, m, n)
      if (m >= n) assertQr(a, m, n)
    }
  })

test('small matrices of any numbers', () => {
  const double = fc.double({ min: -1e150, max: 1e150, noNaN: true })
  const number = fc.oneof(fc.constant(0), double, fc.integer({ min: -3, max: 3 }))
  const sized = fc
    .record({ m: fc.integer({ min: 1, max: 7 }), n: fc.integer({ min: 1, max: 7 }) })
    .chain(({ m, n }) => fc.tuple(fc.constant({ m, n }), fc.array(number, { minLength: m * n, maxLength: m * n })))
  fc.assert(
    fc.property(sized, ([{ m, n }, entries]) => {
      const a = Float64Array.from(entries)
      assertSvd(a, m, n)
      if (m >= n) assertQr(a, m, n)
    }),
    { numRuns: 300 },
  )
})

test('singular values are the roots of the eigenvalues of AᵀA', () => {
  const [m, n] = [50, 20]
  const a = gaussian(m, n, 5)
  const t = transposed(a, m, n)
  const squares = eighPlain(timesTransposed(t, t, { m: n, n, k: m }), n).values
  svdSmall(a, m, n).values.forEach((value, i) => assert.ok(Math.abs(value ** 2 - squares[n - 1 - i]) < 1e-11))
})

test('small singular values keep their digits when columns are graded', () => {
  const grades = [1, 1e-10, 1e-20]
  const q = qrThin(gaussian(30, 3, 9), 30, 3).q
  const { values } = svdSmall(
    q.map((x, i) => x * grades[i % 3]),
    30,
    3,
  )
  grades.forEach((grade, i) => assert.ok(Math.abs(values[i] / grade - 1) < 1e-13))
})

test('what is no matrix is refused', () => {
  assert.throws(() => svdSmall(new Float64Array(5), 2, 3), RangeError)
  assert.throws(() => svdSmall(Float64Array.of(1, NaN), 1, 2), /NaN in row 0, column 1/)
  assert.throws(() => qrThin(new Float64Array(6), 2, 3), /more columns than rows/)
  assert.throws(() => qrThin(Float64Array.of(1, Infinity), 2, 1), /Infinity in row 1, column 0/)
})
