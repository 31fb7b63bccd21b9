/**
 * @file A checkpoint small enough for whole processes: a Llama of two layers with a byte-level BPE tokenizer, made from a
 * seed where it is needed (some milliseconds, 100 kB), so that nothing binary lies in the repository.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { normals, seedOf } from '../../src/base/index.js'
import { writeSafetensors } from '../../src/model/index.js'

export interface TinyOptions {
  readonly seed?: number
  readonly hidden?: number
  readonly intermediate?: number
  /** Documents with this character get no finite loss: its embedding is infinite, as of weights that overflowed. */
  readonly overflowing?: string
}

/** Writes the checkpoint into a folder, which is made, and returns the folder. */
export const tinyCheckpoint = async (
  folder: string, { seed = 1, hidden = 32, intermediate = 48, overflowing }: TinyOptions = {},
): Promise<string> => {
  const heads = 2
  const headDim = hidden / heads
  mkdirSync(folder, { recursive: true })
  const config = {
    architectures: ['LlamaForCausalLM'], model_type: 'llama', vocab_size: vocabulary, hidden_size: hidden, intermediate_size: intermediate,
    num_hidden_layers: 2, num_attention_heads: heads, num_key_value_heads: 1, head_dim: headDim, max_position_embeddings: 128, hidden_act: 'silu',
    rms_norm_eps: 1e-6, rope_theta: 10_000, tie_word_embeddings: false, bos_token_id: 0, eos_token_id: 0,
  }
  writeFileSync(join(folder, 'config.json'), `${JSON.stringify(config, null, 1)}\n`)
  writeFileSync(join(folder, 'tokenizer.json'), `${JSON.stringify(tokenizer, null, 1)}\n`)
  const shapes: Record<string, readonly number[]> = { 'model.embed_tokens.weight': [vocabulary, hidden] }
  for (const layer of [0, 1]) {
    const own = `model.layers.${layer}`
    shapes[`${own}.input_layernorm.weight`] = [hidden]
    shapes[`${own}.self_attn.q_proj.weight`] = [hidden, hidden]
    shapes[`${own}.self_attn.k_proj.weight`] = [headDim, hidden]
    shapes[`${own}.self_attn.v_proj.weight`] = [headDim, hidden]
    shapes[`${own}.self_attn.o_proj.weight`] = [hidden, hidden]
    shapes[`${own}.post_attention_layernorm.weight`] = [hidden]
    shapes[`${own}.mlp.gate_proj.weight`] = [intermediate, hidden]
    shapes[`${own}.mlp.up_proj.weight`] = [intermediate, hidden]
    shapes[`${own}.mlp.down_proj.weight`] = [hidden, intermediate]
  }
  shapes['model.norm.weight'] = [hidden]
  shapes['lm_head.weight'] = [vocabulary, hidden]
  const weightOf = (name: string, shape: readonly number[]): Float32Array => {
    const normal = normals(seedOf(`${seed} ${name}`))
    const scale = shape.length === 1 ? 0.1 : 1 / Math.sqrt(shape[1])
    const weights = Float32Array.from({ length: shape.reduce((product, n) => product * n, 1) }, () => scale * normal() + (shape.length === 1 ? 1 : 0))
    if (overflowing !== undefined && name === 'model.embed_tokens.weight') {
      const id = idOf(overflowing)
      weights.fill(Infinity, id * hidden, (id + 1) * hidden)
    }
    return weights
  }
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    Object.entries(shapes).map(([name, shape]) => ({ name, dtype: 'F32' as const, shape, data: () => weightOf(name, shape) })),
  )
  return folder
}

/** How the byte-level alphabet of GPT-2 writes a byte: itself where it is printable, else a letter from U+0100 on. */
const letters: readonly string[] = (() => {
  const printable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
})()

const merges = ['Ġ t', 'h e', 'Ġt he', 'i n', 'e r', 'a n', 'Ġ a', 'o n', 'e s', 'Ġ s', 'r e', 'Ġ w', 'o u', 'Ġ c', 'a t', 'i s', 'Ġ is', 'o f', 'Ġ of', 'in g', 'an d', 'Ġa nd']
const words = ['<|end|>', ...letters, ...merges.map((merge) => merge.replace(' ', ''))]
export const vocabulary = 288
const idOf = (character: string): number => words.indexOf(letters[character.charCodeAt(0)])

const tokenizer = {
  version: '1.0', truncation: null, padding: null,
  added_tokens: [{ id: 0, content: '<|end|>', single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
  model: {
    type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false,
    ignore_merges: false, vocab: Object.fromEntries(words.map((word, id) => [word, id])), merges,
  },
}
