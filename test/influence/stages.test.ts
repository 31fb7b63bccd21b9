/** @file A model in stages gives what the whole gives, wherever it is cut, with one stage in memory at a time. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import {
  batchTensors, boundBases, compileInStages, covarianceProgram, eigenvalueProgram, explainProgram, inputName, inputWidth, joins, partsOf, planStages,
  queryGradient, queryProgram, runsTogether, scaledQueries, scoreProgram, spanBytes, trackedLayers, type Basis, type BuildProgram, type JoinKind, type StagedModel,
} from '../../src/influence/index.js'
import { openModel, type Checkpoint, type LinearLayer, type Span } from '../../src/model/index.js'
import { NotFiniteError, onnxEngine, tfjsEngine, type Engine, type Precision, type Program, type TensorData } from '../../src/tensor/index.js'
import { fixture } from '../model/checkpoints.js'
import { readReference } from '../references/read.js'
import { assertNear, dice, randomTensor, relativeError } from '../tensor/tensors.js'

/** What float32 loses where sums are added in another order. */
const tolerance = 1e-5
const shape = { queries: 3, rank: 4 }

const folders: readonly (readonly [name: string, folder: () => string])[] = [
  ...(['gpt2', 'llama', 'mistral', 'qwen2'] as const).map((name) => [name, () => readReference(name).modelDir] as const),
  ...['cohere', 'cohere2', 'gemma2', 'gemma3', 'gpt-neox', 'mixtral', 'olmo2', 'phi3', 'qwen3', 'qwen3-moe', 'gpt2-bare-f16', 'llama-tied-stored-bf16', 'llama-gqa-sharded'].map(
    (name) => [name, () => fixture(name)] as const,
  ),
]

const floats = (dimensions: readonly number[], seed: number): TensorData => ({ type: 'float32', shape: dimensions, data: Float32Array.from(randomTensor(dimensions, seed).data) })
const numbers = ({ data }: TensorData): Float64Array => Float64Array.from(data as ArrayLike<number | bigint>, Number)

const batchOf = ({ model }: Checkpoint, lengths: readonly number[], seed: number): Readonly<Record<'tokens' | 'rows' | 'labels' | 'uniforms' | 'real', TensorData>> => {
  const below = dice(seed)
  return batchTensors(lengths.map((length) => ({
    tokens: Array.from({ length }, () => below(model.vocabulary)), uniforms: Array.from({ length }, () => below(1000) / 1000),
  })))
}
const inputsOf = (checkpoint: Checkpoint, lengths: readonly number[], seed: number, names: readonly ('rows' | 'labels' | 'uniforms' | 'real')[]): Readonly<Record<string, TensorData>> => {
  const all = batchOf(checkpoint, lengths, seed)
  return { tokens: all.tokens, ...Object.fromEntries(names.map((name) => [name, all[name]])) }
}
const queriesOf = (tracked: readonly LinearLayer[], kind: JoinKind): Readonly<Record<string, TensorData>> =>
  Object.fromEntries(tracked.flatMap((layer, l) => Object.entries(joins[kind].inputs(layer, shape)).map(([input, { shape: dimensions }], i) => [input, floats(dimensions.map(Number), 10 * l + i)])))

const cutAt = ({ model }: Checkpoint, ...places: readonly number[]): readonly Span[] => {
  const ends = [0, ...places, partsOf(model)]
  return places.concat(partsOf(model)).map((to, i) => ({ from: ends[i], to }))
}
const apart = (checkpoint: Checkpoint): readonly Span[] => cutAt(checkpoint, ...Array.from({ length: partsOf(checkpoint.model) - 1 }, (_, i) => i + 1))
const staged = ({ model, tensors }: Checkpoint, spans: readonly Span[], activationBytesMax = 1 << 20): StagedModel => ({ model, tensors, stages: { spans, activationBytesMax } })

/** Some runs of a program, handed over together. */
const outputsOf = async (program: Program, bound: Readonly<Record<string, TensorData>>, runs: readonly Readonly<Record<string, TensorData>>[]) => {
  await program.bind(bound)
  return Promise.all(runs.map((inputs) => program.run(inputs)))
}
const assertSame = (found: readonly Readonly<Record<string, TensorData>>[], wanted: readonly Readonly<Record<string, TensorData>>[], what: string): void => {
  assert.equal(found.length, wanted.length)
  wanted.forEach((outputs, run) => {
    assert.deepEqual(Object.keys(found[run]).sort(), Object.keys(outputs).sort(), what)
    for (const [name, tensor] of Object.entries(outputs)) {
      assert.deepEqual(found[run][name].shape, tensor.shape, `${what}: ${name}`)
      assertNear(numbers(found[run][name]), numbers(tensor), tolerance, `${what}: ${name} of run ${run}`)
    }
  })
}

/** An engine that is told how many programs it has, and counts those it was asked for. */
const counted = (engine: Engine): Engine & { readonly counts: { open: number; most: number; compiled: number; inPlace: number } } => {
  const counts = { open: 0, most: 0, compiled: 0, inPlace: 0 }
  return {
    ...engine,
    counts,
    compile: async (spec) => {
      counts.compiled++
      if (spec.weightsInPlace === true) counts.inPlace++
      counts.most = Math.max(counts.most, ++counts.open)
      const program = await engine.compile(spec)
      return {
        ...program,
        sums: program.sums,
        [Symbol.asyncDispose]: async () => {
          counts.open--
          await program[Symbol.asyncDispose]()
        },
      }
    },
  }
}

describe('a model in stages', () => {
  let engine: Engine
  before(() => {
    engine = onnxEngine({ threads: 1, attentionBlocks: 1, headBlocks: 1 }) // sessions are what takes the time here, and blocks are tested elsewhere
  })
  after(() => engine[Symbol.asyncDispose]())

  const scores = ({ model, tensors }: Checkpoint, kind: JoinKind, precision?: Precision): BuildProgram =>
    (tracked, stage) => scoreProgram(model, tensors, tracked, kind, shape, { stage, precision })
  const twoBatches = (checkpoint: Checkpoint) => [[9, 5], [12]].map((lengths, i) => inputsOf(checkpoint, lengths, 3 + i, ['rows', 'labels']))
  const compare = async (checkpoint: Checkpoint, tracked: readonly LinearLayer[], cuts: readonly (readonly Span[])[], kind: JoinKind, on = engine): Promise<void> => {
    await using whole = await compileInStages(on, checkpoint, tracked, scores(checkpoint, kind))
    const wanted = await outputsOf(whole, queriesOf(tracked, kind), twoBatches(checkpoint))
    for (const spans of cuts) {
      await using program = await compileInStages(on, staged(checkpoint, spans), tracked, scores(checkpoint, kind))
      assertSame(await outputsOf(program, queriesOf(tracked, kind), twoBatches(checkpoint)), wanted, `${kind}, cut at ${spans.slice(1).map(({ from }) => from).join(', ')}`)
    }
  }

  // Into all parts is a cut at every place; in two is a stage of several parts on either side.
  for (const [name, folder] of folders)
    test(`scores, norms and losses of ${name}: cut into all its parts, and in two`, async () => {
      const checkpoint = await openModel(folder())
      await compare(checkpoint, checkpoint.model.layers, [apart(checkpoint), cutAt(checkpoint, Math.floor(partsOf(checkpoint.model) / 2))], 'dense')
    })

  test('cut in two at every place', async () => {
    const checkpoint = await openModel(readReference('llama').modelDir)
    await compare(checkpoint, checkpoint.model.layers, apart(checkpoint).slice(1).map(({ from }) => cutAt(checkpoint, from)), 'dense')
  })

  for (const kind of ['low-rank', 'shared'] as const)
    test(`scores of the ${kind} join`, async () => {
      const checkpoint = await openModel(readReference('gpt2').modelDir)
      await compare(checkpoint, checkpoint.model.layers, [apart(checkpoint)], kind)
    })

  test('on TensorFlow.js', async () => {
    await using tfjs = tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu' })
    const checkpoint = await openModel(readReference('llama').modelDir)
    await compare(checkpoint, checkpoint.model.layers, [apart(checkpoint), cutAt(checkpoint, 2)], 'low-rank', tfjs)
  })

  for (const precision of ['f16', 'bf16'] as const)
    test(`with products of ${precision}, the forward pass below a stage included`, async () => {
      const checkpoint = await openModel(readReference('llama').modelDir)
      const { layers } = checkpoint.model
      const scored = async (model: StagedModel, width: Precision) => {
        await using program = await compileInStages(engine, model, layers, scores(checkpoint, 'low-rank', width))
        const queries = queriesOf(layers, 'low-rank')
        return await outputsOf(program, width === 'f32' ? queries : scaledQueries('low-rank', layers, shape, queries), twoBatches(checkpoint))
      }
      const [exact, wanted] = [await scored(checkpoint, 'f32'), await scored(checkpoint, precision)]
      for (const spans of [apart(checkpoint), cutAt(checkpoint, 2)]) assertSame(await scored(staged(checkpoint, spans), precision), wanted, precision)
      // What a pass of another width below would be off by is far more than what is allowed here.
      for (const output of ['squares', 'scores']) assert.ok(relativeError(numbers(exact[0][output]), numbers(wanted[0][output])) > 10 * tolerance, output)
    })

  test('nothing is computed backwards below the lowest tracked layer', async () => {
    const checkpoint = await openModel(readReference('llama').modelDir)
    const tracked = trackedLayers(checkpoint.model, 'model.layers.1.mlp.*')
    await compare(checkpoint, tracked, [apart(checkpoint), cutAt(checkpoint, 2)], 'dense')
    const counting = counted(engine)
    const spans = apart(checkpoint)
    await using program = await compileInStages(counting, staged(checkpoint, spans), tracked, scores(checkpoint, 'dense'))
    await outputsOf(program, queriesOf(tracked, 'dense'), [inputsOf(checkpoint, [9], 1, ['rows', 'labels'])])
    assert.equal(counting.counts.compiled, spans.length - 1 + 2, 'forward: all but the last; backward: the head and one block')
  })

  for (const name of ['gpt2', 'mixtral'] as const)
    test(`gradients of queries, terms of an explanation and both sums of a fit: ${name}`, async () => {
      const checkpoint = await openModel(name === 'gpt2' ? readReference(name).modelDir : fixture(name))
      const { model, tensors } = checkpoint
      const tracked = model.layers
      const query = { tokens: [5, 3, 8, 2, 9, 1, 1, 4], promptTokens: 5 }
      const build: BuildProgram = (layers, stage) => queryProgram(model, tensors, layers, { stage })
      await using whole = await compileInStages(engine, checkpoint, tracked, build)
      await using parted = await compileInStages(engine, staged(checkpoint, apart(checkpoint)), tracked, build)
      const [wanted, found] = [await queryGradient(whole, tracked, query), await queryGradient(parted, tracked, query)]
      assertNear([found.informationNats], [wanted.informationNats], tolerance, 'information')
      for (const layer of tracked) {
        const [a, b] = [found.layers.get(layer.name) ?? assert.fail(), wanted.layers.get(layer.name) ?? assert.fail()]
        assertNear(a.input, b.input, tolerance, `input of ${layer.name}`)
        if (Math.hypot(...b.delta) > 1e-6) assertNear(a.delta, b.delta, tolerance, `δ of ${layer.name}`)
      }
      const terms: BuildProgram = (layers, stage) => explainProgram(model, tensors, layers, 'low-rank', shape.rank, { stage })
      const one = { ...shape, queries: 1 }
      const bound = () => Object.fromEntries(tracked.flatMap((layer, l) => Object.entries(joins['low-rank'].inputs(layer, one)).map(([input, { shape: d }], i) => [input, floats(d.map(Number), 10 * l + i)])))
      await using explained = await compileInStages(engine, checkpoint, tracked, terms)
      await using explainedInStages = await compileInStages(engine, staged(checkpoint, apart(checkpoint)), tracked, terms)
      const documents = () => [inputsOf(checkpoint, [11], 6, ['rows', 'labels'])]
      const [[all], [inStages]] = [await outputsOf(explained, bound(), documents()), await outputsOf(explainedInStages, bound(), documents())]
      const joined = (outputs: Readonly<Record<string, TensorData>>): number[] => tracked.flatMap((layer) => [...numbers(outputs[`terms/${layer.name}`])])
      assertNear(joined(inStages), joined(all), tolerance, 'terms')

      const basis = (width: number, seed: number): Basis => ({ width, values: new Float64Array(width), blocks: [{ from: 0, size: width, vectors: Float32Array.from(randomTensor([width, width], seed).data) }] })
      const bases = {
        inputs: new Map(tracked.map((layer, l) => [inputName(layer), basis(inputWidth(layer), l)])),
        outputs: new Map(tracked.map((layer, l) => [layer.name, basis(layer.outputs, 50 + l)])),
      }
      // Labels are the head's alone, and waves are the same for every model: one has both kinds, and a wave for every run.
      for (const empirical of name === 'gpt2' ? [true, false] : [true]) {
        const labels = empirical ? 'labels' : 'uniforms'
        for (const [pass, fitted, given, inputs] of [
          ['covariances', (layers, stage) => covarianceProgram(model, tensors, layers, { empirical, stage }), () => ({}), ['rows', labels, 'real']],
          ['eigenvalues', (layers, stage) => eigenvalueProgram(model, tensors, layers, bases, { empirical, context: 64, stage }), () => boundBases(bases), ['rows', labels]],
        ] satisfies [string, BuildProgram, () => Readonly<Record<string, TensorData>>, ('rows' | 'labels' | 'uniforms' | 'real')[]][]) {
          const runs = () => [[9, 5], [12]].map((lengths, i) => inputsOf(checkpoint, lengths, 8 + i, inputs))
          await using summed = await compileInStages(engine, checkpoint, tracked, fitted)
          await using summedInStages = await compileInStages(engine, staged(checkpoint, apart(checkpoint), name === 'gpt2' ? 1 : undefined), tracked, fitted)
          await outputsOf(summed, given(), runs())
          await outputsOf(summedInStages, given(), runs())
          assert.deepEqual(Object.keys(summedInStages.sums).sort(), Object.keys(summed.sums).sort())
          const largest = Math.max(...Object.values(summed.sums).map((sum) => Math.hypot(...sum)))
          for (const [sum, terms] of Object.entries(summed.sums)) // an expert that reads no token has rounding for a sum
            if (Math.hypot(...terms) > 1e-6 * largest) assertNear(summedInStages.sums[sum], terms, tolerance, `${pass}, ${labels}: ${sum}`)
        }
      }
    })

  test('one stage is in memory at a time, and what is handed over together is computed in as few waves as its streams allow', async () => {
    const checkpoint = await openModel(readReference('gpt2').modelDir)
    const spans = apart(checkpoint)
    const stream = spans.length * 4 * 8 * checkpoint.model.width // of one document of 8 tokens
    for (const [activationBytesMax, waves] of [[6 * stream, 1], [2 * stream, 3], [1, 6]] as const) {
      const counting = counted(engine)
      const model = staged(checkpoint, spans, activationBytesMax)
      await using program = await compileInStages(counting, model, checkpoint.model.layers, scores(checkpoint, 'dense'))
      assert.equal(runsTogether(model, 8), 6 / waves)
      const runs = Array.from({ length: 6 }, (_, i) => inputsOf(checkpoint, [8], i, ['rows', 'labels']))
      const found = await outputsOf(program, queriesOf(checkpoint.model.layers, 'dense'), runs)
      assert.equal(counting.counts.most, 1)
      assert.equal(counting.counts.open, 0)
      // Nothing of the embedding is tracked: it has no backward pass.
      assert.equal(counting.counts.compiled, waves * (2 * spans.length - 2))
      assert.equal(counting.counts.inPlace, counting.counts.compiled, 'weights stay in their file')
      assert.equal(new Set(found.map(({ loss }) => String(loss.data))).size, 6, 'each has its own')
    }
    assert.equal(runsTogether(checkpoint, 8), 1)
  })

  test('a run whose term of a sum is no number adds nothing, in no stage; those beside it are added', async () => {
    const checkpoint = await openModel(readReference('llama').modelDir)
    const { model, tensors } = checkpoint
    const tracked = model.layers
    const inputs = new Map(tracked.map((layer, l): [string, Basis] => [inputName(layer), { width: inputWidth(layer), values: new Float64Array(0), blocks: [{ from: 0, size: inputWidth(layer), vectors: Float32Array.from(randomTensor([inputWidth(layer), inputWidth(layer)], l).data) }] }]))
    const bases = { inputs, outputs: new Map<string, Basis>() }
    const build: BuildProgram = (layers, stage) => {
      const spec = eigenvalueProgram(model, tensors, layers, bases, { empirical: true, context: 64, stage })
      // The lowest block alone sees the fault, after those above have added what they have.
      if (layers.every(({ block }) => block > 0)) return spec
      return { ...spec, inputs: { ...spec.inputs, fault: { type: 'float32', shape: [1] } }, build: (ops, value, weight) => {
        const outputs = spec.build(ops, value, weight)
        return { ...outputs, ...Object.fromEntries(Object.keys(spec.accumulate ?? {}).map((name) => [name, ops.add(outputs[name], value('fault'))])) }
      } }
    }
    const run = (seed: number, fault: number): Readonly<Record<string, TensorData>> => ({
      ...inputsOf(checkpoint, [9], seed, ['rows', 'labels']), fault: { type: 'float32', shape: [1], data: Float32Array.of(fault) },
    })
    await using wanted = await compileInStages(engine, staged(checkpoint, apart(checkpoint)), tracked, build)
    await outputsOf(wanted, boundBases(bases), [run(1, 0), run(3, 0)])
    await using program = await compileInStages(engine, staged(checkpoint, apart(checkpoint)), tracked, build)
    await program.bind(boundBases(bases))
    const ends = await Promise.allSettled([run(1, 0), run(2, NaN), run(3, 0)].map((inputs) => program.run(inputs)))
    assert.deepEqual(ends.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
    assert.ok(ends[1].status === 'rejected' && ends[1].reason instanceof NotFiniteError)
    assert.deepEqual(program.sums, wanted.sums)
    await assert.rejects(program.run({ tokens: run(1, 0).tokens }), /input "rows" is missing/)
    await program.run(run(1, 0)) // it goes on
  })

  test('stages are the fewest that fit, and a budget below the largest part is refused with one that does', async () => {
    for (const [, folder] of folders) {
      const { model } = await openModel(folder())
      const parts = Array.from({ length: partsOf(model) }, (_, part) => spanBytes(model, { from: part, to: part + 1 }))
      const [most, total] = [Math.max(...parts), spanBytes(model, { from: 0, to: partsOf(model) })]
      assert.deepEqual(planStages(model, total), [{ from: 0, to: partsOf(model) }])
      for (const budget of [most, 1.5 * most, 2 * most, total - 1].filter((bytes) => bytes >= most)) {
        const spans = planStages(model, budget)
        assert.deepEqual(spans.map(({ from }) => from), [0, ...spans.slice(0, -1).map(({ to }) => to)])
        assert.equal(spans.at(-1)?.to, partsOf(model))
        for (const [s, span] of spans.entries()) {
          assert.ok(span.to > span.from && spanBytes(model, span) <= budget)
          const next = spans[s + 1]
          if (next !== undefined) assert.ok(spanBytes(model, { from: span.from, to: next.from + 1 }) > budget, 'one part more does not fit')
        }
      }
      assert.throws(() => planStages(model, most - 1), (error: Error & { fix?: string }) => /holds not even (its embedding|its head|block \d+), which takes/.test(error.message) && /--stage-memory \d+MiB/.test(error.fix ?? ''))
    }
  })
})
