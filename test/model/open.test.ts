/** @file Checkpoints that are unsupported or broken are refused before any work, by what is wrong with them. */
import assert from 'node:assert/strict'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { UserError } from '../../src/base/index.js'
import { openModel, readCheckpointTensors, readTensor, writeSafetensors, type TensorToWrite } from '../../src/model/index.js'
import { readRope, rotaryTables } from '../../src/model/rope.js'
import { copyOf, fixture, temporary } from './checkpoints.js'

type Test = Parameters<typeof temporary>[0]

const refused = async (folder: string, message: RegExp): Promise<void> => {
  await assert.rejects(openModel(folder), (error) => {
    assert.ok(error instanceof UserError, String(error))
    assert.match(error.message, message)
    return true
  })
}

/** Rewrites the weights of a copy. */
const reweighted = async (
  t: Test, name: string, change: (tensors: Map<string, { shape: readonly number[]; values: Float32Array }>) => void,
): Promise<string> => {
  const folder = await copyOf(t, name)
  const tensors = new Map<string, { shape: readonly number[]; values: Float32Array }>()
  for (const [key, info] of await readCheckpointTensors(folder)) tensors.set(key, { shape: info.shape, values: await readTensor(info) })
  change(tensors)
  const written = [...tensors].map(([key, { shape, values }]): TensorToWrite => ({ name: key, dtype: 'F32', shape, data: () => values }))
  await writeSafetensors(join(folder, 'model.safetensors'), written)
  return folder
}

const ROPE = { rope_theta: 10000, rope_type: 'default' }
const LLAMA: Readonly<Record<string, readonly [Record<string, unknown>, RegExp]>> = {
  'an unknown architecture': [{ model_type: 'mamba' }, /model_type = "mamba" is not supported \(supported: gpt2, gpt_neox, llama, .*, cohere2\)/],
  'no architecture': [{ model_type: undefined }, /model_type = undefined/],
  'a quantization': [{ quantization_config: { bits: 4 } }, /quantization_config = \{"bits":4\}/],
  'an unknown activation': [{ hidden_act: 'relu' }, /hidden_act = "relu" is not supported \(supported: silu/],
  'an activation of the prototype': [{ hidden_act: 'toString' }, /hidden_act = "toString"/],
  'tensor parallel pretraining': [{ pretraining_tp: 2 }, /pretraining_tp = 2/],
  'a missing size': [{ hidden_size: undefined }, /hidden_size/],
  'sizes of text': [{ hidden_size: '16', num_hidden_layers: 2.5 }, /hidden_size: .*; num_hidden_layers: /],
  'a size of zero': [{ num_attention_heads: 0 }, /num_attention_heads/],
  'a size beyond reason': [{ vocab_size: 2 ** 40 }, /vocab_size/],
  'key heads that do not divide the heads': [{ num_attention_heads: 4, num_key_value_heads: 3 }, /num_key_value_heads = 3/],
  'heads that do not divide the width': [{ num_attention_heads: 3, num_key_value_heads: 3, head_dim: null }, /num_attention_heads = 3/],
  'an odd head': [{ head_dim: 7 }, /head_dim = 7/],
  'an unknown rotary scaling': [{ rope_parameters: { ...ROPE, rope_type: 'magic' } }, /rope_parameters\.rope_type = "magic" is not supported \(supported: default, linear/],
  'an unknown rotary scaling of old': [{ rope_scaling: { type: 'su', factor: 2 } }, /rope_scaling\.type = "su"/],
  'rotary scaling without its factor': [{ rope_parameters: { ...ROPE, rope_type: 'linear' } }, /rope_parameters\.factor/],
  'llama3 scaling without its bounds': [{ rope_parameters: { ...ROPE, rope_type: 'llama3', factor: 8 } }, /rope_parameters\.low_freq_factor/],
  'a rotary embedding for each kind of layer': [{ rope_parameters: { full_attention: ROPE } }, /rope_parameters\.full_attention/],
  'a part of the head rotated and scaled': [{ rope_parameters: { ...ROPE, rope_type: 'linear', factor: 2, partial_rotary_factor: 0.5 } }, /partial_rotary_factor = 0\.5/],
  'longrope of too few factors': [
    { rope_parameters: { ...ROPE, rope_type: 'longrope', short_factor: [1], long_factor: [1], factor: 2 } }, /short_factor = "1 factors"/,
  ],
  'a bias that is no truth value': [{ attention_bias: 'yes' }, /attention_bias/],
}
for (const [what, [settings, message]] of Object.entries(LLAMA))
  test(`a llama with ${what} is refused`, async (t) => refused(await copyOf(t, 'llama', settings), message))

const OTHERS: readonly (readonly [string, string, Record<string, unknown>, RegExp])[] = [
  ['gpt2', 'cross attention', { add_cross_attention: true }, /add_cross_attention = true/],
  ['gpt2', 'attention scaled by layer', { scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx = true/],
  ['gpt2', 'reordered attention', { reorder_and_upcast_attn: true }, /reorder_and_upcast_attn = true/],
  ['gpt2', 'an unknown activation', { activation_function: 'relu' }, /activation_function = "relu"/],
  ['gpt2', 'heads that do not divide the width', { n_head: 3 }, /n_head = 3/],
  ['mistral', 'a window of zero', { sliding_window: 0 }, /sliding_window/],
  ['mistral', 'layers of several kinds', { layer_types: ['full_attention', 'sliding_attention'] }, /layer_types/],
  ['qwen2-window-on', 'a type for each but one layer', { layer_types: ['full_attention'] }, /layer_types = "1 types"/],
  ['qwen2-window-on', 'an unknown kind of layer', { layer_types: ['full_attention', 'linear_attention', 'full_attention'] }, /layer_types\.1 = "linear_attention"/],
  ['qwen2-window-on', 'sliding layers and the window off', { use_sliding_window: false }, /layer_types\.1 = "sliding_attention"/],
  ['gpt-neox', 'heads of a width of their own', { head_dim: 8 }, /head_dim = 8/],
  ['gpt-neox', 'no part of the head turned', { rope_parameters: { ...ROPE, partial_rotary_factor: 0.01 } }, /head_dim = 16 is not supported \(supported: with partial_rotary_factor = 0\.01, even ones/],
  ['gpt-neox', 'more than the head turned', { rope_parameters: undefined, rotary_pct: 2 }, /rotary_pct/],
  ['olmo2', 'key heads that do not divide the heads', { num_key_value_heads: 3 }, /num_key_value_heads = 3/],
  ['qwen3', 'an unknown kind of layer', { layer_types: ['full_attention', 'linear_attention'] }, /layer_types\.1 = "linear_attention"/],
  ['qwen3-moe', 'more experts for a token than there are', { num_experts_per_tok: 5 }, /num_experts_per_tok = 5 is not supported \(supported: at most num_experts = 4/],
  ['mixtral', 'more experts for a token than there are', { num_experts_per_tok: 5 }, /num_experts_per_tok = 5 .*at most num_local_experts = 4/],
  ['gemma2', 'attention both ways', { use_bidirectional_attention: true }, /use_bidirectional_attention = true/],
  ['gemma2', 'sliding layers and no window', { sliding_window: null }, /layer_types\.0 = "sliding_attention" .*as sliding_window is null/],
  ['gemma2', 'a soft cap of nothing', { attn_logit_softcapping: 0 }, /attn_logit_softcapping/],
  ['gemma3', 'capped scores', { attn_logit_softcapping: 50 }, /attn_logit_softcapping = 50/],
  ['gemma3', 'one rotary embedding for all layers', { rope_parameters: ROPE }, /rope_parameters\.rope_theta = 10000 .*an entry for full_attention/],
  ['gemma3', 'a part of the head turned and scaled', { rope_scaling: { rope_type: 'linear', factor: 2, partial_rotary_factor: 0.5 } }, /partial_rotary_factor = 0\.5/],
  ['gemma3', 'the images that go with it', { model_type: 'gemma3' }, /model_type = "gemma3" is not supported/],
  ['phi3', 'another scaling', { rope_parameters: { ...ROPE, rope_type: 'linear', factor: 2 } }, /rope_type = "linear" is not supported \(supported: default, longrope, su, yarn\)/],
  ['cohere', 'no factor on the logits', { logit_scale: null }, /logit_scale/],
  ['cohere2', 'normed queries', { use_qk_norm: true }, /use_qk_norm = true/],
  ['cohere2', 'heads of a width of their own', { head_dim: 12 }, /head_dim = 12/],
]
for (const [name, what, settings, message] of OTHERS)
  test(`a ${name} with ${what} is refused`, async (t) => refused(await copyOf(t, name, settings), message))

test('missing weights are named, the first few and how many', async (t) => {
  const folder = await reweighted(t, 'llama', (tensors) => {
    for (const name of [...tensors.keys()].filter((key) => key.includes('layers.1.'))) tensors.delete(name)
  })
  await refused(folder, /lacks 9 of 21 weights: "model\.layers\.1\.\S+", "model\.\S+", "model\.\S+" and 6 more/)
})

test('a head that is neither stored nor tied is missing', async (t) => {
  await refused(await reweighted(t, 'llama', (tensors) => tensors.delete('lm_head.weight')), /lacks 1 of 21 weights: "lm_head\.weight"/)
})

test('of a tied pair the stored one serves as both', async (t) => {
  const folder = await reweighted(t, 'llama-tied-stored-bf16', (tensors) => tensors.delete('model.embed_tokens.weight'))
  const { model, tensors } = await openModel(folder)
  assert.equal(model.head.weight, 'model.embed_tokens.weight')
  assert.equal(tensors.get('model.embed_tokens.weight')?.name, 'lm_head.weight')
})

test('weights of another shape are named with both shapes', async (t) => {
  await refused(await copyOf(t, 'llama', { intermediate_size: 25 }),
    /"model\.layers\.0\.mlp\.gate_proj\.weight" is \[24, 16\], config\.json makes it \[25, 16\].*and \d more/)
  const transposed = await reweighted(t, 'gpt2', (tensors) => {
    const weight = tensors.get('transformer.h.0.mlp.c_fc.weight') ?? assert.fail()
    tensors.set('transformer.h.0.mlp.c_fc.weight', { ...weight, shape: weight.shape.toReversed() })
  })
  await refused(transposed, /c_fc\.weight" is \[64, 16\], config\.json makes it \[16, 64\]/)
})

test('weights that the model has no place for are named', async (t) => {
  await refused(await copyOf(t, 'llama-gqa-sharded', { attention_bias: false }), /has 8 weights that a llama .* no place for: ".*bias"/)
  await refused(await copyOf(t, 'llama', { num_hidden_layers: 1 }), /has 9 weights/)
})

test('weights of integers are refused', async (t) => {
  const folder = await copyOf(t, 'llama')
  const tensors = await readCheckpointTensors(folder)
  const written: TensorToWrite[] = []
  for (const [name, info] of tensors) {
    const values = await readTensor(info)
    const isNorm = name === 'model.norm.weight'
    written.push(isNorm
      ? { name, dtype: 'I64', shape: info.shape, data: () => new BigInt64Array(values.length) }
      : { name, dtype: 'F32', shape: info.shape, data: () => values })
  }
  await writeSafetensors(join(folder, 'model.safetensors'), written)
  await refused(folder, /"model\.norm\.weight" is I64 \(read: F32, F16, BF16, F64\)/)
})

test('folders that are no checkpoints are refused by what they lack', async (t) => {
  const folder = await temporary(t)
  await refused(join(folder, 'nowhere'), /model folder ".*nowhere" cannot be opened/)
  await refused(folder, /config\.json" cannot be read/)
  await writeFile(join(folder, 'config.json'), '{"model_type": "llama"')
  await refused(folder, /config\.json" is no JSON/)
  await refused(join(folder, 'config.json'), /is a file/)
  await writeFile(join(folder, 'config.json'), await readFile(join(fixture('llama'), 'config.json')))
  await refused(folder, /neither model\.safetensors nor model\.safetensors\.index\.json/)
  await mkdir(join(folder, 'model.safetensors'))
  await refused(folder, /model\.safetensors"/)
  await rm(join(folder, 'model.safetensors'), { recursive: true })
  await writeFile(join(folder, 'adapter_config.json'), '{}')
  await refused(folder, /PEFT adapter/)
})

test('a longer context than is asked for is not tabulated, a shorter one is not stretched', async () => {
  assert.equal((await openModel(fixture('llama'), { positionsMax: 100 })).model.positionsMax, 100)
  assert.equal((await openModel(fixture('llama'), { positionsMax: 10_000 })).model.positionsMax, 256)
  assert.equal((await openModel(fixture('gpt2'))).model.positionsMax, 40)
})

test('longrope goes beyond its original context, where no padding crosses that', async (t) => {
  for (const name of ['llama-longrope', 'phi3-su', 'phi3-long']) assert.equal((await openModel(fixture(name))).model.positionsMax, 256, name)
  const { rope_parameters: rope } = JSON.parse(await readFile(join(fixture('phi3-long'), 'config.json'), 'utf8')) as { rope_parameters: object }
  // 60 tokens are padded to 64: beyond 60 they would be turned otherwise.
  for (const [original, positions] of [[60, 60], [112, 256], [8, 256], [7, 7]]) {
    const folder = await copyOf(t, 'phi3-long', { original_max_position_embeddings: original, rope_parameters: { ...rope, original_max_position_embeddings: original } })
    assert.equal((await openModel(folder)).model.positionsMax, positions, `an original context of ${original}`)
  }
})

test('cosines and sines are those of transformers, far out too', async (t) => {
  const references: Record<string, { positions: number[]; cos: number[][]; sin: number[][] }> =
    JSON.parse(await readFile(fixture('rope.json'), 'utf8'))
  for (const [name, { positions, cos, sin }] of Object.entries(references)) {
    const path = join(fixture(name), 'config.json')
    const values = JSON.parse(await readFile(path, 'utf8'))
    const headDim = values.head_dim ?? values.hidden_size / values.num_attention_heads
    const rope = readRope({ path, values }, { headDim, positionsMax: values.max_position_embeddings })
    let worst = 0
    for (const [row, position] of positions.entries()) {
      const { half, cos: c, sin: s } = rotaryTables(rope, position + 1)
      assert.equal(half, cos[row].length)
      for (let i = 0; i < half; i++)
        worst = Math.max(worst, Math.abs(c[position * half + i] - cos[row][i]), Math.abs(s[position * half + i] - sin[row][i]))
    }
    t.diagnostic(`${name}: ${worst.toExponential(1)}`)
    assert.ok(worst < 2e-6, `${name} is off by ${worst}`)
  }
})
