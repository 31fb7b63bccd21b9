/**
 * @file GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, biases everywhere, weights stored transposed
 * (Conv1D), q, k and v in one layer, the head tied to the embedding.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral, size, unsupported } from '../config.js'
import type { LinearLayer, Model, Weights } from '../model.js'
import type { Ops } from '../../tensor/index.js'
import type { Architecture } from './architecture.js'

const schema = z.looseObject({
  vocab_size: size(),
  n_positions: size().default(1024),
  n_embd: size(),
  n_layer: size(),
  n_head: size(),
  n_inner: size().nullish(),
  activation_function: z.string().default('gelu_new'),
  layer_norm_epsilon: positive().default(1e-5),
  scale_attn_weights: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(true),
})

/** The names of Hugging Face's common settings, which config.json may use in place of GPT-2's own. */
const COMMON_NAMES: Readonly<Record<string, string>> = {
  hidden_size: 'n_embd',
  max_position_embeddings: 'n_positions',
  num_attention_heads: 'n_head',
  num_hidden_layers: 'n_layer',
}

export const gpt2: Architecture = {
  modelTypes: ['gpt2'],
  prefix: 'transformer.',
  buffers: /^h\.\d+\.attn\.(bias|masked_bias)$/, // the causal mask, stored by older versions
  read: (raw, { positionsMax }) => {
    const renamed = Object.entries(raw.values).map(([key, value]) => [COMMON_NAMES[key] ?? key, value] as const)
    const config = { path: raw.path, values: { ...Object.fromEntries(renamed), ...raw.values } }
    refuseEverywhere(config)
    refuseUnlessNeutral(config, { scale_attn_by_inverse_layer_idx: [false], reorder_and_upcast_attn: [false] })
    const c = parseConfig(config, schema)
    if (c.n_embd % c.n_head !== 0) throw unsupported(config, 'n_head', c.n_head, `divisors of n_embd = ${c.n_embd}`)
    const activation = activationOf(config, 'activation_function', c.activation_function)

    const heads = c.n_head
    const width = c.n_embd
    const inner = c.n_inner ?? 4 * width
    const headDim = width / heads
    const scale = c.scale_attn_weights ? 1 / Math.sqrt(headDim) : 1
    const norm = { epsilon: c.layer_norm_epsilon }

    const layer = (block: number, part: 'attention' | 'mlp', module: string, inputs: number, outputs: number): LinearLayer => {
      const name = `transformer.h.${block}.${module}`
      return { name, block, part, inputs, outputs, bias: true, inputGroup: name }
    }
    const blocks = Array.from({ length: c.n_layer }, (_, block) => ({
      name: `transformer.h.${block}`,
      attention: layer(block, 'attention', 'attn.c_attn', width, 3 * width),
      projection: layer(block, 'attention', 'attn.c_proj', width, width),
      expand: layer(block, 'mlp', 'mlp.c_fc', width, inner),
      contract: layer(block, 'mlp', 'mlp.c_proj', inner, width),
    }))
    const layers = blocks.flatMap((b) => [b.attention, b.projection, b.expand, b.contract])
    const embedding = 'transformer.wte.weight'

    const forward: Model['forward'] = (ops, weights, { tokens }, onLinear) => {
      const linear = linearOf(ops, weights)
      const normed = <T>(o: Ops<T>, w: Weights<T>, x: T, name: string): T =>
        o.layerNorm(x, w(`${name}.weight`), w(`${name}.bias`), norm)
      const positions = ops.gather(weights('transformer.wpe.weight'), ops.positions(tokens)) // [T, D]
      let x = ops.add(ops.gather(weights(embedding), tokens), positions) // [B, T, D]
      for (const { name, attention, projection, expand, contract } of blocks) {
        const qkv = onLinear(attention, normed(ops, weights, x, `${name}.ln_1`), linear(attention)) // [B, T, 3D]
        const [q, k, v] = [0, 1, 2].map((i) =>
          ops.reshape(ops.slice(qkv, { axis: -1, from: i * width, to: (i + 1) * width }), [0, 0, heads, headDim]),
        )
        const mixed = ops.attention(q, k, v, { heads, headsKv: heads, headDim, scale })
        x = ops.add(x, onLinear(projection, ops.reshape(mixed, [0, 0, width]), linear(projection)))
        const hidden = ops[activation](onLinear(expand, normed(ops, weights, x, `${name}.ln_2`), linear(expand)))
        x = ops.add(x, onLinear(contract, hidden, linear(contract)))
      }
      return normed(ops, weights, x, 'transformer.ln_f')
    }

    return {
      embedding,
      tied: c.tie_word_embeddings,
      build: (head) => ({
        architecture: 'gpt2',
        width,
        blocks: c.n_layer,
        vocabulary: c.vocab_size,
        positionsMax: Math.min(c.n_positions, positionsMax),
        layers,
        heads,
        headDim,
        forward,
        head: { weight: head },
        weightShapes: new Map<string, readonly number[]>([
          [embedding, [c.vocab_size, width]],
          ['transformer.wpe.weight', [c.n_positions, width]],
          ...blocks.flatMap(({ name }) => [...normShapes(`${name}.ln_1`, width), ...normShapes(`${name}.ln_2`, width)]),
          ...layers.flatMap(({ name, inputs, outputs }): [string, number[]][] => [
            [`${name}.weight`, [inputs, outputs]], // Conv1D
            [`${name}.bias`, [outputs]],
          ]),
          ...normShapes('transformer.ln_f', width),
          [head, [c.vocab_size, width]],
        ]),
      }),
    }
  },
}

const linearOf = <T>(ops: Ops<T>, weights: Weights<T>) => ({ name }: LinearLayer) => (x: T): T =>
  ops.linear(x, weights(`${name}.weight`), weights(`${name}.bias`), { transposed: true })

const normShapes = (name: string, width: number): [string, number[]][] => [
  [`${name}.weight`, [width]],
  [`${name}.bias`, [width]],
]
