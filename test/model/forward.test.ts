/** @file Forward passes in float64 against `transformers`, for every variant of every architecture. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { batchTensors, paddedLength, queryProgram } from '../../src/influence/index.js'
import { openModel, type Model, type OnLinear, type Weights } from '../../src/model/index.js'
import { onnxEngine } from '../../src/tensor/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { expected, fixture, plainWeights } from './checkpoints.js'

const ops = plainOps()
const straight: OnLinear<PlainTensor> = (_layer, x, compute) => compute(x)

const hiddenOf = (model: Model, weights: Weights<PlainTensor>, batch: readonly (readonly number[])[]): PlainTensor =>
  model.forward(ops, weights, { tokens: plainTensor(batch.flat(), [batch.length, batch[0].length]) }, straight)

/** [N, V] logits of the tokens of one sequence. */
const logitsOf = (model: Model, weights: Weights<PlainTensor>, hidden: PlainTensor): PlainTensor => {
  const { weight, logitScale = 1, softCap } = model.head
  const raw = ops.matmul(ops.reshape(hidden, [-1, model.width]), weights(weight), { transB: true, alpha: logitScale })
  return softCap === undefined ? raw : ops.scale(ops.tanh(ops.scale(raw, 1 / softCap)), softCap)
}

/** ‖a − b‖∞ / ‖b‖∞ */
const distance = (a: ArrayLike<number>, b: readonly number[]): number => {
  assert.equal(a.length, b.length)
  const largest = b.reduce((max, x) => Math.max(max, Math.abs(x)), 0)
  return b.reduce((max, x, i) => (Number.isFinite(a[i]) ? Math.max(max, Math.abs(a[i] - x)) : Infinity), 0) / largest
}

const VARIANTS: Readonly<Record<string, { readonly head?: 'own' | 'embedding'; readonly tolerance?: number }>> = {
  gpt2: { head: 'embedding' },
  'gpt2-bare-f16': { head: 'embedding' },
  'gpt2-untied': { head: 'own' },
  llama: { head: 'own' },
  'llama-tied-bare': { head: 'embedding' },
  'llama-tied-stored-bf16': { head: 'embedding' },
  'llama-tied-but-different': { head: 'own' }, // as transformers does, whatever config.json says
  'llama-gqa-sharded': {},
  'llama-long-positions': {},
  'llama-linear': {},
  'llama-dynamic': {},
  'llama-partial-ignored': {},
  'llama-llama3': {},
  'llama-llama3-old-spelling': {},
  'llama-yarn': {},
  'llama-yarn-mscale': {},
  'llama-longrope': {},
  mistral: {},
  'mistral-no-window': {},
  'qwen2-window-off': {},
  'qwen2-window-on': {},
  'qwen2-window-old': { head: 'embedding' },
  'gpt-neox': { head: 'own' },
  'gpt-neox-serial-old': { head: 'own' },
  olmo2: {},
  'olmo2-yarn': {}, // far beyond the context that it is scaled from
  qwen3: {},
  'qwen3-window': { head: 'embedding' },
  gemma2: { head: 'embedding' },
  'gemma2-uncapped-old': {},
  gemma3: {},
  'gemma3-old': {},
  phi3: {},
  'phi3-su': {},
  'phi3-long': {}, // one sequence beyond the original context, one within
  cohere: { head: 'embedding' },
  'cohere-plain': { head: 'own' },
  cohere2: {},
  mixtral: {},
  'mixtral-one': {},
  'qwen3-moe': {},
  'qwen3-moe-normalized': {},
}

for (const [name, { head, tolerance = 2e-6 }] of Object.entries(VARIANTS))
  test(`${name}: logits and loss are those of transformers`, async (t) => {
    const checkpoint = await openModel(fixture(name))
    const { model } = checkpoint
    const weights = await plainWeights(checkpoint)
    if (head !== undefined) assert.equal(model.head.weight === 'lm_head.weight' ? 'own' : 'embedding', head)
    for (const { ids, positions, logits, loss } of await expected(name)) {
      const hidden = ops.reshape(hiddenOf(model, weights, [ids]), [-1, model.width])
      const at = ops.gather(hidden, plainTensor(positions, [positions.length]))
      const error = distance(logitsOf(model, weights, at).data, logits.flat())
      const predicting = ops.slice(hidden, { axis: 0, from: 0, to: -1 })
      const labels = plainTensor(ids.slice(1), [ids.length - 1])
      const total = ops.sum(ops.tokenLosses(predicting, weights(model.head.weight), labels, model.head), { axes: [0, 1] }).data[0]
      t.diagnostic(`${ids.length} tokens: logits ${error.toExponential(1)}, loss ${(Math.abs(total - loss) / loss).toExponential(1)}`)
      assert.ok(error < tolerance, `logits are off by ${error}`)
      assert.ok(Math.abs(total - loss) < tolerance * loss, `loss ${total} instead of ${loss}`)
    }
  })

for (const name of [
  'gpt2', 'llama-gqa-sharded', 'mistral', 'qwen2-window-on', 'llama-longrope', 'gpt-neox', 'olmo2-yarn', 'qwen3-window', 'gemma2', 'gemma3', 'phi3-su', 'cohere2',
  'mixtral', 'qwen3-moe',
])
  test(`${name}: a sequence is the same alone and padded in a batch`, async () => {
    const checkpoint = await openModel(fixture(name))
    const { model } = checkpoint
    const weights = await plainWeights(checkpoint)
    const [long, short] = (await expected(name)).map(({ ids }) => ids)
    const padded = [...short, ...long.slice(short.length)]
    const together = hiddenOf(model, weights, [long, padded]) // [2, T, D]
    const inBatch = ops.slice(ops.slice(together, { axis: 0, from: 1, to: 2 }), { axis: 1, from: 0, to: short.length })
    assert.ok(distance(inBatch.data, [...hiddenOf(model, weights, [short]).data]) < 1e-12)
  })

test('longrope turns a sequence by its own length on an engine, padded or not, up to the last token of the original context', async () => {
  const checkpoint = await openModel(fixture('phi3-long'))
  const { model, tensors } = checkpoint
  const weights = await plainWeights(checkpoint)
  await using engine = onnxEngine({ threads: 1 })
  await using program = await engine.compile(queryProgram(model, tensors, model.layers.slice(-1)))
  const [{ ids, loss }] = await expected('phi3-long')
  const lossOf = async (tokens: readonly number[], length: number): Promise<number> => {
    const { tokens: padded, rows, labels } = batchTensors([{ tokens }], { length })
    return Number((await program.run({ tokens: padded, rows, labels })).loss.data[0])
  }
  const near = (found: number, wanted: number, what: string): void => assert.ok(Math.abs(found - wanted) < 1e-4 * wanted, `${what}: ${found} instead of ${wanted}`)
  for (const length of [100, paddedLength(100)]) near(await lossOf(ids, length), loss, `100 tokens in ${length}`)
  for (const tokens of [57, 64, 65]) {
    const own = ids.slice(0, tokens)
    const hidden = ops.reshape(hiddenOf(model, weights, [own]), [-1, model.width])
    const alone = ops.sum(ops.tokenLosses(ops.slice(hidden, { axis: 0, from: 0, to: -1 }), weights(model.head.weight), plainTensor(own.slice(1), [tokens - 1]), model.head), { axes: [0, 1] }).data[0]
    assert.equal(paddedLength(tokens) > 64, tokens > 64)
    near(await lossOf(own, paddedLength(tokens)), alone, `${tokens} tokens`)
  }
  // It matters: within a longer sequence the same tokens are turned otherwise.
  assert.ok(Math.abs((await lossOf(ids.slice(0, 64), 64)) / (await lossOf(ids.slice(0, 64), 72)) - 1) > 1e-3)
})

test('every linear layer is announced once, in forward order, with the input its group shares', async () => {
  for (const name of ['gpt2', 'llama-gqa-sharded', 'qwen2-window-off', 'gpt-neox', 'olmo2-yarn', 'qwen3', 'gemma3', 'phi3', 'cohere', 'mixtral', 'qwen3-moe']) {
    const checkpoint = await openModel(fixture(name))
    const { model } = checkpoint
    const weights = await plainWeights(checkpoint)
    const seen: string[] = []
    const inputs = new Map<string, PlainTensor>()
    model.forward(ops, weights, { tokens: plainTensor([1, 2, 3], [1, 3]) }, (layer, x, compute) => {
      seen.push(layer.name)
      assert.equal(x.shape.at(-1), layer.inputs)
      const y = compute(x)
      assert.equal(y.shape.at(-1), layer.outputs)
      assert.equal(model.weightShapes.has(`${layer.name}.bias`), layer.bias)
      assert.equal(inputs.get(layer.inputGroup) ?? x, x, `${layer.name} reads what its group ${layer.inputGroup} reads`)
      inputs.set(layer.inputGroup, x)
      return y
    })
    assert.deepEqual(seen, model.layers.map((layer) => layer.name))
  }
})

test('modules have the names that Hugging Face gives them, whatever the prefix in the file', async () => {
  const names = async (name: string) => (await openModel(fixture(name))).model.layers.map((layer) => layer.name)
  assert.deepEqual((await names('gpt2-bare-f16')).slice(0, 4), [
    'transformer.h.0.attn.c_attn', 'transformer.h.0.attn.c_proj', 'transformer.h.0.mlp.c_fc', 'transformer.h.0.mlp.c_proj',
  ])
  assert.deepEqual((await names('llama-tied-bare')).slice(0, 7), [
    'model.layers.0.self_attn.q_proj', 'model.layers.0.self_attn.k_proj', 'model.layers.0.self_attn.v_proj',
    'model.layers.0.self_attn.o_proj', 'model.layers.0.mlp.gate_proj', 'model.layers.0.mlp.up_proj', 'model.layers.0.mlp.down_proj',
  ])
})
