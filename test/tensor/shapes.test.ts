/** @file Shapes without numbers: those of every operation are those that the plain engine computes, and watched variables are not broadcast. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { plainOps } from '../../src/tensor/engines/plain.js'
import { onnxEngine, tape, type Engine, type Ops } from '../../src/tensor/index.js'
import { checkShapes, shapeOps, type Dim, type Shaped } from '../../src/tensor/shapes.js'
import { randomTensor } from './tensors.js'

/** Lengths by name, and what a name of the shape ops comes to. */
const lengths: Readonly<Record<string, number>> = { B: 2, T: 6, N: 5 }
const lengthOf = (dim: Dim): number => (typeof dim === 'number' ? dim : dim.split('·').reduce((product, part) => product * (lengths[part] ?? Number(part)), 1))

const shapes: Readonly<Record<string, readonly Dim[]>> = { x: ['B', 'T', 8], y: ['B', 'T', 8], row: [8], column: ['B', 'T', 1], w: [4, 8], flat: ['N', 8] }
const constructions: Readonly<Record<string, <T>(ops: Ops<T>, v: (name: string) => T) => T>> = {
  'a row is broadcast': (ops, v) => ops.add(v('x'), v('row')),
  'a column is broadcast': (ops, v) => ops.mul(v('column'), v('x')),
  'a product': (ops, v) => ops.matmul(v('x'), v('w'), { transB: true }),
  'a product of transposed': (ops, v) => ops.matmul(v('x'), v('y'), { transA: true }),
  'sums that are kept': (ops, v) => ops.sum(v('x'), { axes: [-1], keep: true }),
  'sums that are not': (ops, v) => ops.sumSquares(v('x'), { axes: [1, 2] }),
  'a mean': (ops, v) => ops.meanLast(v('x')),
  'a logarithm of sums': (ops, v) => ops.logSumExp(v('x')),
  'rows of all documents': (ops, v) => ops.reshape(v('x'), [-1, 8]),
  'and back': (ops, v) => ops.reshapeLike(ops.reshape(v('x'), [-1, 8]), v('y')),
  'heads': (ops, v) => ops.transpose(ops.reshape(v('x'), [0, 0, 2, 4]), [0, 2, 1, 3]),
  'a group of heads': (ops, v) => ops.reshape(ops.transpose(ops.reshape(v('x'), [0, 0, 2, 4]), [0, 2, 1, 3]), [0, -1, 4]),
  'halves of a known length': (ops, v) => ops.part(v('x'), { axis: -1, from: 1, to: 2, of: 2 }),
  'a slice': (ops, v) => ops.slice(v('x'), { axis: -1, from: 2, to: -1 }),
  'the last position': (ops, v) => ops.slice(v('x'), { axis: 1, from: -1, to: Infinity }),
  'the first positions': (ops, v) => ops.slice(v('x'), { axis: 1, from: 0, to: 3 }),
  'columns side by side': (ops, v) => ops.concat([v('x'), v('y'), v('column')], -1),
  'with a one': (ops, v) => ops.appendOne(v('x')),
  'a table of positions': (ops, v) => ops.gather(ops.constant(new Float64Array(30), [10, 3]), ops.positions(v('x'))),
  'the bias of attention': (ops, v) => ops.causalBias(v('x')),
  'a norm': (ops, v) => ops.rmsNorm(v('x'), v('row'), { epsilon: 1 }),
  'a linear layer': (ops, v) => ops.linear(v('x'), v('w'), undefined, { transposed: false }),
  'losses': (ops, v) => ops.tokenLosses(v('flat'), v('w'), ops.constant([0, 1, 2, 3, 0], [5], 'int')),
}

test('shapes are those of the plain engine', () => {
  const plain = plainOps()
  for (const [name, build] of Object.entries(constructions)) {
    const computed = build(plain, (input) => randomTensor(shapes[input].map(lengthOf), 1)).shape
    const told = build<Shaped>(shapeOps, (input) => ({ shape: shapes[input] })).shape
    assert.deepEqual(told?.map(lengthOf), computed, `${name}: ${told?.join()}`)
  }
  const q = { shape: ['B', 'T', 4, 2] }
  const k = { shape: ['B', 'T', 2, 2] }
  assert.deepEqual(shapeOps.attention(q, k, k, { heads: 4, headsKv: 2, headDim: 2, scale: 1 }).shape, ['B', 'T', 4, 2])
  assert.equal(shapeOps.add({ shape: undefined }, q).shape, undefined, 'what is not known is left open')
})

const broadcasts: readonly (readonly [string, <T>(ops: Ops<T>, watched: (name: string) => T, constant: (name: string) => T) => T, RegExp])[] = [
  ['a row', (ops, w, c) => ops.add(c('x'), w('row')), /"add" broadcasts a watched variable of \[8\] to \[\w, \w, 8\]/],
  ['a column', (ops, w, c) => ops.mul(w('column'), c('x')), /"mul" broadcasts a watched variable of \[\w, \w, 1\] to \[\w, \w, 8\]/],
  ['one of two', (ops, w) => ops.sub(w('x'), w('column')), /"sub" .*: spread it first, by a product with ones/],
  ['what was computed from it', (ops, w, c) => ops.div(c('x'), ops.exp(ops.sum(w('y'), { axes: [-1], keep: true }))), /"div"/],
]

test('a watched variable that is broadcast is refused where it stands, whatever the handles are that know their shape', () => {
  const plain = plainOps()
  const shaped = tape(shapeOps)
  const eager = tape(plain)
  const inputs = (input: string) => ({ shape: shapes[input] })
  const numbers = (input: string) => randomTensor(shapes[input].map(lengthOf), 1)
  for (const [what, build, message] of broadcasts) {
    assert.throws(() => build(shaped.ops, (input) => shaped.watch(shaped.constant(inputs(input))), (input) => shaped.constant(inputs(input))), message, what)
    assert.throws(() => build(eager.ops, (input) => eager.watch(eager.constant(numbers(input))), (input) => eager.constant(numbers(input))), { name: 'RangeError' }, what)
  }
  // Constants may be, and watched variables may meet what is broadcast to them.
  const watched = shaped.watch(shaped.constant(inputs('x')))
  assert.deepEqual(shaped.ops.mul(watched, shaped.constant(inputs('row'))).value.shape, ['B', 'T', 8])
  assert.deepEqual(shaped.ops.add(shaped.constant(inputs('x')), shaped.constant(inputs('row'))).value.shape, ['B', 'T', 8])
})

let engine: Engine
before(() => (engine = onnxEngine({ threads: 1 })))
after(() => engine[Symbol.asyncDispose]())

test('an engine refuses to compile it', async () => {
  const spec = (isWatched: boolean) => ({
    name: 'test', inputs: { x: { type: 'float32', shape: ['B', 'T', 8] }, row: { type: 'float32', shape: [8] } }, weights: new Map(),
    build: <T>(ops: Ops<T>, value: (name: string) => T) => {
      const { ops: taped, constant, watch } = tape(ops)
      const row = constant(value('row'))
      return { y: taped.add(constant(value('x')), isWatched ? watch(row) : row).value }
    },
  }) as const
  assert.throws(() => checkShapes(spec(true)), /"add" broadcasts a watched variable of \[8\] to \[B, T, 8\]/)
  await assert.rejects(engine.compile(spec(true)), /"add" broadcasts a watched variable of \[8\] to \[B, T, 8\]/)
  await using _fine = await engine.compile(spec(false))
})
