import { test } from 'node:test'
import assert from 'node:assert/strict'
import { eigh, eighAll, eighPlain, type Eigen, type Symmetric } from '../../../src/tensor/linalg/index.js'
import { UserError } from '../../../src/base/index.js'
import { covariance, gallery, random, residuals, scaledBy, wilkinson, withSpectrum } from './matrices.js'

/** How many n·ε a residual may be. LAPACK's own tests allow 30. */
const tolerance = 5

const assertDecomposed = (matrix: Float64Array, n: number, eigen: Eigen): void => {
  const { product, orthogonality, ascending } = residuals(matrix, n, eigen)
  assert.ok(product <= tolerance, `‖AV − VΛ‖ is ${product} nε‖A‖`)
  assert.ok(orthogonality <= tolerance, `‖VᵀV − I‖ is ${orthogonality} nε`)
  assert.ok(ascending, 'values ascend')
}

for (const { name, n, matrix } of gallery())
  test(`eigh and its oracle decompose: ${name}`, async () => {
    const before = matrix.slice()
    const fast = await eigh(matrix, n)
    assert.deepEqual(matrix, before, 'the matrix is not changed')
    assertDecomposed(matrix, n, fast)
    const plain = eighPlain(matrix, n)
    assertDecomposed(matrix, n, plain)
    const most = Math.max(Math.abs(plain.values[0]), Math.abs(plain.values[n - 1]))
    for (let j = 0; j < n; j++)
      assert.ok(
        Math.abs(fast.values[j] - plain.values[j]) <= tolerance * n * Number.EPSILON * most,
        `value ${j} is ${fast.values[j]}, of the oracle ${plain.values[j]}`,
      )
  })

for (const [name, n, matrix] of [
  ['random', 577, random(577)],
  ['covariance, graded, of low rank, dead units', 576, covariance(300, 576, { grade: 7, dead: [3, 77, 400] })],
  ['wilkinson', 501, wilkinson(501)],
  ['clusters', 400, withSpectrum(Float64Array.from({ length: 400 }, (_, i) => Math.floor(i / 20) + 1e-12 * i))],
] as const)
  test(`eigh decomposes n = ${n}: ${name}`, async () => assertDecomposed(matrix, n, await eigh(matrix, n)))

test('the known spectrum of a dense matrix comes back', async () => {
  const n = 300
  const known = Float64Array.from({ length: n }, (_, i) => (i - 100) ** 3)
  const { values } = await eigh(withSpectrum(known), n)
  for (let i = 0; i < n; i++) assert.ok(Math.abs(values[i] - known[i]) <= n * Number.EPSILON * known[n - 1])
})

test('the eigenvalues of the second difference are 4 sin²(πk / 2(n+1))', async () => {
  const n = 250
  const matrix = Float64Array.from({ length: n * n }, (_, k) => {
    const away = Math.abs(Math.floor(k / n) - (k % n))
    return away === 0 ? 2 : away === 1 ? -1 : 0
  })
  const { values } = await eigh(matrix, n)
  for (let k = 1; k <= n; k++)
    assert.ok(Math.abs(values[k - 1] - 4 * Math.sin((Math.PI * k) / (2 * (n + 1))) ** 2) < 4 * n * Number.EPSILON)
})

test('a matrix of denormal numbers has an orthogonal basis', async () => {
  const n = 40
  const { product, orthogonality } = residuals(
    new Float64Array(n * n),
    n,
    { values: new Float64Array(n), vectors: (await eigh(scaledBy(random(n), 2 ** -1065), n)).vectors },
  )
  assert.ok(orthogonality <= tolerance && product === 0)
})

test('the same matrix gives the same bits', async () => {
  const matrix = random(180)
  assert.deepEqual(await eigh(matrix, 180), await eigh(matrix, 180))
})

test('an empty matrix has an empty decomposition', async () => {
  assert.deepEqual(await eigh(new Float64Array(0), 0), { values: new Float64Array(0), vectors: new Float64Array(0) })
})

for (const bad of [NaN, Infinity, -Infinity])
  for (const n of [3, 200])
    test(`a matrix of n = ${n} with ${bad} is refused, naming the place`, async () => {
      const matrix = random(n)
      matrix[n + 2] = bad
      const refused = (error: unknown): boolean =>
        error instanceof UserError && error.message.includes(`${bad} in row 1, column 2`)
      await assert.rejects(eigh(matrix, n), refused)
      assert.throws(() => eighPlain(matrix, n), refused)
      await assert.rejects(collect(eighAll([{ matrix, n }], { threads: 1 })), refused)
    })

test('a matrix of another size is refused', async () => {
  await assert.rejects(eigh(new Float64Array(10), 3), RangeError)
  await assert.rejects(eigh(new Float64Array(9), -3), RangeError)
  await assert.rejects(collect(eighAll([], { threads: 0 })), RangeError)
})

test('many matrices of mixed sizes come back in order, with few asked for ahead of the results', async () => {
  const sizes = [200, 3, 150, 1, 64, 200, 5, 90, 2, 33]
  let asked = 0
  async function* jobs(): AsyncGenerator<Symmetric> {
    for (const n of sizes) {
      asked++
      yield { matrix: random(n), n }
    }
  }
  let got = 0
  for await (const eigen of eighAll(jobs(), { threads: 2 })) {
    assert.ok(asked <= got + 4, `${asked} asked for when ${got} are done`)
    assert.deepEqual(eigen, await eigh(random(sizes[got]), sizes[got]))
    got++
  }
  assert.equal(got, sizes.length)
})

test('a bad matrix in a stream fails in its place, after the results before it', async () => {
  const bad = random(20)
  bad[0] = NaN
  const got: Eigen[] = []
  await assert.rejects(async () => {
    const jobs = [{ matrix: random(10), n: 10 }, { matrix: random(11), n: 11 }, { matrix: bad, n: 20 }]
    for await (const eigen of eighAll(jobs, { threads: 1 })) got.push(eigen)
  }, UserError)
  assert.deepEqual(
    got.map(({ values }) => values.length),
    [10, 11],
  )
})

test('an error of the jobs themselves comes through', async () => {
  async function* jobs(): AsyncGenerator<Symmetric> {
    yield { matrix: random(150), n: 150 }
    throw new Error('the accumulator is gone')
  }
  await assert.rejects(collect(eighAll(jobs(), { threads: 2 })), /the accumulator is gone/)
})

test('a consumer that leaves early ends the threads', async () => {
  for await (const eigen of eighAll(endless(), { threads: 2 })) {
    assert.equal(eigen.values.length, 150)
    break
  }
  assert.deepEqual(workersLeft(), [])
})

// Node 20 aborted this process in most of such runs while threads were ended at once, compiler at work or not.
test('threads can be ended in the middle of a matrix, many times', async () => {
  for (let round = 0; round < 30; round++) for await (const _ of eighAll(endless(), { threads: 2 })) break
  assert.deepEqual(workersLeft(), [])
})

test('a signal stops one and many, with its reason', async () => {
  const reason = new Error('enough')
  await assert.rejects(eigh(random(10), 10, { signal: AbortSignal.abort(reason) }), reason)

  const one = new AbortController()
  setTimeout(() => one.abort(reason), 20)
  await assert.rejects(eigh(random(700), 700, { signal: one.signal }), reason)

  const many = new AbortController()
  await assert.rejects(async () => {
    for await (const _ of eighAll(endless(), { threads: 2, signal: many.signal })) many.abort(reason)
  }, reason)
  assert.deepEqual(workersLeft(), [])
})

const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

function* endless(): Generator<Symmetric> {
  for (;;) yield { matrix: random(150), n: 150 }
}

const workersLeft = (): readonly string[] => process.getActiveResourcesInfo().filter((name) => name === 'MessagePort')
