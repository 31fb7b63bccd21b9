/** @file Preconditioned queries against the definition in float64, and truncations against the best there is. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { normals } from '../../src/base/index.js'
import {
  dampingOf, inputWidth, lowRankOf, preconditioner, sharedWidths, type Damping, type LayerFactors, type LayerPreconditioner, type LowRankQuery, type SharedQueries, type Strategy,
} from '../../src/influence/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { onnxEngine, type Engine } from '../../src/tensor/index.js'
import { svdSmall } from '../../src/tensor/linalg/small.js'
import { assertNear, relativeError } from '../tensor/tensors.js'
import { inMetric, layerOf, madeFactors, madeQueries, matrixOf, parametersOf, preconditionedBy } from './made-layer.js'

const ops = plainOps()
const relative: Damping = { kind: 'relative', factor: 0.1 }
let engine: Engine
before(() => (engine = onnxEngine({ threads: 1 })))
after(() => engine[Symbol.asyncDispose]())

const using = async <R>(factors: LayerFactors, work: (layer: LayerPreconditioner) => Promise<R>, { strategy = 'ekfac', damping = relative }: { strategy?: Strategy; damping?: Damping } = {}): Promise<R> => {
  await using all = preconditioner(engine, strategy, damping)
  const layer = all.layer(factors)
  return await work(layer)
}
const layer = layerOf(20, 13)
const [O, I] = [layer.outputs, inputWidth(layer)]
const queries = madeQueries(layer, [7, 1, 4, 30, 25])

const fromLowRank = ({ u, v }: LowRankQuery): PlainTensor => ops.matmul(plainTensor(u, [O, u.length / O]), plainTensor(v, [I, v.length / I]), { transB: true })
const fromShared = ({ p, r, c, widths: [kO, kI] }: SharedQueries, q: number): PlainTensor =>
  ops.matmul(ops.matmul(plainTensor(p, [O, kO]), plainTensor(c.subarray(q * kO * kI, (q + 1) * kO * kI), [kO, kI])), plainTensor(r, [I, kI]), { transB: true })
const norm = ({ data }: PlainTensor): number => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0))

for (const strategy of ['ekfac', 'kfac', 'diagonal', 'identity'] as const) {
  for (const blocks of strategy === 'ekfac' ? [1, 3] : [1]) {
    test(`${strategy}${blocks > 1 ? `, ${blocks} blocks` : ''}: dense queries are the definition, under every damping`, async () => {
      const factors = await madeFactors(layer, { strategy, blocks })
      const mean = factors.eigenvalues.reduce((sum, value) => sum + value, 0) / factors.eigenvalues.length
      for (const damping of [relative, { kind: 'relative', factor: 2 }, { kind: 'absolute', value: 0.03 }] satisfies Damping[]) {
        await using(factors, async (own) => {
          const wanted = strategy === 'identity' ? 1 : damping.kind === 'absolute' ? damping.value : damping.factor * mean
          assertNear([own.damping], [wanted], 1e-6, 'λ')
          const dense = await own.dense(queries)
          queries.forEach((query, q) => assertNear(parametersOf(layer, dense[q]), preconditionedBy(factors, strategy, damping, query).data, 2e-5, `query ${q}`))
        }, { strategy, damping })
      }
    })

    test(`${strategy}${blocks > 1 ? `, ${blocks} blocks` : ''}: low-rank of full rank and shared of full width are dense`, async () => {
      const factors = await madeFactors(layer, { strategy, blocks })
      await using(factors, async (own) => {
        const lowRank = await own.lowRank(queries, { rank: 1000, seed: 3 })
        const shared = await own.shared(queries, { width: 1000, seed: 3 })
        assert.deepEqual(shared.widths, [O, I])
        queries.forEach((query, q) => {
          const wanted = preconditionedBy(factors, strategy, relative, query).data
          assert.equal(lowRank[q].u.length, O * I)
          assertNear(fromLowRank(lowRank[q]).data, wanted, 1e-3, `low-rank, query ${q}`)
          assertNear(fromShared(shared, q).data, wanted, 1e-4, `shared, query ${q}`)
        })
      }, { strategy })
    })
  }
}

/** exp(−t H) g by Taylor's series, with a step so small that a few terms are exact: no eigenvalues. H is a matrix over vec(G). */
const decayed = (H: PlainTensor, t: number, g: PlainTensor, integral = false): PlainTensor => {
  // d/dt of (g, ∫ g): 4096 steps of Runge and Kutta's fourth order.
  const steps = 4096
  const h = t / steps
  let [y, sum] = [g, ops.scale(g, 0)]
  for (let n = 0; n < steps; n++) {
    const slope = (x: PlainTensor): PlainTensor => ops.scale(ops.matmul(H, x), -1)
    const k1 = slope(y)
    const k2 = slope(ops.add(y, ops.scale(k1, h / 2)))
    const k3 = slope(ops.add(y, ops.scale(k2, h / 2)))
    const k4 = slope(ops.add(y, ops.scale(k3, h)))
    const next = ops.add(y, ops.scale(ops.add(ops.add(k1, k4), ops.scale(ops.add(k2, k3), 2)), h / 6))
    // Simpson's rule for ∫ exp(−s H) g ds = (1 − exp(−t H)) H⁻¹ g
    const middle = ops.add(ops.scale(ops.add(y, next), 0.5), ops.scale(ops.sub(slope(y), slope(next)), h / 8))
    sum = ops.add(sum, ops.scale(ops.add(ops.add(y, next), ops.scale(middle, 4)), h / 6))
    y = next
  }
  return integral ? sum : y
}

/** The curvature of a layer as one matrix over vec(G), row-major: (Q_S ⊗ Q_A) diag(Λ) (Q_S ⊗ Q_A)ᵀ. */
const curvatureOf = ({ inputs, outputs, eigenvalues }: LayerFactors, rows: number, columns: number): PlainTensor => {
  const [S, A] = [matrixOf(outputs, rows), matrixOf(inputs, columns)]
  const size = rows * columns
  const Q = plainTensor(Array.from({ length: size * size }, (_, n) => {
    const [at, of] = [Math.floor(n / size), n % size]
    return S.data[Math.floor(at / columns) * rows + Math.floor(of / columns)] * A.data[(at % columns) * columns + (of % columns)]
  }), [size, size])
  return ops.matmul(ops.mul(Q, plainTensor(eigenvalues, [size])), Q, { transB: true })
}

for (const [strategy, blocks] of [['ekfac', 1], ['ekfac', 2], ['diagonal', 1]] as const) {
  test(`segments of a training (${strategy}, ${blocks} blocks): the query goes back through the later ones, as its equation says`, async () => {
    const small = layerOf(4, 3)
    const [rows, columns] = [4, 4]
    const few = madeQueries(small, [5, 1, 9])
    const [first, second, third] = await Promise.all([1, 11, 21].map((seed) => madeFactors(small, { strategy, blocks, seed })))
    // Some directions settle within the segment, some hardly move; one has no curvature at all.
    first.eigenvalues[5] = 0
    const scale = 1 / Math.max(...first.eigenvalues)
    const times = [6 * scale, 1.5 * scale, 0.4 * scale]
    const [H1, H2, H3] = [first, second, third].map((factors) => curvatureOf(factors, rows, columns))
    await using all = preconditioner(engine, strategy, { kind: 'segment', time: times[0] })
    const own = all.layer(first, [{ factors: second, time: times[1] }, { factors: third, time: times[2] }])
    assert.equal(own.damping, 0)
    const dense = await own.dense(few)
    const lowRank = await own.lowRank(few, { rank: 100, seed: 3 })
    const shared = await own.shared(few, { width: 100, seed: 3 })
    const last = all.layer(first)
    const alone = await last.dense(few)
    for (const [q, { tokens, delta, input }] of few.entries()) {
      const G = ops.matmul(plainTensor(delta, [tokens, rows]), plainTensor(input, [tokens, columns]), { transA: true })
      const g = ops.reshape(G, [rows * columns, 1])
      const wanted = decayed(H1, times[0], decayed(H2, times[1], decayed(H3, times[2], g)), true).data
      assertNear(parametersOf(small, dense[q]), wanted, 2e-5, `dense, query ${q}`)
      assertNear(ops.matmul(plainTensor(lowRank[q].u, [rows, lowRank[q].u.length / rows]), plainTensor(lowRank[q].v, [columns, lowRank[q].v.length / columns]), { transB: true }).data, wanted, 1e-3, `low-rank, query ${q}`)
      const C = plainTensor(shared.c.subarray(q * 16, (q + 1) * 16), [4, 4])
      assertNear(ops.matmul(ops.matmul(plainTensor(shared.p, [4, 4]), C), plainTensor(shared.r, [4, 4]), { transB: true }).data, wanted, 1e-3, `shared, query ${q}`)
      assertNear(parametersOf(small, alone[q]), decayed(H1, times[0], g, true).data, 2e-5, `no later segment, query ${q}`)
    }
  })
}

test('a segment of much time is the inverse without damping, one of little time is a step along the gradient', async () => {
  const factors = await madeFactors(layer)
  const least = Math.min(...factors.eigenvalues)
  assert.ok(least > 0)
  const most = Math.max(...factors.eigenvalues)
  await using(factors, async (settled) => {
    const dense = await settled.dense(queries)
    for (const [q, query] of queries.entries()) assertNear(parametersOf(layer, dense[q]), preconditionedBy(factors, 'ekfac', { kind: 'absolute', value: 0 }, query).data, 1e-4, `query ${q}`)
  }, { damping: { kind: 'segment', time: 40 / least } })
  const time = 1e-7 / most
  await using(factors, async (begun) => {
    const dense = await begun.dense(queries)
    for (const [q, { tokens, delta, input }] of queries.entries())
      assertNear(parametersOf(layer, dense[q]), ops.scale(ops.matmul(plainTensor(delta, [tokens, O]), plainTensor(input, [tokens, I]), { transA: true }), time).data, 1e-5, `query ${q}`)
  }, { damping: { kind: 'segment', time } })
})

test('low-rank is the best of its rank in the metric of the gradients', async (t) => {
  const large = layerOf(64, 47)
  const factors = await madeFactors(large, { decay: 0.08 })
  const many = madeQueries(large, [60, 40, 5])
  const [rows, columns] = [64, 48]
  await using(factors, async (own) => {
    for (const rank of [1, 4, 16, 32]) {
      const found = await own.lowRank(many, { rank, seed: 3 })
      many.forEach((query, q) => {
        const M = inMetric(factors, preconditionedBy(factors, 'ekfac', relative, query))
        const best = svdSmall(M.data, rows, columns).values
        const kept = inMetric(factors, ops.matmul(plainTensor(found[q].u, [rows, rank]), plainTensor(found[q].v, [columns, rank]), { transB: true }))
        const own = svdSmall(kept.data, rows, columns).values
        const least = Math.sqrt(best.subarray(rank).reduce((sum, s) => sum + s * s, 0))
        const error = norm(ops.sub(M, kept))
        t.diagnostic(`rank ${rank}, query ${q}: error ${(error / norm(M)).toPrecision(3)}, best ${(least / norm(M)).toPrecision(3)}`)
        assert.ok(error <= 1.02 * least + 1e-4 * norm(M), `rank ${rank}, query ${q}: error ${error}, the least possible is ${least}`)
        for (let r = 0; r < rank; r++) assert.ok(Math.abs(own[r] - best[r]) <= 0.03 * best[r] + 1e-4 * best[0], `rank ${rank}, query ${q}: singular value ${r} is ${own[r]} instead of ${best[r]}`)
        assert.ok(own.subarray(rank).every((s) => s < 1e-4 * own[0]))
      })
    }
  })
})

/** Documents whose gradients have covariance S ⊗ A: Q_S √S Z √A Q_Aᵀ. */
const documentsOf = ({ inputs, outputs }: LayerFactors, count: number): readonly PlainTensor[] => {
  const next = normals(77)
  const [QS, QA] = [matrixOf(outputs, O), matrixOf(inputs, I)]
  return Array.from({ length: count }, () => {
    const Z = plainTensor(Array.from({ length: O * I }, (_, n) => next() * Math.sqrt((outputs?.values[Math.floor(n / I)] ?? 1) * (inputs?.values[n % I] ?? 1))), [O, I])
    return ops.matmul(ops.matmul(QS, Z), QA, { transB: true })
  })
}
const scores = (query: ArrayLike<number>, documents: readonly PlainTensor[]): readonly number[] => documents.map(({ data }) => data.reduce((sum, g, n) => sum + g * query[n], 0))
const rms = (xs: readonly number[]): number => Math.sqrt(xs.reduce((sum, x) => sum + x * x, 0) / xs.length)

test('what truncation loses is what it predicts: the error of scores is ‖M − M_r‖', async () => {
  const factors = await madeFactors(layer, { decay: 0.15 })
  const documents = documentsOf(factors, 600)
  await using(factors, async (own) => {
    for (const [rank, width] of [[2, 4], [5, 8], [9, 12]]) {
      const lowRank = await own.lowRank(queries, { rank, seed: 3 })
      const shared = await own.shared(queries, { width, seed: 3 })
      for (const q of [0, 3, 4]) {
        const exact = preconditionedBy(factors, 'ekfac', relative, queries[q])
        for (const [what, found] of [['low-rank', fromLowRank(lowRank[q])], ['shared', fromShared(shared, q)]] as const) {
          const lost = ops.sub(exact, found)
          const predicted = norm(inMetric(factors, lost))
          if (predicted < 1e-3 * norm(inMetric(factors, exact))) continue
          const seen = rms(scores(lost.data, documents))
          assert.ok(Math.abs(seen / predicted - 1) < 0.1, `${what} ${rank}, query ${q}: ${seen} where ${predicted} was to be expected`)
          assert.ok(what === 'shared' || predicted < norm(inMetric(factors, exact)))
        }
      }
    }
  })
})

test('shared bases get better with their width, and hold a set that has one space in common exactly', async () => {
  const factors = await madeFactors(layer, { decay: 0.15 })
  const exact = queries.map((query) => inMetric(factors, preconditionedBy(factors, 'ekfac', relative, query)))
  await using(factors, async (own) => {
    const errors: number[] = []
    for (const width of [2, 6, 10, 13]) {
      const shared = await own.shared(queries, { width, seed: 3 })
      assert.deepEqual(shared.widths, sharedWidths(layer, width))
      errors.push(rms(exact.map((M, q) => norm(ops.sub(M, inMetric(factors, fromShared(shared, q)))) / norm(M))))
    }
    assert.ok(errors.every((error, n) => n === 0 || error < errors[n - 1]), errors.join())
    assert.ok(errors[0] < 1 && errors[3] < 0.5, errors.join())
    // One token each: five queries span five directions on either side.
    const single = madeQueries(layer, [1, 1, 1, 1, 1])
    const flat = await madeFactors(layer, { strategy: 'identity' })
    const wide = await using(flat, (plain) => plain.shared(single, { width: 5, seed: 3 }), { strategy: 'identity' })
    single.forEach((query, q) => assertNear(fromShared(wide, q).data, preconditionedBy(flat, 'identity', relative, query).data, 1e-4, `query ${q}`))
  })
})

test('truncation in the metric of the gradients beats the plain one where preconditioning blows up empty directions', async (t) => {
  const factors = await madeFactors(layer, { decay: 0.6 })
  const documents = documentsOf(factors, 300)
  const rank = 3
  await using(factors, async (own) => {
    const weighted = await own.lowRank(queries, { rank, seed: 3 })
    for (const q of [0, 3, 4]) {
      const exact = preconditionedBy(factors, 'ekfac', relative, queries[q])
      const { u, values, v } = svdSmall(exact.data, O, I)
      const width = values.length
      const plain = plainTensor(new Float64Array(O * I), [O, I])
      for (let r = 0; r < rank; r++) for (let i = 0; i < O; i++) for (let j = 0; j < I; j++) plain.data[i * I + j] += u[i * width + r] * values[r] * v[j * width + r]
      const wanted = scores(exact.data, documents)
      const [better, worse] = [fromLowRank(weighted[q]), plain].map((x) => relativeError(scores(x.data, documents), wanted))
      t.diagnostic(`query ${q}: weighted ${better.toPrecision(2)}, plain ${worse.toPrecision(2)}`)
      assert.ok(better < 0.6 * worse, `query ${q}: ${better} weighted, ${worse} plain`)
    }
  })
})

test('a query is the same alone and among others, and from run to run; another seed gives another sketch of the same', async () => {
  const factors = await madeFactors(layer, {})
  await using(factors, async (own) => {
    const together = await own.lowRank(queries, { rank: 6, seed: 3 })
    const again = await own.lowRank(queries, { rank: 6, seed: 3 })
    const other = await own.lowRank(queries, { rank: 6, seed: 4 })
    assert.deepEqual(again, together)
    for (const [q, query] of queries.entries()) {
      const [alone] = await own.lowRank([query], { rank: 6, seed: 3 })
      assertNear(inMetric(factors, fromLowRank(alone)).data, inMetric(factors, fromLowRank(together[q])).data, 1e-4, `query ${q} alone`)
      assertNear(inMetric(factors, fromLowRank(other[q])).data, inMetric(factors, fromLowRank(together[q])).data, 0.05, `query ${q}, other seed`)
    }
  })
})

test('no gradient, or a layer in which no document had any, gives zeros or the plain gradient, never NaN', async () => {
  const zero = { tokens: 3, delta: new Float32Array(3 * O), input: new Float32Array(3 * I).fill(1) }
  const alive = await madeFactors(layer, {})
  const silent = (basis: LayerFactors['inputs']) => basis && { ...basis, values: basis.values.map(() => 0) }
  const dead: LayerFactors = { ...alive, inputs: silent(alive.inputs), outputs: silent(alive.outputs), eigenvalues: new Float32Array(O * I) }
  for (const [what, factors, damping] of [['alive', alive, relative], ['dead', dead, relative], ['undamped and dead', dead, { kind: 'absolute', value: 0 }]] as const) {
    await using(factors, async (own) => {
      const set = [zero, queries[0]]
      const dense = await own.dense(set)
      const lowRank = await own.lowRank(set, { rank: 4, seed: 1 })
      const shared = await own.shared(set, { width: 4, seed: 1 })
      const onlyZeros = await own.shared([zero], { width: 4, seed: 1 })
      for (const x of [dense[0], fromLowRank(lowRank[0]).data, fromShared(shared, 0).data, fromShared(onlyZeros, 0).data]) assert.ok(x.every((v) => v === 0), `${what}: a query without gradient`)
      for (const x of [dense[1], fromLowRank(lowRank[1]).data, fromShared(shared, 1).data]) assert.ok(x.every(Number.isFinite), what)
    }, { damping })
  }
  assert.equal(dampingOf('ekfac', new Float32Array(4), relative), 1)
})

test('ranks and widths never exceed the layer', () => {
  assert.equal(lowRankOf(layer, 32), 14)
  assert.equal(lowRankOf(layer, 3), 3)
  assert.deepEqual(sharedWidths(layer, 16), [16, 14])
})
