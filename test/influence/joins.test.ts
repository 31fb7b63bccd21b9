/** @file The joins: three ways to one number, what they cost, and which is chosen. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { inputWidth, joinCost, joins, lowRankOf, modelFlop, planJoin, preconditioner, scoreBatch, scoreProgram, sharedWidths, trackedLayers, type JoinKind, type Plan, type PlanInput } from '../../src/influence/index.js'
import { openModel, type LinearLayer } from '../../src/model/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { onnxEngine, type TensorData } from '../../src/tensor/index.js'
import { readReference } from '../references/read.js'
import { assertNear, observed, randomTensor, sizeOf } from '../tensor/tensors.js'
import { layerOf, madeFactors, madeQueries } from './made-layer.js'

const plain = plainOps()
const kinds: readonly JoinKind[] = ['dense', 'low-rank', 'shared']

test('dense, low-rank of full rank and shared of full width give the same scores on a real model', async () => {
  const reference = readReference('gpt2')
  const { model, tensors } = await openModel(reference.modelDir)
  const tracked = trackedLayers(model, 'mlp')
  await using engine = onnxEngine({ threads: 1 })
  await using precondition = preconditioner(engine, 'ekfac', { kind: 'relative', factor: 0.1 })
  const documents = reference.documents.slice(0, 9).map((tokens) => ({ tokens }))
  const Q = 3
  const bound: Record<JoinKind, Record<string, TensorData>> = { dense: {}, 'low-rank': {}, shared: {} }
  const float = (shape: readonly number[], data: Float32Array): TensorData => ({ type: 'float32', shape, data })
  for (const [l, layer] of tracked.entries()) {
    const [O, I] = [layer.outputs, inputWidth(layer)]
    const own = precondition.layer(await madeFactors(layer, { seed: l, decay: 0.1 }))
    const queries = madeQueries(layer, [5, 9, 2], 100 * l)
    const all = new Float32Array(Q * O * I)
    ;(await own.dense(queries)).forEach((query, q) => all.set(query, q * O * I))
    bound.dense[`Q/${layer.name}`] = float([Q, O * I], all)
    const R = lowRankOf(layer, 999)
    const [u, v] = [new Float32Array(O * Q * R), new Float32Array(I * Q * R)]
    ;(await own.lowRank(queries, { rank: 999, seed: 1 })).forEach((query, q) => {
      for (let o = 0; o < O; o++) u.set(query.u.subarray(o * R, (o + 1) * R), (o * Q + q) * R)
      for (let i = 0; i < I; i++) v.set(query.v.subarray(i * R, (i + 1) * R), (i * Q + q) * R)
    })
    Object.assign(bound['low-rank'], { [`U/${layer.name}`]: float([O, Q * R], u), [`V/${layer.name}`]: float([I, Q * R], v) })
    const { p, r, c, widths: [kO, kI] } = await own.shared(queries, { width: 999, seed: 1 })
    Object.assign(bound.shared, { [`P/${layer.name}`]: float([O, kO], p), [`R/${layer.name}`]: float([I, kI], r), [`C/${layer.name}`]: float([Q, kO * kI], c) })
  }
  const found: Partial<Record<JoinKind, number[]>> = {}
  for (const kind of kinds) {
    await using program = await engine.compile(scoreProgram(model, tensors, tracked, kind, { queries: Q, rank: 999 }))
    await program.bind(bound[kind])
    const { influence, gradientNorms } = await scoreBatch(program, documents, { lengthMax: model.positionsMax })
    found[kind] = influence.flatMap((row) => [...row])
    const norms = documents.map((_, n) => Math.sqrt(reference.layers.reduce((sum, { part }, l) => sum + (part === 'mlp' ? reference.tensor('squaredNorms').data[l * reference.documents.length + n] : 0), 0)))
    assertNear(gradientNorms, norms, 1e-5, `norms, ${kind}`)
  }
  const dense = found.dense ?? assert.fail()
  assert.equal(dense.length, documents.length * Q)
  assertNear(found['low-rank'] ?? [], dense, 1e-3, 'low-rank')
  assertNear(found.shared ?? [], dense, 1e-4, 'shared')
})

test('each join is ⟨Q̃, G⟩ with what its queries stand for', () => {
  const layer = layerOf(5, 3, { name: 'l' })
  const [B, T, O, I, Q, rank] = [2, 7, 5, 4, 3, 2]
  const [delta, input] = [randomTensor([B, T, O], 1), randomTensor([B, T, I], 2)]
  const gradient = plain.matmul(delta, input, { transA: true })
  const shape = { queries: Q, rank }
  const values: Record<string, PlainTensor> = {}
  for (const kind of kinds) for (const [name, spec] of Object.entries(joins[kind].inputs(layer, shape))) values[name] = randomTensor(spec.shape.map(Number), name.charCodeAt(0))
  const queryOf: Readonly<Record<JoinKind, (q: number) => PlainTensor>> = {
    dense: (q) => plainTensor(values['Q/l'].data.subarray(q * O * I, (q + 1) * O * I), [O, I]),
    'low-rank': (q) => {
      const own = (x: PlainTensor): PlainTensor => plain.slice(x, { axis: 1, from: q * rank, to: (q + 1) * rank })
      return plain.matmul(own(values['U/l']), own(values['V/l']), { transB: true })
    },
    shared: (q) => plain.matmul(plain.matmul(values['P/l'], plainTensor(values['C/l'].data.subarray(q * rank * rank, (q + 1) * rank * rank), [rank, rank])), values['R/l'], { transB: true }),
  }
  for (const kind of kinds) {
    const scores = joins[kind].dot(plain, layer, shape, { delta, input, gradient }, (name) => values[name])
    assert.deepEqual(scores.shape, [B, Q])
    const wanted = Array.from({ length: B * Q }, (_, n) => {
      const query = queryOf[kind](n % Q).data
      return query.reduce((sum, x, at) => sum + x * gradient.data[Math.floor(n / Q) * O * I + at], 0)
    })
    assertNear(scores.data, wanted, 1e-13, kind)
  }
})

test('joinCost is the arithmetic of the products and the bytes of the queries, counted', () => {
  const layers = [layerOf(12, 7, { name: 'a' }), layerOf(6, 20, { name: 'b', bias: false })]
  const [B, T] = [3, 11]
  for (const kind of kinds) {
    for (const shape of [{ queries: 1, rank: 2 }, { queries: 5, rank: 4 }, { queries: 3, rank: 100 }]) {
      let flop = 0
      let bytes = 0
      const counting = observed(plain, (op, args, result) => {
        if (op === 'matmul') {
          const [x, , { transA = false } = {}] = args as readonly [PlainTensor, PlainTensor, { transA?: boolean }?]
          flop += 2 * sizeOf(result.shape) * (x.shape.at(transA ? -2 : -1) ?? 0)
        }
      })
      for (const layer of layers) {
        const [O, I] = [layer.outputs, inputWidth(layer)]
        const inputs = Object.entries(joins[kind].inputs(layer, shape)).map(([name, spec]) => [name, randomTensor(spec.shape.map(Number), 1)] as const)
        bytes += inputs.reduce((sum, [, { data }]) => sum + 4 * data.length, 0)
        const [delta, input] = [randomTensor([B, T, O], 1), randomTensor([B, T, I], 2)]
        const gradient = plain.matmul(delta, input, { transA: true })
        joins[kind].dot(counting, layer, shape, { delta, input, gradient }, (name) => new Map(inputs).get(name) ?? assert.fail(name))
      }
      const cost = joinCost(kind, layers, shape, T)
      assert.ok(Math.abs(cost.flop * B * T - flop) < 1e-6 * flop, `${kind}: ${cost.flop * B * T} FLOP, counted ${flop}`)
      assert.equal(cost.bytes, bytes, kind)
    }
  }
  assert.deepEqual(sharedWidths(layers[0], 9), [9, 8])
})

const GiB = 2 ** 30
/** Layers of 576×1536, as SmolLM2-135M has them. */
const planInput = async (given: Partial<PlanInput>): Promise<PlanInput> => {
  const { model } = await openModel(readReference('llama').modelDir)
  const tracked: LinearLayer[] = Array.from({ length: 9 }, (_, l) => ({ ...layerOf(l % 3 === 2 ? 576 : 1536, l % 3 === 2 ? 1536 : 576, { bias: false, name: `l${l}` }), block: 1 }))
  return { model, tracked, queries: 10, rank: 32, sharedRank: 256, context: 512, batchTokens: 2048, memory: 64 * GiB, ...given }
}

for (const [what, given, chosen] of [
  ['few queries and memory: dense is nearly free', { queries: 1 }, 'dense'],
  ['ten queries: dense', { queries: 10 }, 'dense'],
  ['ten queries on short documents: dense work is per document', { queries: 100, context: 32 }, 'shared'],
  ['many queries: shared', { queries: 2000 }, 'shared'],
  ['many queries of low rank: low-rank never is', { queries: 2000, rank: 1, sharedRank: 1500 }, 'dense'],
  ['one query of rank 1 on very short documents', { queries: 1, rank: 1, context: 8, sharedRank: 576 }, 'low-rank'],
  ['dense is the cheapest but does not fit', { queries: 60, memory: 1.2 * GiB }, 'shared'],
  ['only low-rank fits', { queries: 60, rank: 4, sharedRank: 576, memory: 0.4 * GiB }, 'low-rank'],
] as const) {
  test(`auto, ${what}: ${chosen}`, async () => {
    const input = await planInput(given)
    const plan = planJoin(input)
    assert.equal(plan.chosen.kind, chosen, plan.reason)
    // By brute force over the three.
    const all = kinds.map((kind) => ({ kind, ...joinCost(kind, input.tracked, { queries: input.queries, rank: kind === 'shared' ? input.sharedRank : input.rank }, input.context) }))
    const base = plan.chosen.bytesTotal - plan.chosen.bytes
    const fitting = all.filter(({ bytes }) => base + bytes <= input.memory).sort((a, b) => a.flop - b.flop)
    assert.equal(plan.chosen.kind, fitting[0].kind)
    assert.deepEqual(plan.considered.map(({ flop }) => flop), all.map(({ flop }) => flop).sort((a, b) => a - b))
    assert.deepEqual(plan.considered.filter(({ fits }) => !fits).map(({ kind }) => kind).sort(), all.filter(({ kind }) => !fitting.some((f) => f.kind === kind)).map(({ kind }) => kind).sort())
    assert.match(plan.reason, new RegExp(`^${chosen}: .*cheapest of those that fit`))
    for (const kind of kinds) assert.ok(plan.reason.includes(kind))
  })
}

test('a join that was asked for is taken, and where nothing fits the refusal says how much would do', async () => {
  const input = await planInput({})
  assert.equal(planJoin(input, 'low-rank').chosen.kind, 'low-rank')
  assert.match(planJoin(input, 'low-rank').reason, /as asked for/)
  const least = Math.min(...planJoin(input).considered.map(({ bytesTotal }) => bytesTotal))
  assert.throws(() => planJoin({ ...input, memory: least - 1 }), (error: Error & { fix?: string }) => {
    assert.match(error.message, /no join fits in .* GiB: .*dense.*MFLOP/)
    assert.match(error.fix ?? '', new RegExp(`--memory ${Math.ceil(least / GiB)}GiB`))
    return true
  })
  assert.doesNotThrow(() => planJoin({ ...input, memory: least }))
})

test('batches are as long as memory has room for, and no longer batch makes the join a dearer one', () =>
  fc.assert(
    fc.asyncProperty(fc.double({ min: 0.2, max: 3, noNaN: true }), fc.integer({ min: 1, max: 200 }), async (gigabytes, queries) => {
      const input = await planInput({ queries, memory: gigabytes * GiB, batchTokens: null })
      const at = (batchTokens: number): Plan | undefined => {
        try {
          return planJoin({ ...input, batchTokens })
        } catch {
          return undefined
        }
      }
      const shortest = at(512)
      if (shortest === undefined) {
        assert.throws(() => planJoin(input), /no join fits/)
        return
      }
      const plan = planJoin(input)
      assert.equal(plan.chosen.kind, shortest.chosen.kind)
      assert.ok(plan.chosen.bytesTotal <= input.memory)
      const bytesAt = (tokens: number): number => planJoin({ ...input, batchTokens: tokens, memory: Infinity }, plan.chosen.kind).chosen.bytesTotal
      assert.equal(plan.batchTokens, [2048, 1024, 512].find((tokens) => bytesAt(tokens) <= input.memory))
      assert.match(plan.reason, new RegExp(`in batches of ${plan.batchTokens.toLocaleString('en-US')} tokens`))
    }),
  ))

test('fewer tracked blocks cost less arithmetic and less memory', async () => {
  const { model } = await openModel(readReference('llama').modelDir)
  const input = await planInput({ model, queries: 1 })
  const of = (track: string): { readonly flop: number; readonly bytes: number } => {
    const tracked = trackedLayers(model, track)
    const { chosen } = planJoin({ ...input, tracked })
    return { flop: modelFlop(model, tracked, 512), bytes: chosen.bytesTotal - chosen.bytes }
  }
  const [top, all] = [of('model.layers.1.*'), of('all')]
  assert.ok(top.flop < all.flop && top.bytes < all.bytes, JSON.stringify([top, all]))
})
