/**
 * @file OLMo 2 (OLMo et al. 2024, arXiv 2501.00656): Llama's parts, but each norm stands after its attention or MLP, and
 * queries and keys are normed over all heads at once.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere } from '../config.js'
import {
  blocksOf, chain, decoder, decoderSettings, gated, headSettings, headsOf, residual, rmsNorm, rotationOf, selfAttention,
} from '../parts/index.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  hidden_act: z.string().default('silu'),
  rms_norm_eps: positive().default(1e-5),
  attention_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(false),
})

const POSITIONS_DEFAULT = 2048

export const olmo2: Architecture = {
  modelTypes: ['olmo2'],
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const heads = headsOf(config, c)
    const { positionsMax, turn } = rotationOf(config, { headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? POSITIONS_DEFAULT }, options)
    const width = c.hidden_size
    const norm = (name: string, over = width) => rmsNorm({ name, width: over, epsilon: c.rms_norm_eps })
    const bias = { qkv: c.attention_bias, o: c.attention_bias }
    return decoder({
      architecture: 'olmo2',
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block) => {
        const norms = {
          over: 'all',
          q: norm(`${block.name}.self_attn.q_norm`, heads.heads * heads.headDim),
          k: norm(`${block.name}.self_attn.k_norm`, heads.headsKv * heads.headDim),
        } as const
        return chain(
          residual(selfAttention({ block, width, bias, norms, rotation: turn, window: undefined, ...heads }), norm(`${block.name}.post_attention_layernorm`)),
          residual(gated({ block, width, inner: c.intermediate_size, activation, bias: false }), norm(`${block.name}.post_feedforward_layernorm`)),
        )
      }),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
    })
  },
}
