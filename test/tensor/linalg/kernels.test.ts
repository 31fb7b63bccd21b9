import { test } from 'node:test'
import assert from 'node:assert/strict'
import { eighPlain } from '../../../src/tensor/linalg/index.js'
import { Kernels, type Operand } from '../../../src/tensor/linalg/kernels.js'
import { secularRoom, solveSecular } from '../../../src/tensor/linalg/secular.js'
import { gaussian, random, residuals } from './matrices.js'

const kernels = new Kernels()

/** Puts a matrix [m, n] into the kernels' memory, with zeros around. */
const put = (a: Float64Array, m: number, n: number): Operand => {
  const stride = n + 5
  const at = kernels.take((m + 5) * stride)
  kernels.numbers.fill(0, at, at + (m + 5) * stride)
  for (let i = 0; i < m; i++) kernels.numbers.set(a.subarray(i * n, (i + 1) * n), at + i * stride)
  return { at, stride }
}

const at = ({ at, stride }: Operand, i: number, j: number): number => kernels.numbers[at + i * stride + j]

const assertNear = (actual: number, expected: number, what: string): void =>
  assert.ok(Math.abs(actual - expected) < 1e-11, `${what}: ${actual} for ${expected}`)

for (const [m, n, k] of [
  [1, 1, 1],
  [4, 4, 4],
  [5, 3, 2],
  [97, 6, 257],
  [10, 770, 3],
  [130, 131, 300],
])
  for (const transA of [false, true])
    for (const transB of [false, true])
      test(`C −= A${transA ? 'ᵀ' : ''} B${transB ? 'ᵀ' : ''}, ${m} × ${k} × ${n}, as plain loops do`, () => {
        kernels.reserve(2e6)
        const a = gaussian(m, k, 1)
        const b = gaussian(k, n, 2)
        const c = gaussian(m, n, 3)
        const [ra, ca, rb, cb] = [transA ? k : m, transA ? m : k, transB ? n : k, transB ? k : n]
        const into = put(c, m, n)
        kernels.multiply(
          { m, n, k, alpha: -1 },
          { ...put(a, ra, ca), transposed: transA },
          { ...put(b, rb, cb), transposed: transB },
          into,
        )
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let expected = c[i * n + j]
            for (let l = 0; l < k; l++)
              expected -= a[transA ? l * ca + i : i * ca + l] * b[transB ? j * cb + l : l * cb + j]
            assertNear(at(into, i, j), expected, `(${i}, ${j})`)
          }
      })

for (const n of [1, 3, 4, 33, 101])
  test(`a symmetric matrix of n = ${n} times a vector reads the upper triangle alone`, () => {
    kernels.reserve(1e6)
    const full = random(n)
    const s = put(full, n, n)
    for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) kernels.numbers[s.at + i * s.stride + j] = 1e30
    const x = gaussian(n, 1, 9)
    const [xs, ys] = [put(x, 1, n), put(new Float64Array(n).fill(2), 1, n)]
    kernels.symmetricTimes(n, s, xs.at, ys.at)
    for (let i = 0; i < n; i++)
      assertNear(at(ys, 0, i), x.reduce((sum, xj, j) => sum + full[i * n + j] * xj, 2), `y[${i}]`)
  })

for (const [n, k] of [
  [1, 1],
  [7, 3],
  [100, 32],
  [801, 5],
])
  test(`C −= Vᵀ W + Wᵀ V in the upper triangle, n = ${n}, k = ${k}`, () => {
    kernels.reserve(2e6)
    const [v, w] = [gaussian(k, n, 1), gaussian(k, n, 2)]
    const c = random(n)
    const into = put(c, n, n)
    kernels.subtractSymmetric({ n, k }, put(v, k, n), put(w, k, n), into)
    for (let i = 0; i < n; i++)
      for (let j = i; j < n; j++) {
        let expected = c[i * n + j]
        for (let l = 0; l < k; l++) expected -= v[l * n + i] * w[l * n + j] + w[l * n + i] * v[l * n + j]
        assertNear(at(into, i, j), expected, `(${i}, ${j})`)
      }
  })

const secularCases: Readonly<Record<string, (j: number, k: number) => { d: number; z: number }>> = {
  'even poles': (j) => ({ d: j, z: 1 }),
  'a tiny weight': (j) => ({ d: j, z: j % 2 ? 1e-13 : 1 }),
  'close poles': (j) => ({ d: Math.floor(j / 3) + (j % 3) * 1e-13, z: 1 + j }),
  'graded poles': (j, k) => ({ d: 10 ** (-12 + (12 * j) / k), z: 10 ** ((-4 * j) / k) }),
  'signs': (j) => ({ d: j * j - 20, z: j % 2 ? -1 : 1 }),
}
for (const [name, make] of Object.entries(secularCases))
  for (const k of [1, 2, 3, 8, 33])
    for (const rho of [1e-3, 1, 1e3])
      test(`diag(d) + ρ z zᵀ is decomposed: ${name}, k = ${k}, ρ = ${rho}`, () => {
        kernels.reserve(1e5)
        const made = Array.from({ length: k }, (_, j) => make(j, k))
        const d = Float64Array.from(made, ({ d }) => d)
        const norm = Math.hypot(...made.map(({ z }) => z))
        const z = Float64Array.from(made, ({ z }) => z / norm)
        const u = put(new Float64Array(k * k), k, k)
        const room = kernels.take(secularRoom(k))
        const values = solveSecular(kernels, { d, z, rho }, { u, column: Int32Array.from(d.keys()), room })
        const matrix = Float64Array.from({ length: k * k }, (_, i) => {
          const [r, c] = [Math.floor(i / k), i % k]
          return rho * z[r] * z[c] + (r === c ? d[r] : 0)
        })
        const vectors = Float64Array.from({ length: k * k }, (_, i) => at(u, i % k, Math.floor(i / k)))
        const { product, orthogonality, ascending } = residuals(matrix, k, { values, vectors })
        assert.ok(product < 10 && orthogonality < 10 && ascending, `residuals ${product}, ${orthogonality}`)
        values.forEach((value, i) => {
          assert.ok(value >= d[i] && (i === k - 1 || value <= d[i + 1]), 'roots lie between the poles')
        })
        const known = eighPlain(matrix, k).values
        const size = Math.max(...known.map(Math.abs))
        values.forEach((value, i) => assert.ok(Math.abs(value - known[i]) <= 8 * k * Number.EPSILON * size))
      })
