/**
 * @file GPT-NeoX (Black et al. 2022, arXiv 2204.06745), which Pythia is of: attention and MLP side by side, biases
 * everywhere, rotary positions on a part of each head, q, k and v in one layer head by head.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral } from '../config.js'
import {
  add, attention, blocksOf, chain, decoder, decoderSettings, fused, headsOf, layerNorm, layerOf, linear, residual, rotationOf, twoLayer,
} from '../parts/index.js'
import type { Architecture } from './architecture.js'

const schema = z.looseObject({
  ...decoderSettings,
  hidden_act: z.string().default('gelu'),
  layer_norm_eps: positive().default(1e-5),
  use_parallel_residual: z.boolean().default(true),
  attention_bias: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
})

const POSITIONS_DEFAULT = 2048
const ROTARY_PART_DEFAULT = 0.25

export const gptNeox: Architecture = {
  modelTypes: ['gpt_neox'],
  prefix: 'gpt_neox.',
  head: 'embed_out.weight',
  buffers: /^layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.(inv_freq|cos_cached|sin_cached))$/,
  read: (config, options) => {
    refuseEverywhere(config)
    refuseUnlessNeutral(config, { head_dim: [], num_key_value_heads: [config.values.num_attention_heads] })
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const heads = headsOf(config, c)
    const { positionsMax, turn } = rotationOf(config, {
      headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? POSITIONS_DEFAULT,
      theta: { key: 'rotary_emb_base' }, partial: { key: 'rotary_pct', default: ROTARY_PART_DEFAULT },
    }, options)
    const width = c.hidden_size
    const bias = c.attention_bias
    const norm = (name: string) => layerNorm({ name, width, epsilon: c.layer_norm_eps, bias: true })
    return decoder({
      architecture: 'gpt_neox',
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'gpt_neox.embed_in.weight',
      blocks: blocksOf(c.num_hidden_layers, 'gpt_neox.layers').map((block) => {
        const attend = chain(norm(`${block.name}.input_layernorm`), attention({
          projection: fused({ block, module: 'attention.query_key_value', width, bias, order: 'byHead', ...heads }),
          options: { ...heads, scale: 1 / Math.sqrt(heads.headDim) },
          rotation: turn,
          output: linear(layerOf(block, { part: 'attention', module: 'attention.dense', inputs: width, outputs: width, bias })),
        }))
        const think = chain(norm(`${block.name}.post_attention_layernorm`), twoLayer({
          block, width, inner: c.intermediate_size, activation, bias: true, expand: 'mlp.dense_h_to_4h', contract: 'mlp.dense_4h_to_h',
        }))
        return c.use_parallel_residual ? residual(add(attend, think)) : chain(residual(attend), residual(think))
      }),
      norm: norm('gpt_neox.final_layer_norm'),
      tied: c.tie_word_embeddings,
    })
  },
}
