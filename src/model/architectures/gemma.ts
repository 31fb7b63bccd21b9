/**
 * @file Gemma 2 (Gemma Team 2024, arXiv 2408.00118) and the text models of Gemma 3 (arXiv 2503.19786): norms before and
 * after attention and MLP, with 1 + weight; an embedding times √D; a GeGLU of the tanh approximation; scores scaled by
 * `query_pre_attn_scalar`; layers with a sliding window and without in turn. Gemma 2 caps scores and logits softly; Gemma 3
 * norms queries and keys in each head, and its sliding layers have a rotary embedding of their own.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral, unsupported, type RawConfig } from '../config.js'
import {
  blocksOf, chain, decoder, decoderSettings, gated, headSettings, headsOf, nullableWindow, residual, rmsNorm, rotation, selfAttention, windowsOf,
} from '../parts/index.js'
import { readRope, ropeOf, ropeSettings, type Rope } from '../rope.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'

const MODEL_TYPES = ['gemma2', 'gemma3_text'] as const

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  model_type: z.enum(MODEL_TYPES),
  hidden_activation: z.string().default('gelu_pytorch_tanh'), // hidden_act, which some have besides, is Gemma 1's
  rms_norm_eps: positive().default(1e-6),
  attention_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(true),
  query_pre_attn_scalar: positive().default(256),
  sliding_window: nullableWindow(4096),
  sliding_window_pattern: z.int().positive().optional(),
  layer_types: z.array(z.string()).nullish(),
  attn_logit_softcapping: positive().nullable().optional(),
  final_logit_softcapping: positive().nullable().optional(),
})

/** What `transformers` takes where config.json is silent. `pattern`: every so many-th layer sees everything. */
const DEFAULTS = {
  gemma2: { positions: 8192, pattern: 2, scoresCap: 50, logitsCap: 30 },
  gemma3_text: { positions: 131_072, pattern: 6, scoresCap: null, logitsCap: null },
} as const

export const gemma: Architecture = {
  modelTypes: MODEL_TYPES,
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    refuseUnlessNeutral(config, { use_bidirectional_attention: [false] })
    const c = parseConfig(config, schema)
    const isThird = c.model_type === 'gemma3_text'
    // Gemma 3's attention in transformers reads no soft cap, so a checkpoint that names one is of some other model.
    if (isThird) refuseUnlessNeutral(config, { attn_logit_softcapping: [] })
    else refuseUnlessNeutral(config, { sliding_window_pattern: [2] })
    const silent = DEFAULTS[c.model_type]
    const activation = activationOf(config, 'hidden_activation', c.hidden_activation)
    const heads = headsOf(config, c, { headsKv: 4, headDim: 256 })
    const pattern = c.sliding_window_pattern ?? silent.pattern
    const windows = windowsOf(config, {
      layers: c.num_hidden_layers, types: c.layer_types, window: c.sliding_window ?? undefined, isSliding: (block) => (block + 1) % pattern !== 0,
      off: 'sliding_window is null',
    })
    const ropes = (isThird ? ropesByType : ropeOfAll)(config, { headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? silent.positions })
    const positionsMax = Math.min(ropes.full.positionsMax, ropes.sliding.positionsMax, options.positionsMax)
    const full = rotation(ropes.full, { headDim: heads.headDim, positions: positionsMax })
    const sliding = isThird ? rotation(ropes.sliding, { headDim: heads.headDim, positions: positionsMax }) : full
    const width = c.hidden_size
    const norm = (name: string, over = width) => rmsNorm({ name, width: over, epsilon: c.rms_norm_eps, oneAdded: true })
    const bias = { qkv: c.attention_bias, o: c.attention_bias }
    const capOf = (said: number | null | undefined, default_: number | null): number | undefined => (said === undefined ? default_ : said) ?? undefined
    return decoder({
      architecture: c.model_type,
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      embeddingScale: Math.fround(Math.sqrt(width)),
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block, i) => {
        const inHead = (module: string) => norm(`${block.name}.self_attn.${module}`, heads.headDim)
        const norms = isThird ? ({ over: 'head', q: inHead('q_norm'), k: inHead('k_norm') } as const) : undefined
        const attend = selfAttention({
          block, width, bias, norms, window: windows[i], ...heads, rotation: windows[i] === undefined ? full : sliding,
          scale: 1 / Math.sqrt(c.query_pre_attn_scalar), softCap: capOf(c.attn_logit_softcapping, silent.scoresCap),
        })
        return chain(
          residual(norm(`${block.name}.input_layernorm`), attend, norm(`${block.name}.post_attention_layernorm`)),
          residual(
            norm(`${block.name}.pre_feedforward_layernorm`), gated({ block, width, inner: c.intermediate_size, activation, bias: false }),
            norm(`${block.name}.post_feedforward_layernorm`),
          ),
        )
      }),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
      softCap: capOf(c.final_logit_softcapping, silent.logitsCap),
    })
  },
}

interface Ropes {
  readonly full: Rope
  readonly sliding: Rope
}
interface RopeSizes {
  readonly headDim: number
  readonly positionsMax: number
}

const ropeOfAll = (config: RawConfig, sizes: RopeSizes): Ropes => {
  const rope = readRope(config, sizes)
  return { full: rope, sliding: rope }
}

/**
 * Gemma 3's: `rope_parameters` has an entry for each kind of layer; of old, `rope_theta` and `rope_scaling` are those of
 * the layers that see everything and `rope_local_base_freq` is that of the sliding ones.
 */
const ropesByType = (config: RawConfig, sizes: RopeSizes): Ropes => {
  const nested = z.looseObject({ full_attention: ropeSettings().nullish(), sliding_attention: ropeSettings().nullish() })
  const said = parseConfig(config, z.looseObject({
    rope_theta: positive().nullish(),
    rope_local_base_freq: positive().nullish(),
    rope_scaling: ropeSettings().nullish(),
    rope_parameters: nested.nullish(),
  }))
  const stray = Object.keys(said.rope_parameters ?? {}).find((key) => key !== 'full_attention' && key !== 'sliding_attention')
  if (stray !== undefined) throw unsupported(config, `rope_parameters.${stray}`, said.rope_parameters?.[stray], 'an entry for full_attention and one for sliding_attention')
  return {
    full: ropeOf(config, {
      ...sizes, key: said.rope_scaling == null ? 'rope_parameters.full_attention' : 'rope_scaling', theta: said.rope_theta ?? 1_000_000,
      said: { ...said.rope_parameters?.full_attention, ...said.rope_scaling },
    }),
    sliding: ropeOf(config, {
      ...sizes, key: 'rope_parameters.sliding_attention', theta: said.rope_local_base_freq ?? 10_000, said: said.rope_parameters?.sliding_attention ?? {},
    }),
  }
}
