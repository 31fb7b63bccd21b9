/**
 * @file The Llama family (Touvron et al. 2023, arXiv 2302.13971): RMSNorm, rotary positions, SwiGLU, grouped queries.
 * What its members differ in, as `transformers` 5.23 has it:
 *
 * |           | bias of q, k, v  | bias of o        | bias of the MLP | sliding window                                 |
 * |-----------|------------------|------------------|-----------------|------------------------------------------------|
 * | `llama`   | `attention_bias` | `attention_bias` | `mlp_bias`      | never                                          |
 * | `mistral` | none             | none             | none            | `sliding_window` (4096 if absent; null: none)  |
 * | `qwen2`   | always           | none             | none            | where `use_sliding_window` and the layer's type say |
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral, unsupported, type RawConfig } from '../config.js'
import {
  blocksOf, chain, decoder, decoderSettings, gated, headSettings, headsOf, nullableWindow, residual, rmsNorm, rotationOf, selfAttention, windowsOf,
} from '../parts/index.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'

const MODEL_TYPES = ['llama', 'mistral', 'qwen2'] as const
type ModelType = (typeof MODEL_TYPES)[number]

/** What `transformers` takes where config.json is silent. */
const DEFAULTS = {
  llama: { headsKv: undefined, positions: 2048 },
  mistral: { headsKv: 8, positions: 4096 * 32 },
  qwen2: { headsKv: 32, positions: 32768 },
} as const satisfies Record<ModelType, { headsKv: number | undefined; positions: number }>

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  model_type: z.enum(MODEL_TYPES),
  hidden_act: z.string().default('silu'),
  rms_norm_eps: positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  sliding_window: nullableWindow(4096),
  use_sliding_window: z.boolean().default(false),
  max_window_layers: z.int().nonnegative().default(28),
  layer_types: z.array(z.string()).nullish(),
})
type Config = z.output<typeof schema>

export const llama: Architecture = {
  modelTypes: MODEL_TYPES,
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    refuseUnlessNeutral(config, { pretraining_tp: [1] })
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const silent = DEFAULTS[c.model_type]
    const heads = headsOf(config, c, { headsKv: silent.headsKv })
    const windows = windowsIn(config, c)
    const { positionsMax, turn } = rotationOf(config, { headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? silent.positions }, options)
    const width = c.hidden_size
    const norm = (name: string) => rmsNorm({ name, width, epsilon: c.rms_norm_eps })
    const bias = biasesOf(c)
    return decoder({
      architecture: c.model_type,
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block, i) => chain(
        residual(norm(`${block.name}.input_layernorm`), selfAttention({ block, width, bias, rotation: turn, window: windows[i], ...heads })),
        residual(norm(`${block.name}.post_attention_layernorm`), gated({ block, width, inner: c.intermediate_size, activation, bias: bias.mlp })),
      )),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
    })
  },
}

const biasesOf = ({ model_type: type, attention_bias, mlp_bias }: Config): { qkv: boolean; o: boolean; mlp: boolean } => {
  switch (type) {
    case 'llama':
      return { qkv: attention_bias ?? false, o: attention_bias ?? false, mlp: mlp_bias ?? false }
    case 'mistral':
      return { qkv: false, o: false, mlp: false }
    case 'qwen2':
      return { qkv: true, o: false, mlp: false }
    default:
      return type satisfies never
  }
}

const windowsIn = (config: RawConfig, c: Config): readonly (number | undefined)[] => {
  const layers = c.num_hidden_layers
  const window = c.sliding_window ?? undefined
  switch (c.model_type) {
    case 'llama':
      return Array.from({ length: layers }, () => undefined)
    case 'mistral':
      if (window !== undefined && c.layer_types?.some((type) => type !== 'sliding_attention'))
        throw unsupported(config, 'layer_types', c.layer_types, 'sliding_attention throughout, or another model_type')
      return Array.from({ length: layers }, () => window)
    case 'qwen2':
      return qwenWindows(config, c)
    default:
      return c.model_type satisfies never
  }
}

/** Qwen's: the window is off unless `use_sliding_window`; without layer_types it is on from `max_window_layers` up. */
export const qwenWindows = (
  config: RawConfig, c: Pick<Config, 'num_hidden_layers' | 'sliding_window' | 'use_sliding_window' | 'max_window_layers' | 'layer_types'>,
): readonly (number | undefined)[] => {
  const window = c.use_sliding_window ? (c.sliding_window ?? undefined) : undefined
  return windowsOf(config, {
    layers: c.num_hidden_layers, types: c.layer_types, window, isSliding: (block) => window !== undefined && block >= c.max_window_layers,
    off: 'use_sliding_window or sliding_window is off',
  })
}
