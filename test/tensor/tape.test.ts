/** @file The tape: every gradient against finite differences in float64, and that nothing unasked for is computed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { batchGradients, batchTensors, trackedLayers } from '../../src/influence/index.js'
import { openModel } from '../../src/model/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { tape, type Ops, type Variable } from '../../src/tensor/index.js'
import { plainWeights } from '../model/checkpoints.js'
import { readReference } from '../references/read.js'
import { assertNear, blockedOps, observed, operationNames, randomTensor } from './tensors.js'

const plain = plainOps()
const ints = (...values: number[]): PlainTensor => plainTensor(values, [values.length])
const positive = (x: PlainTensor): PlainTensor => ({ shape: x.shape, data: x.data.map((a) => Math.abs(a) + 0.5) })

/** A function of some tensors, all of which gradients flow to. */
interface Differentiable {
  readonly at: readonly PlainTensor[]
  readonly f: <T>(ops: Ops<T>, xs: readonly T[], constant: (x: PlainTensor) => T) => T
}
const of = (at: readonly PlainTensor[], f: Differentiable['f']): Differentiable => ({ at, f })
const x = randomTensor([2, 3, 4], 1)
const y = randomTensor([2, 3, 4], 2)
const [gamma, beta] = [randomTensor([4], 3), randomTensor([4], 4)]
const attended = (options: { heads: number; headsKv: number; window?: number; softCap?: number }): Differentiable =>
  of([[2, 6, options.heads, 3], [2, 6, options.headsKv, 3], [2, 6, options.headsKv, 3]].map((shape, i) => randomTensor(shape, i)), (ops, [q, k, v]) =>
    ops.attention(q, k, v, { headDim: 3, scale: 0.7, ...options }))

/** Total: an operation that is new to `Ops` must say here what its gradient is, or this does not compile. */
const table: { readonly [Op in keyof Omit<Ops<unknown>, 'blocks'>]: readonly Differentiable[] | 'constant' | 'refused' } = {
  constant: 'constant',
  causalBias: 'constant',
  positions: 'constant',
  zerosLike: 'constant',
  sampleRows: 'constant',
  topMask: 'constant',
  gather: 'refused',
  cutLike: 'refused',
  after: [of([x], (ops, [a], c) => ops.after(a, c(gamma)))],
  add: [of([x, y], (ops, [a, b]) => ops.add(a, b)), of([x], (ops, [a], c) => ops.add(c(gamma), a))],
  sub: [of([x, y], (ops, [a, b]) => ops.sub(a, b)), of([x], (ops, [a], c) => ops.sub(c(gamma), a))],
  mul: [of([x, y], (ops, [a, b]) => ops.mul(a, b)), of([x], (ops, [a], c) => ops.mul(a, c(gamma)))],
  div: [of([x, positive(y)], (ops, [a, b]) => ops.div(a, b)), of([positive(x)], (ops, [a], c) => ops.div(c(gamma), a))],
  scale: [of([x], (ops, [a]) => ops.scale(a, -1.7))],
  shift: [of([x], (ops, [a]) => ops.shift(a, 3))],
  exp: [of([x], (ops, [a]) => ops.exp(a))],
  tanh: [of([x], (ops, [a]) => ops.tanh(a))],
  sigmoid: [of([x], (ops, [a]) => ops.sigmoid(a))],
  erf: [of([x], (ops, [a]) => ops.erf(a))],
  rsqrt: [of([positive(x)], (ops, [a]) => ops.rsqrt(a))],
  matmul: [false, true].flatMap((transA) =>
    [false, true].map((transB) =>
      of([randomTensor(transA ? [2, 4, 3] : [2, 3, 4], 5), randomTensor(transB ? [2, 5, 4] : [2, 4, 5], 6)], (ops, [a, b]) => ops.matmul(a, b, { transA, transB, alpha: -0.3 })))),
  sum: [[0], [1, 2], [-1], [0, 1, 2]].flatMap((axes) => [true, false].map((keep) => of([x], (ops, [a]) => ops.sum(a, { axes, keep })))),
  sumSquares: [[0], [1, 2], [-1]].flatMap((axes) => [true, false].map((keep) => of([x], (ops, [a]) => ops.sumSquares(a, { axes, keep })))),
  meanLast: [of([x], (ops, [a]) => ops.meanLast(a))],
  softmax: [of([x], (ops, [a]) => ops.softmax(a))],
  logSumExp: [of([x], (ops, [a]) => ops.logSumExp(a))],
  reshape: [of([x], (ops, [a]) => ops.reshape(a, [0, -1]))],
  reshapeLike: [of([x], (ops, [a], c) => ops.reshapeLike(a, c(randomTensor([4, 6], 1))))],
  transpose: [[0, 2, 1], [2, 0, 1], [1, 2, 0]].map((permutation) => of([x], (ops, [a]) => ops.transpose(a, permutation))),
  part: [[0, 1], [1, 2], [2, 3], [0, 3]].flatMap(([from, to]) => [0, 2, -1].map((axis) => of([x], (ops, [a]) => ops.part(a, { axis, from, to, of: 3 })))),
  slice: ([[0, 2], [1, Infinity], [-2, -1], [-1, Infinity], [0, -1], [0, Infinity], [1, 100]] as const).map(([from, to]) => of([x], (ops, [a]) => ops.slice(a, { axis: -1, from, to }))),
  concat: [0, 1, -1].map((axis) => of([x, y], (ops, [a, b], c) => ops.concat([a, c(x), b, a], axis))),
  appendOne: [of([x], (ops, [a]) => ops.appendOne(a))],
  scatterRows: [of([randomTensor([2, 3], 1)], (ops, [a], c) => ops.scatterRows(a, c(ints(3, 0)), c(randomTensor([4, 3], 1))))],
  takeRows: [of([randomTensor([4, 3], 1)], (ops, [a], c) => ops.takeRows(a, c(ints(3, 0))))],
  linear: [false, true].flatMap((transposed) => [
    of([x], (ops, [a], c) => ops.linear(a, c(randomTensor(transposed ? [4, 5] : [5, 4], 7)), c(randomTensor([5], 8)), { transposed })),
    of([x], (ops, [a], c) => ops.linear(a, c(randomTensor(transposed ? [4, 5] : [5, 4], 7)), undefined, { transposed })),
  ]),
  layerNorm: [0, 0.3].flatMap((epsilon) => [
    of([x], (ops, [a], c) => ops.layerNorm(a, c(gamma), c(beta), { epsilon })), of([x], (ops, [a], c) => ops.layerNorm(a, c(gamma), undefined, { epsilon })),
  ]),
  rmsNorm: [0, 0.3].map((epsilon) => of([x], (ops, [a], c) => ops.rmsNorm(a, c(gamma), { epsilon }))),
  silu: [of([x], (ops, [a]) => ops.silu(a))],
  gelu: [of([x], (ops, [a]) => ops.gelu(a))],
  geluTanh: [of([x], (ops, [a]) => ops.geluTanh(a))],
  rotary: [of([randomTensor([2, 3, 2, 4], 1)], (ops, [a], c) => ops.rotary(a, c(randomTensor([3, 2], 2)), c(randomTensor([3, 2], 3))))],
  attention: [attended({ heads: 2, headsKv: 2 }), attended({ heads: 4, headsKv: 2 }), attended({ heads: 2, headsKv: 1, window: 3 }), attended({ heads: 4, headsKv: 2, softCap: 0.9 })],
  tokenLosses: [undefined, { logitScale: 0.6 }, { softCap: 1.1 }, { logitScale: 1.6, softCap: 0.7 }].map((options) => of([randomTensor([5, 3], 1)], (ops, [a], c) => ops.tokenLosses(a, c(randomTensor([7, 3], 2)), c(ints(0, 6, 3, 3, 1)), options))),
}

const differentiable = Object.entries(table).filter((entry): entry is [string, readonly Differentiable[]] => typeof entry[1] !== 'string')

test('the gradient of every operation is that of central differences', () => {
  assert.deepEqual(Object.keys(table).sort(), [...operationNames()].sort())
  for (const [name, functions] of differentiable) {
    for (const [which, { at, f }] of functions.entries()) {
      for (const blocks of [1, 3]) {
        if (blocks > 1 && name !== 'attention' && name !== 'tokenLosses') continue
        const ops = blockedOps({ attention: blocks, head: blocks })
        const { ops: taped, constant, watch, gradients } = tape(ops)
        const variables = at.map((value) => watch(constant(value)))
        const out = f(taped, variables, constant)
        const seed = randomTensor(out.value.shape, 99)
        const found = gradients(out, seed, variables)
        at.forEach((value, i) => {
          assert.deepEqual(found[i].shape, value.shape, `${name} ${which}, argument ${i}`)
          const differences = value.data.map((_, n) => {
            const along = (step: number): number => {
              const moved = at.map((other, j) => (j === i ? { shape: other.shape, data: other.data.with(n, other.data[n] + step) } : other))
              return f(ops, moved, (c) => c).data.reduce((sum, a, m) => sum + a * seed.data[m], 0)
            }
            return (along(1e-5) - along(-1e-5)) / 2e-5
          })
          assertNear(found[i].data, differences, 1e-8, `${name} ${which}, argument ${i}, ${blocks} blocks`)
        })
      }
    }
  }
})

test('what is constant carries no gradient, what has none written refuses a watched variable', () => {
  const { ops, constant, watch, gradients } = tape(plain)
  const watched = watch(constant(x))
  for (const result of [ops.zerosLike(watched), ops.causalBias(watched), ops.positions(watched), ops.sampleRows(watch(constant(plainTensor([0.5, 0.5], [1, 2]))), constant(plainTensor([0.1], [1, 1])))]) {
    assert.equal(result.record, undefined)
    assert.throws(() => gradients(result, result.value, [watched]), /does not depend/)
  }
  assert.throws(() => ops.gather(watched, constant(ints(0))), /"gather"/)
  assert.throws(() => ops.cutLike(watched, [], constant(x), 0), /"cutLike"/)
  assert.equal(ops.gather(constant(x), constant(ints(0))).record, undefined, 'but takes constants')
  const weight = watch(constant(randomTensor([5, 4], 1)))
  assert.throws(() => ops.linear(constant(x), weight, undefined, { transposed: false }), /argument 1 of "linear"/)
  assert.throws(() => ops.rmsNorm(constant(x), watch(constant(gamma)), { epsilon: 0 }), /argument 1 of "rmsNorm"/)
})

test('a variable that is used twice sums its gradients', () => {
  const { ops, constant, watch, gradients } = tape(plain)
  const a = watch(constant(x))
  const out = ops.add(ops.mul(a, a), ops.part(ops.concat([a, a], 0), { axis: 0, from: 1, to: 2, of: 2 }))
  const [g] = gradients(out, plain.shift(plain.zerosLike(x), 1), [a])
  assertNear(g.data, x.data.map((v) => 2 * v + 1), 1e-14, 'x² + x')
})

test('gradients are asked for along the way: of a variable, of one computed from it, of the output itself', () => {
  const { ops, constant, watch, gradients } = tape(plain)
  const a = watch(constant(x))
  const b = watch(ops.scale(a, 2))
  const c = ops.exp(b)
  const seed = randomTensor(x.shape, 5)
  const [ofA, ofB, ofC] = gradients(c, seed, [a, b, c])
  assertNear(ofC.data, seed.data, 0, 'output')
  assertNear(ofB.data, seed.data.map((s, i) => s * Math.exp(2 * x.data[i])), 1e-14, 'between')
  assertNear(ofA.data, ofB.data.map((s) => 2 * s), 1e-14, 'input')
  assert.throws(() => gradients(c, seed, [watch(constant(y))]), /does not depend on a variable/)
})

test('the walk back ends at what is asked for, though watched variables lie below', () => {
  const names: string[] = []
  const { ops, constant, watch, gradients } = tape(observed(plain, (name) => names.push(name)))
  const a = watch(constant(x))
  const b = watch(ops.exp(a))
  const c = ops.tanh(ops.scale(b, 2))
  const forward = names.length
  gradients(c, x, [b])
  const toB = names.length - forward
  gradients(c, x, [a])
  assert.equal(names.length - forward - toB, toB + 1, 'the one product through exp comes on top')
})

test('a chain of 20,000 operations does not exhaust the stack', () => {
  const { ops, constant, watch, gradients } = tape(plain)
  const a = watch(constant(ints(1)))
  let out: Variable<PlainTensor> = a
  for (let i = 0; i < 20_000; i++) out = ops.shift(out, 0)
  assert.deepEqual([...gradients(out, ints(3), [a])[0].data], [3])
})

for (const [name, track, untouched] of [
  ['llama', 'model.layers.1.mlp.down_proj', ['gate_proj', 'up_proj', 'down_proj', 'q_proj', 'k_proj', 'v_proj', 'o_proj']],
  ['llama', 'model.layers.1.mlp.(gate|up)_proj', ['gate_proj', 'up_proj', 'q_proj', 'k_proj', 'v_proj', 'o_proj']],
  ['gpt2', 'transformer.h.1.*', ['c_attn', 'h.0.']],
  ['llama', 'all', ['layers.0.self_attn.q_proj', 'layers.0.self_attn.k_proj', 'layers.0.self_attn.v_proj']],
] as const) {
  test(`${name}, ${track}: the backward pass touches nothing below, and makes no weight gradient`, async () => {
    const reference = readReference(name)
    const checkpoint = await openModel(reference.modelDir)
    const { model } = checkpoint
    const load = await plainWeights(checkpoint)
    const weights = new Map<PlainTensor, string>()
    const tracked = trackedLayers(model, track)
    const names = new Set(tracked.map((layer) => layer.name))
    const lowest = model.layers.find((layer) => names.has(layer.name)) ?? assert.fail()

    // What the forward pass made before the lowest tracked layer's output was there.
    const below = new Set<unknown>()
    let phase: 'below' | 'above' | 'backward' = 'below'
    let backwardOps = 0
    const isFirst = (args: readonly unknown[]): boolean => args.some((arg) => weights.get(arg as PlainTensor) === `${lowest.name}.weight`)
    const forbidden = new Set(model.layers.flatMap(({ inputs, outputs }) => [`${outputs},${inputs}`, `${inputs},${outputs}`]))
    forbidden.add([model.vocabulary, model.width].join())
    const problems: string[] = []
    const ops = observed(plain, (op, args, result) => {
      if (phase === 'backward') {
        backwardOps++
        for (const arg of args.flat()) {
          const weight = weights.get(arg as PlainTensor)
          if (weight !== undefined && untouched.some((part) => weight.includes(part))) problems.push(`${op} reads ${weight}`)
          if (below.has(arg)) problems.push(`${op} reads a tensor from below ${lowest.name}`)
        }
        if (forbidden.has(result.shape.slice(-2).join())) problems.push(`${op} makes [${result.shape}]`)
      }
      if (phase === 'below' && isFirst(args)) phase = 'above'
      else if (phase === 'below' && result.shape[0] === 2) below.add(result) // what depends on positions alone is anyone's
      if (op === 'tokenLosses') phase = 'backward'
    })
    const { tokens, rows, labels } = batchTensors([13, 9].map((length) => ({ tokens: Array.from({ length }, (_, t) => (7 * t) % model.vocabulary) })))
    const inputs = new Map(Object.entries({ tokens, rows, labels }).map(([key, { data, shape }]) => [key, plainTensor(Array.from(data, Number), shape)]))
    const { layers } = batchGradients(ops, model, tracked, (key) => inputs.get(key) ?? assert.fail(key), (key) => {
      const weight = load(key)
      weights.set(weight, key)
      return weight
    })
    // ā of the lowest layer comes from below; it was taken on the way up.
    assert.deepEqual(layers.map(({ layer }) => layer.name), [...tracked].reverse().map((layer) => layer.name))
    assert.ok(backwardOps > 0 && below.size > 0)
    assert.deepEqual(problems, [])
  })
}
