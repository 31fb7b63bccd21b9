/**
 * @file What every engine must do: the same as the plain one, for every operation, over random shapes that the program
 * does not know beforehand (and some that it does). Many operations run as one program, since compiling is what costs.
 */
import assert from 'node:assert/strict'
import { after, before, test as run } from 'node:test'
import { uniforms } from '../../src/base/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { sampleLabels, tape, type Engine, type InputSpec, type Ops, type TensorData } from '../../src/tensor/index.js'
import { dice, observed, operationNames, randomTensor, sizeOf } from './tensors.js'

interface Case {
  readonly name: string
  /** Given to the engine when it runs; those in `integers` as int64. */
  readonly inputs: Readonly<Record<string, PlainTensor>>
  readonly integers?: readonly string[]
  readonly build: <T>(ops: Ops<T>, value: (name: string) => T) => T
}

export interface EngineUnderTest {
  readonly open: (blocks: { readonly attention: number; readonly head: number }) => Engine
  /** Of the largest number of a result. */
  readonly tolerance: number
  /** Why it cannot be tested here. */
  readonly skip?: string | false
  /** Whether a row that a table lacks is refused; shaders read another one. Default: true. */
  readonly refusesIds?: boolean
}

export const engineConformance = (name: string, { open, tolerance, skip = false, refusesIds = true }: EngineUnderTest): void => {
  const test = (what: string, body: () => Promise<void> | void): void => void run(what, { skip }, body)
  const allBlocks = [{ attention: 1, head: 1 }, { attention: 2, head: 3 }, { attention: 4, head: 4 }, { attention: 8, head: 2 }]
  const engines: Engine[] = []
  const engineOf = (seed: number): Engine => engines[seed % engines.length]
  before(() => {
    if (skip === false) for (const blocks of allBlocks) engines.push(open(blocks))
  })
  after(async () => {
    for (const engine of engines) await engine[Symbol.asyncDispose]()
  })

  const suites: Readonly<Record<string, (seed: number) => readonly Case[]>> = {
    'elementwise operations and broadcasting': elementwise,
    products: products,
    'sums, means and softmax along axes': reductions,
    'reshaping, cutting and joining': shapes,
    'rows, positions and masks': rows,
    'drawing from distributions': draws,
    'norms, activations and rotary positions': layers,
    'attention and the head, with gradients': attentionAndHead,
  }
  const used = new Set<string>()
  for (const [suite, make] of Object.entries(suites)) {
    test(`${name}: ${suite}`, async () => {
      for (const seed of [1, 2, 3, 4]) {
        const cases = make(seed)
        for (const { inputs, build } of cases) build(observed(plainOps(), (op) => used.add(op)), (input) => inputs[input])
        await agree(engineOf(seed), cases, seed, tolerance)
      }
    })
  }
  test(`${name}: no operation was left out`, () => {
    assert.deepEqual(operationNames().filter((op) => !used.has(op)), [])
  })

  test(`${name}: every run of a program computes anew, whatever the lengths`, async () => {
    await using program = await engineOf(0).compile({
      name: 'lengths', inputs: { x: { type: 'float32', shape: ['B', 'T', 4] } }, weights: new Map(),
      build: (ops, value) => ({ y: ops.sum(ops.scale(value('x'), 2), { axes: [1] }) }),
    })
    for (const [B, T] of [[1, 1], [3, 5], [2, 9], [1, 1]]) {
      const x = randomTensor([B, T, 4], B * T)
      const { y } = await program.run({ x: { type: 'float32', shape: x.shape, data: Float32Array.from(x.data) } })
      same('y', y, plainOps().sum(plainOps().scale(x, 2), { axes: [1] }), tolerance)
    }
  })

  test(`${name}: outputs that are accumulated are float64 sums over the runs`, async () => {
    await using program = await engineOf(0).compile({
      name: 'sums', inputs: { x: { type: 'float32', shape: ['B', 2] } }, weights: new Map(), accumulate: { total: [2] },
      build: (ops, value) => ({ total: ops.sum(value('x'), { axes: [0] }), first: ops.scale(value('x'), 1) }),
    })
    const large = 2 ** 24 // f32 cannot add 1 to it
    for (const x of [[large, 1], [1, 1], [1, 1]]) {
      const outputs = await program.run({ x: { type: 'float32', shape: [1, 2], data: Float32Array.from(x) } })
      assert.deepEqual(Object.keys(outputs), ['first'])
    }
    assert.deepEqual([...program.sums.total], [large + 2, 3])
  })

  test(`${name}: bound inputs stay, and may be bound anew; what is missing, misshapen or of another type is refused by name`, async () => {
    await using program = await engineOf(0).compile({
      name: 'affine', inputs: { x: { type: 'float32', shape: ['N'] }, w: { type: 'float32', shape: [1] } }, weights: new Map(),
      build: (ops, value) => ({ y: ops.mul(value('x'), value('w')) }),
    })
    const of = (...data: number[]): TensorData => ({ type: 'float32', shape: [data.length], data: Float32Array.from(data) })
    await assert.rejects(program.run({ x: of(1) }), /affine.*"w" is missing/)
    await program.bind({ w: of(3) })
    for (const x of [2, 5]) assert.deepEqual([...(await program.run({ x: of(x) })).y.data], [3 * x])
    await program.bind({ w: of(-1) })
    assert.deepEqual([...(await program.run({ x: of(2, 4) })).y.data], [-2, -4])
    await assert.rejects(async () => program.bind({ w: of(1, 2) }), /affine.*"w" must be float32 \[1\], is float32 \[2\]/)
    await assert.rejects(async () => program.run({ x: { type: 'int64', shape: [1], data: BigInt64Array.of(1n) } }), /affine.*"x" must be float32 \[N\], is int64/)
    await assert.rejects(async () => program.run({ x: { type: 'float32', shape: [3], data: Float32Array.of(1) } }), /of 1 numbers/)
    await assert.rejects(async () => program.bind({ z: of(1) }), /affine has no input "z"/)
    assert.deepEqual([...(await program.run({ x: of(7) })).y.data], [-7], 'and goes on after a refusal')
  })

  test(`${name}: what goes wrong in a run is an error with the program's name, and the next run works`, async () => {
    await using program = await engineOf(0).compile({
      name: 'lookup', inputs: { ids: { type: 'int64', shape: ['N'] } }, weights: new Map(),
      build: (ops, value) => ({ y: ops.gather(ops.constant([1, 2, 3, 4], [2, 2]), value('ids')) }),
    })
    const ids = (id: bigint) => ({ ids: { type: 'int64', shape: [1], data: BigInt64Array.of(id) } as const })
    if (refusesIds) await assert.rejects(program.run(ids(7n)), /lookup/)
    assert.deepEqual([...(await program.run(ids(1n))).y.data], [3, 4])
  })
}

/** Runs the cases as one program and holds each result against the plain engine's. */
const agree = async (engine: Engine, cases: readonly Case[], seed: number, tolerance: number): Promise<void> => {
  const below = dice(seed)
  const specs: Record<string, InputSpec> = {}
  const tensors: Record<string, TensorData> = {}
  for (const [at, { inputs, integers = [] }] of cases.entries()) {
    for (const [input, { shape, data }] of Object.entries(inputs)) {
      const key = `${at}.${input}`
      // Lengths are unknown while the program is made, but for some.
      const known = below(3) === 0
      const isInteger = integers.includes(input)
      specs[key] = { type: isInteger ? 'int64' : 'float32', shape: shape.map((length, axis) => (known ? length : `${key}.${axis}`)) }
      tensors[key] = isInteger
        ? { type: 'int64', shape, data: BigInt64Array.from(data, BigInt) }
        : { type: 'float32', shape, data: Float32Array.from(data) }
    }
  }
  await using program = await engine.compile({
    name: 'conformance', inputs: specs, weights: new Map(),
    build: (ops, value) => Object.fromEntries(cases.map(({ build }, at) => [`${at}`, build(ops, (input) => value(`${at}.${input}`))])),
  })
  const found = await program.run(tensors)
  for (const [at, { name, inputs, build }] of cases.entries()) {
    // Both see the same numbers, rounded to f32.
    const rounded = Object.fromEntries(Object.entries(inputs).map(([input, { shape, data }]) => [input, { shape, data: Float64Array.from(data, Math.fround) }]))
    same(`${name} (seed ${seed})`, found[`${at}`], build(plainOps(), (input) => rounded[input]), tolerance)
  }
}

const same = (what: string, found: TensorData, wanted: PlainTensor, tolerance: number): void => {
  assert.deepEqual(found.shape, wanted.shape, `${what}: shape`)
  const scale = wanted.data.reduce((most, x) => (Number.isFinite(x) ? Math.max(most, Math.abs(x)) : most), 1e-3)
  wanted.data.forEach((x, i) => {
    const y = Number(found.data[i])
    const isSame = found.type === 'int64' ? y === x : Object.is(x, y) || Math.abs(x - y) <= tolerance * scale
    assert.ok(isSame, `${what}: [${i}] is ${y} instead of ${x}`)
  })
}

const positive = ({ shape, data }: PlainTensor): PlainTensor => ({ shape, data: data.map((x) => Math.abs(x) + 0.5) })

const elementwise = (seed: number): readonly Case[] => {
  const below = dice(seed)
  const shape = Array.from({ length: 1 + below(4) }, () => 1 + below(4))
  const x = randomTensor(shape, seed)
  // Right-aligned, with some axes of length 1 and some missing.
  const other = shape.map((length) => (below(2) === 0 ? 1 : length)).slice(below(shape.length))
  const y = positive(randomTensor(other, seed + 100))
  const binaries = (['add', 'sub', 'mul', 'div'] as const).flatMap((op): Case[] => [
    { name: `${op} [${shape}] [${other}]`, inputs: { x, y }, build: (ops, v) => ops[op](v('x'), v('y')) },
    { name: `${op} [${other}] [${shape}]`, inputs: { x: positive(x), y }, build: (ops, v) => ops[op](v('y'), v('x')) },
  ])
  const unaries = (['exp', 'tanh', 'sigmoid', 'erf'] as const).map((op): Case => ({ name: op, inputs: { x }, build: (ops, v) => ops[op](v('x')) }))
  return [
    ...binaries,
    ...unaries,
    { name: 'sigmoid and tanh of large numbers', inputs: { x: plainTensor([-80, -20, 0, 20, 80], [5]) }, build: (ops, v) => ops.concat([ops.sigmoid(v('x')), ops.tanh(v('x')), ops.erf(v('x'))], 0) },
    { name: 'rsqrt', inputs: { x: positive(x) }, build: (ops, v) => ops.rsqrt(v('x')) },
    ...[-1, 0.3, 1].map((factor): Case => ({ name: `scale by ${factor}`, inputs: { x }, build: (ops, v) => ops.scale(v('x'), factor) })),
    { name: 'shift', inputs: { x }, build: (ops, v) => ops.shift(v('x'), -2.5) },
    { name: 'constant', inputs: { x }, build: (ops, v) => ops.add(v('x'), ops.constant([0.25], [1])) },
    { name: 'a large constant', inputs: { x: randomTensor([3, 40], seed) }, build: (ops, v) => ops.add(v('x'), ops.constant(randomTensor([3, 40], seed + 1).data.map(Math.fround), [3, 40])) },
    { name: 'two constants of equal numbers and other shapes', inputs: { x: randomTensor([2, 2], seed) }, build: (ops, v) => ops.sub(ops.mul(v('x'), ops.constant([1, 2], [2, 1])), ops.mul(v('x'), ops.constant([1, 2], [1, 2]))) },
  ]
}

const products = (seed: number): readonly Case[] => {
  const below = dice(seed + 10)
  const [M, K, N, G] = [1 + below(5), 1 + below(5), 1 + below(5), 2 + below(2)]
  const batches = [[[], []], [[G], []], [[], [G]], [[2, 1], [G]], [[2, G], [2, G]], [[1], [G]]]
  return batches.flatMap(([batchX, batchY]) =>
    [false, true].flatMap((transA) =>
      [false, true].flatMap((transB) =>
        [1, -0.5].map((alpha): Case => ({
          name: `matmul [${batchX}] [${batchY}] ${M}×${K}×${N} ${transA ? 'transA ' : ''}${transB ? 'transB ' : ''}${alpha}`,
          inputs: {
            x: randomTensor([...batchX, ...(transA ? [K, M] : [M, K])], seed),
            y: randomTensor([...batchY, ...(transB ? [N, K] : [K, N])], seed + 1),
          },
          build: (ops, v) => ops.matmul(v('x'), v('y'), { transA, transB, alpha }),
        })),
      ),
    ),
  )
}

const reductions = (seed: number): readonly Case[] => {
  const below = dice(seed + 20)
  const shape = Array.from({ length: 2 + below(3) }, () => 1 + below(4))
  const x = randomTensor(shape, seed)
  const axes = [...shape.keys()].filter(() => below(2) === 0)
  const chosen = axes.length === 0 ? [shape.length - 1] : axes
  const negative = chosen.map((axis) => axis - shape.length)
  return [
    ...[chosen, negative].flatMap((over) =>
      [true, false, undefined].flatMap((keep): Case[] => [
        { name: `sum over ${over} of [${shape}], keep ${keep}`, inputs: { x }, build: (ops, v) => ops.sum(v('x'), { axes: over, keep }) },
        { name: `sumSquares over ${over} of [${shape}], keep ${keep}`, inputs: { x }, build: (ops, v) => ops.sumSquares(v('x'), { axes: over, keep }) },
      ]),
    ),
    ...(['softmax', 'logSumExp'] as const).map((op): Case => ({ name: `${op} of no rows`, inputs: { x: randomTensor([0, 5], seed) }, build: (ops, v) => ops[op](v('x')) })),
    { name: 'sum over all axes', inputs: { x }, build: (ops, v) => ops.sum(v('x'), { axes: [...shape.keys()] }) },
    ...(['meanLast', 'softmax', 'logSumExp'] as const).map((op): Case => ({ name: op, inputs: { x }, build: (ops, v) => ops[op](v('x')) })),
    ...(['softmax', 'logSumExp'] as const).map((op): Case => ({ name: `${op} of large numbers`, inputs: { x: plainTensor([90, 100, -100, 1000, 1000, -1000], [2, 3]) }, build: (ops, v) => ops[op](v('x')) })),
    { name: 'softmax with masked entries', inputs: { x: plainTensor([0, -Infinity, 1, 2, -Infinity, -Infinity], [2, 3]) }, build: (ops, v) => ops.softmax(v('x')) },
  ]
}

const shapes = (seed: number): readonly Case[] => {
  const below = dice(seed + 30)
  const [a, b, c] = [2 + below(6), 2 + below(6), 2 * (1 + below(3))]
  const x = randomTensor([a, b, c], seed)
  const bounds: readonly (readonly [number, number])[] = [[0, 1], [1, Infinity], [-1, Infinity], [0, -1], [-2, -1], [1, 2], [0, 100], [1, 1]]
  const cuts = [...bounds.entries()].map(([at, [from, to]]): Case => {
    const axis = [0, 1, 2, -1, -2, -3][(at + seed) % 6]
    return { name: `slice [${from}, ${to}) of axis ${axis} of [${x.shape}]`, inputs: { x }, build: (ops, v) => ops.slice(v('x'), { axis, from, to }) }
  })
  // Of more parts than the axis is long: some are empty.
  const parts = [1, 2, 3, 4, 7, 11].flatMap((of) =>
    Array.from({ length: of }, (_, i): Case => {
      const axis = [1, -2, 0][(of + seed) % 3]
      const to = i + 1 + below(of - i)
      return { name: `part [${i}, ${to}) of ${of}, axis ${axis} of [${x.shape}]`, inputs: { x }, build: (ops, v) => ops.part(v('x'), { axis, from: i, to, of }) }
    }),
  )
  const joined = [randomTensor([a, 1, c], seed + 1), randomTensor([a, 0, c], seed + 2), randomTensor([a, 3, c], seed + 3)]
  const cutLike = [0, 1, 2].flatMap((i) =>
    [1, -2].map((axis): Case => ({
      name: `cutLike ${i}, axis ${axis}`,
      inputs: { x: joined[0], y: joined[1], z: joined[2] },
      build: <T>(ops: Ops<T>, v: (name: string) => T) => {
        const all = ['x', 'y', 'z'].map(v)
        return ops.cutLike(ops.concat(all, axis), all.slice(0, i), all[i], axis)
      },
    })),
  )
  return [
    ...cuts, ...parts, ...cutLike,
    { name: 'reshape 0 and −1', inputs: { x }, build: (ops, v) => ops.reshape(v('x'), [0, -1]) },
    { name: 'reshape split', inputs: { x }, build: (ops, v) => ops.reshape(v('x'), [0, 0, 2, -1]) },
    { name: 'reshape to all known', inputs: { x }, build: (ops, v) => ops.reshape(v('x'), [a * b, c]) },
    { name: 'reshapeLike', inputs: { x, like: randomTensor([c, a * b], seed) }, build: (ops, v) => ops.reshapeLike(v('x'), v('like')) },
    ...[[0, 2, 1], [2, 0, 1], [1, 2, 0]].flatMap((permutation) => [false, true].map((copied): Case => (
      { name: `transpose ${permutation}${copied ? ', copied' : ''}`, inputs: { x }, build: (ops, v) => ops.transpose(v('x'), permutation, { copied }) }))),
    { name: 'concat of one', inputs: { x }, build: (ops, v) => ops.concat([v('x')], -1) },
    { name: 'concat with itself', inputs: { x }, build: (ops, v) => ops.concat([v('x'), v('x')], -1) },
    { name: 'zerosLike', inputs: { x }, build: (ops, v) => ops.zerosLike(v('x')) },
    { name: 'after', inputs: { x }, build: (ops, v) => ops.after(v('x'), ops.exp(v('x'))) },
    ...[[3], [a, 2], [2, a, 3]].map((shape): Case => ({ name: `appendOne [${shape}]`, inputs: { x: randomTensor(shape, seed) }, build: (ops, v) => ops.appendOne(v('x')) })),
  ]
}

const rows = (seed: number): readonly Case[] => {
  const below = dice(seed + 40)
  const [N, D, T] = [4 + below(5), 1 + below(4), 1 + below(9)]
  const table = randomTensor([N, D], seed)
  const distinct = (count: number): PlainTensor => {
    const all = [...Array(N).keys()].map((row) => ({ row, by: below(1000) })).sort((p, q) => p.by - q.by)
    return plainTensor(all.slice(0, count).map(({ row }) => row), [count])
  }
  const like = randomTensor([2, T, D], seed)
  return [
    ...[[3], [2, 2], [0]].map((shape): Case => ({
      name: `gather rows [${shape}]`, inputs: { table, ids: plainTensor(Array.from({ length: sizeOf(shape) }, () => below(N)), shape) }, integers: ['ids'],
      build: (ops, v) => ops.gather(v('table'), v('ids')),
    })),
    ...[[2, 3], []].map((rest): Case => ({
      name: `gather from [${N}, ${rest}]`, inputs: { table: randomTensor([N, ...rest], seed), ids: plainTensor([N - 1, 0, N - 1], [3]) }, integers: ['ids'],
      build: (ops, v) => ops.gather(v('table'), v('ids')),
    })),
    ...[0, 1, N - 1, N].flatMap((count): Case[] => [
      { name: `scatterRows ${count} of ${N}`, inputs: { x: randomTensor([count, D], seed), rows: distinct(count), like: table }, integers: ['rows'], build: (ops, v) => ops.scatterRows(v('x'), v('rows'), v('like')) },
      { name: `takeRows ${count} of ${N}`, inputs: { x: table, rows: distinct(count) }, integers: ['rows'], build: (ops, v) => ops.takeRows(v('x'), v('rows')) },
    ]),
    ...[undefined, 1, 2, T, T + 3].map((window): Case => ({ name: `causalBias of ${T}, window ${window}`, inputs: { like }, build: (ops, v) => ops.causalBias(v('like'), window) })),
    { name: 'positions', inputs: { like }, build: (ops, v) => ops.positions(v('like')) },
    ...[1, 2, N].map((count): Case => ({ name: `topMask ${count} of ${N}`, inputs: { x: randomTensor([2, T, N], seed) }, build: (ops, v) => ops.topMask(v('x'), count) })),
    { name: 'topMask of equals', inputs: { x: plainTensor([1, 3, 3, 3, 0, 0, 0, 0], [2, 4]) }, build: (ops, v) => ops.topMask(v('x'), 2) },
    { name: 'a constant of integers', inputs: { table }, build: (ops, v) => ops.gather(v('table'), ops.constant([1, 0], [2], 'int')) },
  ]
}

const draws = (seed: number): readonly Case[] => {
  const below = dice(seed + 50)
  const next = uniforms(seed)
  const draw = (probabilities: PlainTensor, u: readonly number[]): Case => ({
    name: `sampleRows [${probabilities.shape}] at ${u.slice(0, 6).join(', ')}`, inputs: { p: probabilities, u: plainTensor(u, [u.length, 1]) },
    build: (ops, v) => ops.sampleRows(v('p'), v('u')),
  })
  // Few entries, far apart, so that rounding cannot tell the engines apart.
  const sparse = [1, 3, 255, 256, 257, 700, 1024].map((V) => {
    const N = 3
    const p = plainTensor(Array(N * V).fill(0), [N, V])
    const u = Array.from({ length: N }, (_, n) => {
      const places = [...new Set([below(V), below(V), below(V)])].sort((i, j) => i - j)
      const weights = places.map(() => 0.2 + next())
      const total = weights.reduce((sum, w) => sum + w, 0)
      places.forEach((place, i) => (p.data[n * V + place] = weights[i] / total))
      const wanted = below(places.length)
      return (weights.slice(0, wanted).reduce((sum, w) => sum + w, 0) + weights[wanted] / 2) / total
    })
    return draw(p, u)
  })
  const nearest = 1 - 2 ** -24
  const uniform = (V: number): PlainTensor => plainTensor(Array(V).fill(1 / V), [1, V])
  return [
    ...sparse,
    draw(plainTensor([0, 0, 0.5, 0.5], [1, 4]), [0]), // what has no chance is never drawn, at either end
    draw(plainTensor([0.5, 0.5, 0, 0], [1, 4]), [nearest]),
    draw(plainTensor([0.5, 0.4999, 0, 0], [1, 4]), [nearest]), // rounding left the sum below u
    draw({ shape: [1, 600], data: Float64Array.from({ length: 600 }, (_, v) => (v < 300 ? 0.999 / 300 : 0)) }, [nearest]),
    draw({ shape: [1, 600], data: Float64Array.from({ length: 600 }, (_, v) => (v === 10 ? 0.3 : v === 299 ? 0.6999 : 0)) }, [nearest]),
    draw(plainTensor([0.7, 0.6, 0.1], [1, 3]), [0.9]), // sums beyond 1
    draw(uniform(300), [0]),
    ...[1, 128, 255, 256, 299].map((place) => draw(uniform(300), [(place + 0.5) / 300])),
    { name: 'sampleRows of no rows', inputs: { p: randomTensor([0, 5], 1), u: randomTensor([0, 1], 1) }, build: (ops, v) => ops.sampleRows(v('p'), v('u')) },
  ]
}

const layers = (seed: number): readonly Case[] => {
  const below = dice(seed + 60)
  const [B, T, I, O] = [1 + below(3), 1 + below(5), 2 + below(5), 2 + below(5)]
  const x = randomTensor([B, T, I], seed)
  const [gamma, beta] = [randomTensor([I], seed + 1), randomTensor([I], seed + 2)]
  const r = 2 * (1 + below(3))
  const gradient = (name: string, inputs: Readonly<Record<string, PlainTensor>>, of: <T>(ops: Ops<T>, value: (name: string) => T) => T): Case[] => [
    { name, inputs, build: of },
    {
      name: `the gradient of ${name}`, inputs,
      build: (ops, v) => {
        const { ops: taped, constant, watch, gradients } = tape(ops)
        const x = watch(constant(v('x')))
        const y = of(taped, (input) => (input === 'x' ? x : constant(v(input))))
        return gradients(y, ops.shift(ops.scale(y.value, 0.5), 1), [x])[0]
      },
    },
  ]
  return [
    ...[false, true].flatMap((transposed) => {
      const inputs = { x, w: randomTensor(transposed ? [I, O] : [O, I], seed), b: randomTensor([O], seed) }
      return [
        ...gradient(`linear${transposed ? ', transposed' : ''}`, inputs, (ops, v) => ops.linear(v('x'), v('w'), undefined, { transposed })),
        ...gradient(`linear with bias${transposed ? ', transposed' : ''}`, inputs, (ops, v) => ops.linear(v('x'), v('w'), v('b'), { transposed })),
      ]
    }),
    ...gradient('layerNorm', { x, gamma, beta }, (ops, v) => ops.layerNorm(v('x'), v('gamma'), v('beta'), { epsilon: 1e-5 })),
    ...gradient('layerNorm without a shift', { x, gamma }, (ops, v) => ops.layerNorm(v('x'), v('gamma'), undefined, { epsilon: 0.1 })),
    ...gradient('rmsNorm', { x, gamma }, (ops, v) => ops.rmsNorm(v('x'), v('gamma'), { epsilon: 0.1 })),
    ...gradient('rmsNorm of tiny numbers', { x: plainTensor(x.data.map((a) => a * 1e-4), x.shape), gamma }, (ops, v) => ops.rmsNorm(v('x'), v('gamma'), { epsilon: 1e-6 })),
    ...(['silu', 'gelu', 'geluTanh'] as const).flatMap((op) => gradient(op, { x }, (ops, v) => ops[op](v('x')))),
    ...gradient('rotary', { x: randomTensor([B, T, 2, r], seed), cos: randomTensor([T, r / 2], seed + 3), sin: randomTensor([T, r / 2], seed + 4) }, (ops, v) => ops.rotary(v('x'), v('cos'), v('sin'))),
  ]
}

const attentionAndHead = (seed: number): readonly Case[] => {
  const below = dice(seed + 70)
  const cases: Case[] = []
  for (const [heads, headsKv] of [[2, 2], [4, 2], [3, 1]]) {
    const [B, T, headDim] = [1 + below(2), 8 + below(9), 2 + below(3)] // at least as long as there are blocks
    const window = below(2) === 0 ? undefined : 1 + below(6)
    const softCap = below(2) === 0 ? undefined : 0.8
    const options = { heads, headsKv, headDim, scale: 0.4, window, softCap }
    const inputs = { q: randomTensor([B, T, heads, headDim], seed), k: randomTensor([B, T, headsKv, headDim], seed + 1), v: randomTensor([B, T, headsKv, headDim], seed + 2) }
    cases.push({
      name: `attention of ${heads} on ${headsKv} heads, T ${T}, window ${window}, soft cap ${softCap}: its output and the gradients of q, k, v`, inputs,
      build: (ops, v) => {
        const { ops: taped, constant, watch, gradients } = tape(ops)
        const of = ['q', 'k', 'v'].map((input) => watch(constant(v(input))))
        const y = taped.attention(of[0], of[1], of[2], options)
        return ops.concat([y.value, ...gradients(y, ops.tanh(y.value), of)].map((x) => ops.reshape(x, [-1])), 0)
      },
    })
  }
  const [V, D] = [5 + below(9), 2 + below(4)]
  // Fewer rows than there are row blocks: some are empty.
  for (const N of [1, 2, 3, 5, 11]) {
    const options = [undefined, { logitScale: 0.5 }, { softCap: 1.5 }, { logitScale: 2, softCap: 3 }][below(4)]
    const inputs = { x: randomTensor([N, D], seed), head: randomTensor([V, D], seed + 1), labels: plainTensor(Array.from({ length: N }, () => below(V)), [N]) }
    cases.push({
      name: `losses of ${N} rows and their gradient`, inputs, integers: ['labels'],
      build: (ops, v) => {
        const { ops: taped, constant, watch, gradients } = tape(ops)
        const x = watch(constant(v('x')))
        const y = taped.tokenLosses(x, constant(v('head')), constant(v('labels')), options)
        return ops.concat([y.value, gradients(y, ops.tanh(y.value), [x])[0]], 1)
      },
    })
    // u in the middle of a label's share
    const u = Array.from({ length: N }, (_, n) => {
      const row = inputs.x.data.subarray(n * D, (n + 1) * D)
      const [scale, cap] = [options?.logitScale ?? 1, options?.softCap ?? Infinity]
      const p = Array.from({ length: V }, (_, w) => {
        const logit = scale * row.reduce((sum, a, d) => sum + a * inputs.head.data[w * D + d], 0)
        return Math.exp(cap === Infinity ? logit : cap * Math.tanh(logit / cap))
      })
      const total = p.reduce((sum, a) => sum + a, 0)
      const label = p.indexOf(Math.max(...p))
      return (p.slice(0, label).reduce((sum, a) => sum + a, 0) + p[label] / 2) / total
    })
    cases.push({ name: `labels for ${N} rows`, inputs: { ...inputs, u: plainTensor(u, [N, 1]) }, integers: ['labels'], build: (ops, v) => sampleLabels(ops, v('x'), v('head'), v('u'), options) })
  }
  return cases
}
