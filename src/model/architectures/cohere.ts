/**
 * @file Cohere's Command R family, that of Ruis et al. 2024: attention and MLP side by side under one LayerNorm without
 * bias, rotary positions in pairs of neighbours, a head tied to the embedding with a factor on the logits. `cohere` may
 * norm queries and keys in each head; `cohere2` has layers with a sliding window, and no positions at all in the others.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral } from '../config.js'
import {
  add, blocksOf, decoder, decoderSettings, gated, headLayerNorm, headSettings, headsOf, layerNorm, nullableWindow, residual, rotationOf, selfAttention,
  windowsOf,
} from '../parts/index.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'

const MODEL_TYPES = ['cohere', 'cohere2'] as const

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  model_type: z.enum(MODEL_TYPES),
  hidden_act: z.string().default('silu'),
  layer_norm_eps: positive().default(1e-5),
  logit_scale: positive().default(0.0625),
  attention_bias: z.boolean().default(false),
  use_qk_norm: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().default(true),
  sliding_window: nullableWindow(4096),
  sliding_window_pattern: z.int().positive().default(4),
  layer_types: z.array(z.string()).nullish(),
})

const POSITIONS_DEFAULT = 8192
const THETA_DEFAULT = { cohere: 500_000, cohere2: 10_000 } as const

export const cohere: Architecture = {
  modelTypes: MODEL_TYPES,
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    const c = parseConfig(config, schema)
    const isSecond = c.model_type === 'cohere2'
    if (isSecond) refuseUnlessNeutral(config, { use_qk_norm: [false], head_dim: [c.hidden_size / c.num_attention_heads] })
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const heads = headsOf(config, c)
    const windows = isSecond
      ? windowsOf(config, {
        layers: c.num_hidden_layers, types: c.layer_types, window: c.sliding_window ?? undefined,
        isSliding: (block) => (block + 1) % c.sliding_window_pattern !== 0, off: 'sliding_window is null',
      })
      : undefined
    const { positionsMax, turn } = rotationOf(config, {
      headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? POSITIONS_DEFAULT, theta: { default: THETA_DEFAULT[c.model_type] },
    }, { ...options, interleaved: true })
    const width = c.hidden_size
    const epsilon = c.layer_norm_eps
    const norm = (name: string) => layerNorm({ name, width, epsilon, bias: false })
    const bias = { qkv: c.attention_bias, o: c.attention_bias }
    return decoder({
      architecture: c.model_type,
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block, i) => {
        const inHead = (module: string, count: number) =>
          headLayerNorm({ name: `${block.name}.self_attn.${module}`, heads: count, width: heads.headDim, epsilon })
        const norms = c.use_qk_norm === true
          ? ({ over: 'head', q: inHead('q_norm', heads.heads), k: inHead('k_norm', heads.headsKv) } as const)
          : undefined
        const window = windows?.[i]
        const turned = windows === undefined || window !== undefined ? turn : undefined
        return residual(norm(`${block.name}.input_layernorm`), add(
          selfAttention({ block, width, bias, norms, rotation: turned, window, ...heads }),
          gated({ block, width, inner: c.intermediate_size, activation, bias: false }),
        ))
      }),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
      logitScale: c.logit_scale,
    })
  },
}
