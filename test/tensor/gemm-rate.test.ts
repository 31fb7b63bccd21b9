/** @file The rate of products on engines whose speed is made up, and the chain itself on a real one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gemmRate, onnxEngine, type Engine, type Ops, type Program } from '../../src/tensor/index.js'

/** An engine with a clock of its own, on which products take as long as it says; and what it was asked to multiply. */
const madeUp = (secondsOf: (flop: number, run: number) => number): { readonly engine: Engine; readonly now: () => number; readonly rows: number[] } => {
  let [seconds, runs] = [0, 0]
  const rows: number[] = []
  const compile: Engine['compile'] = ({ build }) => {
    let products = 0
    const ops = { mul: () => 0, matmul: () => ++products, sum: () => 0 } as unknown as Ops<number>
    build(ops, () => 0, () => 0)
    const program: Program = {
      nodes: 0, sums: {}, bind: () => Promise.resolve(),
      run: ({ rows: { shape } }) => {
        rows.push(shape[0])
        seconds += secondsOf(products * 2 * shape[0] * 576 * 1536, runs++)
        return Promise.resolve({})
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
    return Promise.resolve(program)
  }
  return { rows, now: () => seconds * 1e3, engine: { name: 'made up', threads: 1, versions: {}, compile, [Symbol.asyncDispose]: () => Promise.resolve() } }
}

const near = (found: number, wanted: number): void => assert.ok(Math.abs(found / wanted - 1) < 1e-9, `${found}, not ${wanted}`)

test('on an engine as fast as a processor the rate is that of 2,048 rows, however slow fewer rows are', async () => {
  const { engine, now, rows } = madeUp((flop) => flop / (flop > 4e10 ? 1e11 : 4e10))
  near(await gemmRate(engine, { now }), 1e11)
  assert.equal(rows.at(-1), 2048)
  assert.ok(now() < 10_000, `${now()} ms`)
})

test('the best of several runs counts', async () => {
  const { engine, now } = madeUp((flop, run) => flop / (run % 3 === 2 ? 1.2e11 : 5e10))
  near(await gemmRate(engine, { now }), 1.2e11)
})

test('where starting a chain takes longer than the chain, a longer one tells the rate', async () => {
  const { engine, now } = madeUp((flop) => 2e-3 + flop / 5e13)
  assert.ok(Math.abs((await gemmRate(engine, { now })) / 5e13 - 1) < 0.15)
})

test('an engine a thousand times slower is not kept busy for minutes', async () => {
  const { engine, now, rows } = madeUp((flop) => flop / 1e8)
  near(await gemmRate(engine, { now }), 1e8)
  assert.ok(now() < 60_000 && Math.max(...rows) < 64, `${now()} ms, ${Math.max(...rows)} rows`)
})

test('its numbers stay numbers, in 16 bits too', { timeout: 120_000 }, async () => {
  await using engine = onnxEngine({ threads: 1 })
  for (const precision of ['f32', 'f16', 'bf16'] as const) {
    const sums: number[] = []
    const watched: Engine = {
      ...engine,
      compile: async (spec) => {
        const program = await engine.compile(spec)
        return { ...program, run: async (inputs) => {
          const outputs = await program.run(inputs)
          sums.push(Number(outputs.sum.data[0]))
          return outputs
        } }
      },
    }
    let ms = 0
    assert.ok((await gemmRate(watched, { precision, now: () => (ms += 1e4) })) > 0)
    assert.ok(sums.length > 1 && sums.every((sum) => Number.isFinite(sum) && sum !== 0 && sum === sums[0]), `${precision}: ${sums.join(', ')}`)
  }
})
