/** @file The plain engine against definitions written as loops, numbers known from elsewhere, and its own refusals. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { normals, uniforms } from '../../src/base/index.js'
import { attentionForward } from '../../src/tensor/attention.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'

const ops = plainOps()
const sizeOf = (shape: readonly number[]): number => shape.reduce((size, n) => size * n, 1)
const random = (shape: readonly number[], seed = 1): PlainTensor => {
  const next = normals(seed)
  return plainTensor(Array.from({ length: sizeOf(shape) }, next), shape)
}
/** 0, 1, 2, ... */
const counting = (...shape: number[]): PlainTensor => plainTensor([...Array(sizeOf(shape)).keys()], shape)

const close = (a: PlainTensor, shape: readonly number[], values: readonly number[], tolerance = 1e-13): void => {
  assert.deepEqual(a.shape, shape)
  values.forEach((value, i) =>
    assert.ok(Object.is(a.data[i], value) || Math.abs(a.data[i] - value) <= tolerance * Math.max(1, Math.abs(value)), `[${i}]: ${a.data[i]} instead of ${value}`))
}
const values = (x: PlainTensor): number[] => [...x.data]

test('elementwise operations broadcast as in numpy', () => {
  close(ops.add(counting(2, 1, 3), counting(2, 1)), [2, 2, 3], [0, 1, 2, 1, 2, 3, 3, 4, 5, 4, 5, 6])
  close(ops.sub(counting(3), plainTensor([1], [])), [3], [-1, 0, 1])
  close(ops.mul(counting(2, 2), counting(2)), [2, 2], [0, 1, 0, 3])
  close(ops.div(plainTensor([1], [1]), counting(2, 1)), [2, 1], [Infinity, 1])
  close(ops.shift(ops.scale(counting(3), 2), -1), [3], [-1, 1, 3])
  close(ops.exp(counting(2)), [2], [1, Math.E])
  close(ops.rsqrt(plainTensor([4], [1])), [1], [0.5])
  close(ops.sigmoid(plainTensor([0, -800, 800], [3])), [3], [0.5, 0, 1])
})

test('erf is right to a few roundings of float64 on both of its branches', () => {
  const known: readonly (readonly [number, number])[] = [
    [0, 0], [1e-10, 1.1283791670955126e-10], [0.1, 0.1124629160182849], [0.5, 0.5204998778130465], [1, 0.8427007929497149],
    [1.7, 0.9837904585907745], [2.5, 0.999593047982555], [2.999, 0.9999777698314002], [3, 0.9999779095030014],
    [3.5, 0.9999992569016276], [5, 0.9999999999984626], [-0.7, -0.6778011938374184], [-4, -0.9999999845827421], [7, 1],
  ] // Python's math.erf
  for (const [x, erf] of known) close(ops.erf(plainTensor([x], [1])), [1], [erf], 2e-15)
  assert.ok(Number.isNaN(ops.erf(plainTensor([NaN], [1])).data[0]))
})

test('matmul is the sum over the inner axis, for every transposition and broadcast', () => {
  const check = (batchX: number[], batchY: number[], batch: number[], transA: boolean, transB: boolean): void => {
    const [M, K, N] = [2, 3, 4]
    const x = random([...batchX, ...(transA ? [K, M] : [M, K])])
    const y = random([...batchY, ...(transB ? [N, K] : [K, N])], 2)
    const product = ops.matmul(x, y, { transA, transB, alpha: 0.5 })
    const swap = (z: PlainTensor): PlainTensor => {
      const axes = z.shape.map((_, axis) => axis)
      return ops.transpose(z, [...axes.slice(0, -2), axes.length - 1, axes.length - 2])
    }
    const left = ops.reshape(transA ? swap(x) : x, [...batchX, M, K, 1])
    const right = ops.reshape(transB ? swap(y) : y, [...batchY, 1, K, N])
    close(product, [...batch, M, N], values(ops.sum(ops.scale(ops.mul(left, right), 0.5), { axes: [-2] })))
  }
  for (const transA of [false, true])
    for (const transB of [false, true]) {
      check([], [], [], transA, transB)
      check([5], [], [5], transA, transB)
      check([2, 1], [3], [2, 3], transA, transB)
    }
})

test('sums, means, softmax and logSumExp run over the axes that they name, without overflow', () => {
  const x = counting(2, 3)
  close(ops.sum(x, { axes: [0] }), [3], [3, 5, 7])
  close(ops.sum(x, { axes: [-1], keep: true }), [2, 1], [3, 12])
  close(ops.sum(x, { axes: [0, 1] }), [], [15])
  close(ops.sumSquares(x, { axes: [1] }), [2], [5, 50])
  close(ops.meanLast(x), [2, 1], [1, 4])
  const large = plainTensor([1000, 1000, -Infinity], [1, 3])
  close(ops.softmax(large), [1, 3], [0.5, 0.5, 0])
  close(ops.logSumExp(large), [1, 1], [1000 + Math.LN2])
})

test('shapes are changed without touching order: reshape, transpose, part, slice, concat', () => {
  const x = counting(2, 3, 4)
  close(ops.reshape(x, [0, -1]), [2, 12], values(x))
  close(ops.reshape(x, [0, 0, 2, -1]), [2, 3, 2, 2], values(x))
  close(ops.reshapeLike(x, counting(4, 6)), [4, 6], values(x))
  close(ops.transpose(counting(2, 3), [1, 0]), [3, 2], [0, 3, 1, 4, 2, 5])
  close(ops.transpose(x, [2, 0, 1]), [4, 2, 3], Array.from({ length: 24 }, (_, i) => (i % 3) * 4 + (Math.floor(i / 3) % 2) * 12 + Math.floor(i / 6)))
  close(ops.slice(x, { axis: -1, from: 1, to: 3 }), [2, 3, 2], [1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22])
  close(ops.slice(counting(5), { axis: 0, from: -2, to: Infinity }), [2], [3, 4])
  close(ops.slice(counting(5), { axis: 0, from: 0, to: -1 }), [4], [0, 1, 2, 3])
  close(ops.part(counting(7), { axis: 0, from: 1, to: 3, of: 3 }), [5], [2, 3, 4, 5, 6])
  close(ops.concat([counting(2, 1), counting(2, 2)], 1), [2, 3], [0, 0, 1, 1, 2, 3])
  close(ops.appendOne(counting(2, 2)), [2, 3], [0, 1, 1, 2, 3, 1])
  close(ops.zerosLike(counting(2)), [2], [0, 0])
})

test('the parts of an axis are the whole axis, however it is cut', () => {
  fc.assert(fc.property(fc.nat(12), fc.integer({ min: 1, max: 5 }), fc.nat(2), (length, of, axis) => {
    const shape = [2, 3, 2].with(axis, length)
    const x = counting(...shape)
    const parts = Array.from({ length: of }, (_, i) => ops.part(x, { axis, from: i, to: i + 1, of }))
    assert.deepEqual(ops.concat(parts, axis), x)
    parts.forEach((part, i) => assert.deepEqual(ops.cutLike(x, parts.slice(0, i), part, axis), part))
  }))
})

test('gather takes rows and scatterRows puts them back', () => {
  const table = counting(4, 2)
  close(ops.gather(table, plainTensor([3, 0, 3, 1], [2, 2])), [2, 2, 2], [6, 7, 0, 1, 6, 7, 2, 3])
  close(ops.scatterRows(counting(2, 2), plainTensor([2, 0], [2]), table), [4, 2], [2, 3, 0, 0, 0, 1, 0, 0])
  close(ops.takeRows(table, plainTensor([2], [1])), [1, 2], [4, 5])
})

test('a position sees the last `window` positions, itself included', () => {
  const seen = (window?: number): number[] => values(ops.causalBias(counting(1, 4, 1), window)).map((bias) => (bias === 0 ? 1 : 0))
  assert.deepEqual(seen(), [1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
  assert.deepEqual(seen(2), [1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1])
  close(ops.positions(counting(2, 3)), [3], [0, 1, 2])
})

test('sampleRows inverts the distribution function', () => {
  const p = plainTensor([0.25, 0, 0.5, 0.25], [1, 4])
  const draw = (u: number): number => ops.sampleRows(p, plainTensor([u], [1, 1])).data[0]
  assert.deepEqual([0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2 ** -53].map(draw), [0, 0, 2, 2, 3, 3])
  const short = plainTensor([0.5, 0.4999, 0], [1, 3]) // a sum that rounding left below u
  assert.equal(ops.sampleRows(short, plainTensor([0.99999], [1, 1])).data[0], 1)
  const next = uniforms(7)
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 4000; i++) counts[draw(next())]++
  for (const [i, count] of counts.entries()) assert.ok(Math.abs(count / 4000 - p.data[i]) < 0.03)
})

test('norms, activations, linear layers and losses follow their formulas', () => {
  const x = random([3, 4])
  const [gamma, beta, epsilon] = [random([4], 2), random([4], 3), 0.1]
  const rows = [0, 1, 2].map((r) => values(x).slice(4 * r, 4 * r + 4))
  const mean = (row: readonly number[]): number => row.reduce((sum, a) => sum + a, 0) / row.length
  const layerNorm = rows.flatMap((row) => {
    const variance = mean(row.map((a) => (a - mean(row)) ** 2))
    return row.map((a, i) => ((a - mean(row)) / Math.sqrt(variance + epsilon)) * gamma.data[i] + beta.data[i])
  })
  close(ops.layerNorm(x, gamma, beta, { epsilon }), [3, 4], layerNorm)
  close(ops.rmsNorm(x, gamma, { epsilon }), [3, 4],
    rows.flatMap((row) => row.map((a, i) => (a / Math.sqrt(mean(row.map((b) => b * b)) + epsilon)) * gamma.data[i])))
  const at = (f: (x: PlainTensor) => PlainTensor, a: number): number => f(plainTensor([a], [1])).data[0]
  // torch.nn.functional at −1.5: silu, gelu, gelu(approximate='tanh')
  const activations = [[ops.silu, -0.2736382857095345], [ops.gelu, -0.10021080190328704], [ops.geluTanh, -0.10042842301976707]] as const
  for (const [f, known] of activations) assert.ok(Math.abs(at(f, -1.5) - known) < 1e-14, `${at(f, -1.5)} instead of ${known}`)

  const weight = random([2, 4], 4)
  const y = ops.linear(x, weight, plainTensor([10, 20], [2]), { transposed: false })
  close(y, [3, 2], rows.flatMap((row) => [0, 1].map((o) => row.reduce((sum, a, i) => sum + a * weight.data[4 * o + i], 10 * (o + 1)))))
  close(ops.linear(x, ops.transpose(weight, [1, 0]), plainTensor([10, 20], [2]), { transposed: true }), [3, 2], values(y))

  const head = random([5, 4], 5)
  const labels = [4, 0, 2]
  for (const logitScale of [undefined, 0.3]) {
    const losses = rows.map((row, r) => {
      const logits = Array.from({ length: 5 }, (_, v) => (logitScale ?? 1) * row.reduce((sum, a, i) => sum + a * head.data[4 * v + i], 0))
      return Math.log(logits.reduce((sum, a) => sum + Math.exp(a), 0)) - logits[labels[r]]
    })
    close(ops.tokenLosses(x, head, plainTensor(labels, [3]), { logitScale }), [3, 1], losses)
  }
})

test('rotary turns the two halves of each head by the position’s angles', () => {
  const [B, T, H, half] = [2, 3, 2, 2]
  const x = random([B, T, H, 2 * half])
  const angles = Array.from({ length: T * half }, (_, i) => 0.3 * i)
  const turned = ops.rotary(x, plainTensor(angles.map(Math.cos), [T, half]), plainTensor(angles.map(Math.sin), [T, half]))
  const expected = Array.from(x.data, (a, i) => {
    const [d, t] = [i % (2 * half), Math.floor(i / (2 * half * H)) % T]
    const angle = angles[t * half + (d % half)]
    return d < half ? a * Math.cos(angle) - x.data[i + half] * Math.sin(angle) : a * Math.cos(angle) + x.data[i - half] * Math.sin(angle)
  })
  close(turned, x.shape, expected)
})

/** Attention as its definition has it: one query, one key, one value at a time. */
const attentionByLoops = (
  q: PlainTensor, k: PlainTensor, v: PlainTensor, { headsKv, scale, window = Infinity, softCap }: { headsKv: number; scale: number; window?: number; softCap?: number },
): number[] => {
  const [B, T, H, d] = q.shape
  const out = new Array<number>(B * T * H * d).fill(0)
  for (let b = 0; b < B; b++)
    for (let i = 0; i < T; i++)
      for (let h = 0; h < H; h++) {
        const keyHead = Math.floor((h * headsKv) / H)
        const keyAt = (j: number): number => ((b * T + j) * headsKv + keyHead) * d
        const queryAt = ((b * T + i) * H + h) * d
        const seen = [...Array(T).keys()].filter((j) => j <= i && i - j < window)
        const weights = seen.map((j) => {
          let dot = 0
          for (let c = 0; c < d; c++) dot += q.data[queryAt + c] * k.data[keyAt(j) + c]
          return Math.exp(softCap === undefined ? scale * dot : softCap * Math.tanh((scale * dot) / softCap))
        })
        const total = weights.reduce((sum, w) => sum + w, 0)
        seen.forEach((j, n) => {
          for (let c = 0; c < d; c++) out[queryAt + c] += (weights[n] / total) * v.data[keyAt(j) + c]
        })
      }
  return out
}

for (const { heads, headsKv, window, softCap } of [{ heads: 2, headsKv: 2 }, { heads: 6, headsKv: 2 }, { heads: 4, headsKv: 1, window: 3 }, { heads: 2, headsKv: 1, softCap: 0.5 }])
  test(`attention of ${heads} heads over ${headsKv}, window ${window ?? 'none'}, soft cap ${softCap ?? 'none'}, is its definition, in any blocks`, () => {
    const [B, T, headDim] = [2, 7, 3]
    const [q, k, v] = [random([B, T, heads, headDim], 1), random([B, T, headsKv, headDim], 2), random([B, T, headsKv, headDim], 3)]
    const options = { heads, headsKv, headDim, scale: 0.7, window, softCap }
    const expected = attentionByLoops(q, k, v, options)
    close(ops.attention(q, k, v, options), [B, T, heads, headDim], expected)
    for (const blocks of [2, 3, 4, 7]) close(attentionForward(ops, blocks, q, k, v, options), [B, T, heads, headDim], expected)
  })

test('what does not fit is refused with both shapes', () => {
  const refusals: readonly (readonly [() => unknown, RegExp])[] = [
    [() => ops.add(counting(2, 3), counting(2)), /add: \[2, 3\] and \[2\] do not broadcast/],
    [() => ops.matmul(counting(2, 3), counting(2, 3)), /matmul: \[2, 3\] × \[2, 3\]/],
    [() => ops.matmul(counting(3), counting(3, 1)), /matmul: \[3\] is not a matrix/],
    [() => ops.matmul(counting(2, 1, 3), counting(3, 3, 1)), /matmul: \[2, 1, 3\] and \[3, 3, 1\] do not broadcast/],
    [() => ops.reshape(counting(2, 3), [4, -1]), /reshape: \[2, 3\] to \[4, -1\]/],
    [() => ops.reshape(counting(2), [0, 0]), /no dimension 1 to copy/],
    [() => ops.reshapeLike(counting(2), counting(3)), /\[2\] as \[3\]/],
    [() => ops.transpose(counting(2, 3), [0, 0]), /transpose: \[2, 3\] by \[0, 0\]/],
    [() => ops.concat([counting(2, 3), counting(3, 2)], 0), /concat on axis 0: \[2, 3\] and \[3, 2\]/],
    [() => ops.cutLike(counting(2, 3), [], counting(1, 2), 0), /\[1, 2\] out of \[2, 3\]/],
    [() => ops.slice(counting(3), { axis: 0, from: 2, to: 1 }), /slice: \[2, 1\) of axis 0 of \[3\]/],
    [() => ops.part(counting(3), { axis: 0, from: 0, to: 3, of: 2 }), /part: \[0, 3\) of 2 of \[3\]/],
    [() => ops.sum(counting(3), { axes: [1] }), /sum: no axis 1 in \[3\]/],
    [() => ops.gather(counting(3, 2), plainTensor([3], [1])), /gather: index 3 in a table of 3 rows/],
    [() => ops.gather(counting(3, 2), plainTensor([0.5], [1])), /index 0\.5/],
    [() => ops.scatterRows(counting(2, 2), plainTensor([1, 1], [2]), counting(3, 2)), /not distinct/],
    [() => ops.scatterRows(counting(2, 3), plainTensor([0, 1], [2]), counting(3, 2)), /\[2, 3\] by rows \[2\] into \[3, 2\]/],
    [() => ops.sampleRows(counting(2, 3), counting(2)), /\[2, 3\] by u \[2\]/],
    [() => ops.sampleRows(plainTensor([NaN, NaN], [1, 2]), plainTensor([0], [1, 1])), /row 0 is no distribution/],
    [() => ops.topMask(counting(2, 3), 4), /topMask: the 4 largest of \[2, 3\]/],
    [() => ops.causalBias(counting(3)), /causalBias: no axis 1 in \[3\]/],
    [() => ops.constant([1, 2], [3]), /2 values for shape \[3\]/],
    [() => ops.constant([1.5], [1], 'int'), /not all are integers/],
  ]
  for (const [attempt, message] of refusals) assert.throws(attempt, message)
})
