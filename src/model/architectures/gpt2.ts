/**
 * @file GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, biases everywhere, weights stored transposed
 * (Conv1D), q, k and v in one layer, the head tied to the embedding.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral, size, unsupported } from '../config.js'
import { attention, blocksOf, chain, decoder, fused, layerNorm, layerOf, linear, residual, twoLayer } from '../parts/index.js'
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

/** How its linear layers are stored. */
const CONV1D = { transposed: true } as const

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

    const width = c.n_embd
    const heads = { heads: c.n_head, headsKv: c.n_head, headDim: width / c.n_head }
    const scale = c.scale_attn_weights ? 1 / Math.sqrt(heads.headDim) : 1
    const norm = (name: string) => layerNorm({ name, width, epsilon: c.layer_norm_epsilon, bias: true })
    return decoder({
      architecture: 'gpt2',
      width,
      vocabulary: c.vocab_size,
      positionsMax: Math.min(c.n_positions, positionsMax),
      heads,
      embedding: 'transformer.wte.weight',
      positions: ['transformer.wpe.weight', [c.n_positions, width]],
      blocks: blocksOf(c.n_layer, 'transformer.h').map((block) => chain(
        residual(norm(`${block.name}.ln_1`), attention({
          projection: fused({ block, module: 'attn.c_attn', width, bias: true, order: 'whole', ...heads, ...CONV1D }),
          options: { ...heads, scale },
          output: linear(layerOf(block, { part: 'attention', module: 'attn.c_proj', inputs: width, outputs: width, bias: true }), CONV1D),
        })),
        residual(norm(`${block.name}.ln_2`), twoLayer({
          block, width, inner: c.n_inner ?? 4 * width, activation, bias: true, expand: 'mlp.c_fc', contract: 'mlp.c_proj', ...CONV1D,
        })),
      )),
      norm: norm('transformer.ln_f'),
      tied: c.tie_word_embeddings,
    })
  },
}
