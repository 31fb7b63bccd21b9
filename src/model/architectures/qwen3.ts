/**
 * @file Qwen 3 (Yang et al. 2025, arXiv 2505.09388): Llama's parts with queries and keys normed in each head, and heads
 * of a width of their own (128 where config.json is silent). `qwen3_moe` has experts in place of the MLP in the layers
 * that `decoder_sparse_step` and `mlp_only_layers` leave to them.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, size, unsupported, type RawConfig } from '../config.js'
import {
  blocksOf, chain, decoder, decoderSettings, gated, headSettings, headsOf, mixture, nullableWindow, residual, rmsNorm, rotationOf, selfAttention,
  type BlockName, type Part,
} from '../parts/index.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'
import { qwenWindows } from './llama.js'

const MODEL_TYPES = ['qwen3', 'qwen3_moe'] as const

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  model_type: z.enum(MODEL_TYPES),
  hidden_act: z.string().default('silu'),
  rms_norm_eps: positive().default(1e-6),
  attention_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(false),
  sliding_window: nullableWindow(4096),
  use_sliding_window: z.boolean().default(false),
  max_window_layers: z.int().nonnegative().default(28),
  layer_types: z.array(z.string()).nullish(),
})

const expertsSchema = z.looseObject({
  num_experts: size().optional(),
  num_local_experts: size().optional(), // another name of it
  num_experts_per_tok: size().default(8),
  moe_intermediate_size: size().default(768),
  norm_topk_prob: z.boolean().default(false),
  decoder_sparse_step: size().default(1),
  mlp_only_layers: z.array(z.int().nonnegative()).nullish(),
})
const EXPERTS_DEFAULT = 128

const DEFAULTS = {
  qwen3: { headsKv: 32, headDim: 128, positions: 32768 },
  qwen3_moe: { headsKv: 4, headDim: undefined, positions: 32768 },
} as const

export const qwen3: Architecture = {
  modelTypes: MODEL_TYPES,
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const silent = DEFAULTS[c.model_type]
    const heads = headsOf(config, c, silent)
    const { positionsMax, turn } = rotationOf(config, { headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? silent.positions }, options)
    const windows = c.model_type === 'qwen3' ? qwenWindows(config, c) : windowEverywhere(c)
    const width = c.hidden_size
    const norm = (name: string, over = width) => rmsNorm({ name, width: over, epsilon: c.rms_norm_eps })
    const bias = { qkv: c.attention_bias, o: c.attention_bias }
    const mlp = (block: BlockName): Part => gated({ block, width, inner: c.intermediate_size, activation, bias: false })
    const experts = c.model_type === 'qwen3_moe' ? expertsOf(config, { width, activation }) : () => undefined
    return decoder({
      architecture: c.model_type,
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block, i) => {
        const inHead = (module: string) => norm(`${block.name}.self_attn.${module}`, heads.headDim)
        const norms = { over: 'head', q: inHead('q_norm'), k: inHead('k_norm') } as const
        return chain(
          residual(norm(`${block.name}.input_layernorm`), selfAttention({ block, width, bias, norms, rotation: turn, window: windows[i], ...heads })),
          residual(norm(`${block.name}.post_attention_layernorm`), experts(block) ?? mlp(block)),
        )
      }),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
    })
  },
}

/** Qwen3-MoE knows no layer types: its window is everywhere or nowhere. */
const windowEverywhere = (c: z.output<typeof schema>): readonly (number | undefined)[] =>
  Array.from({ length: c.num_hidden_layers }, () => (c.use_sliding_window ? (c.sliding_window ?? undefined) : undefined))

/** The mixture of a block, or undefined where it has an MLP. */
const expertsOf = (
  config: RawConfig, { width, activation }: { readonly width: number; readonly activation: Parameters<typeof mixture>[0]['activation'] },
): ((block: BlockName) => Part | undefined) => {
  const c = parseConfig(config, expertsSchema)
  const experts = c.num_experts ?? c.num_local_experts ?? EXPERTS_DEFAULT
  if (c.num_experts_per_tok > experts) throw unsupported(config, 'num_experts_per_tok', c.num_experts_per_tok, `at most num_experts = ${experts}`)
  return (block) => {
    if (c.mlp_only_layers?.includes(block.block) === true || (block.block + 1) % c.decoder_sparse_step !== 0) return undefined
    return mixture({
      block, width, inner: c.moe_intermediate_size, activation, experts, perToken: c.num_experts_per_tok, normalized: c.norm_topk_prob,
      module: 'mlp', names: { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' },
    })
  }
}
