/**
 * @file Mixtral (Jiang et al. 2024, arXiv 2401.04088): Mistral with a mixture of experts in place of the MLP. Modules are
 * named as checkpoints on disk have them: `block_sparse_moe.experts.3.w1` (gate), `w3` (up), `w2` (down), and the router
 * `block_sparse_moe.gate`. In memory `transformers` 5 has the experts of a layer in two tensors; what it saves is this.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, size, unsupported } from '../config.js'
import {
  blocksOf, chain, decoder, decoderSettings, headSettings, headsOf, mixture, nullableWindow, residual, rmsNorm, rotationOf, selfAttention,
} from '../parts/index.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  hidden_act: z.string().default('silu'),
  rms_norm_eps: positive().default(1e-5),
  sliding_window: nullableWindow(null),
  tie_word_embeddings: z.boolean().default(false),
  num_local_experts: size().optional(),
  num_experts: size().optional(), // another name of it
  num_experts_per_tok: size().default(2),
})

const EXPERTS_DEFAULT = 8
const POSITIONS_DEFAULT = 4096 * 32

export const mixtral: Architecture = {
  modelTypes: ['mixtral'],
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const heads = headsOf(config, c, { headsKv: 8 })
    const experts = c.num_local_experts ?? c.num_experts ?? EXPERTS_DEFAULT
    if (c.num_experts_per_tok > experts) throw unsupported(config, 'num_experts_per_tok', c.num_experts_per_tok, `at most num_local_experts = ${experts}`)
    const { positionsMax, turn } = rotationOf(config, {
      headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? POSITIONS_DEFAULT, theta: { default: 1_000_000 },
    }, options)
    const width = c.hidden_size
    const norm = (name: string) => rmsNorm({ name, width, epsilon: c.rms_norm_eps })
    const bias = { qkv: false, o: false }
    const window = c.sliding_window ?? undefined
    return decoder({
      architecture: 'mixtral',
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block) => chain(
        residual(norm(`${block.name}.input_layernorm`), selfAttention({ block, width, bias, rotation: turn, window, ...heads })),
        residual(norm(`${block.name}.post_attention_layernorm`), mixture({
          block, width, inner: c.intermediate_size, activation, experts, perToken: c.num_experts_per_tok, normalized: true,
          module: 'block_sparse_moe', names: { gate: 'w1', up: 'w3', down: 'w2' },
        })),
      )),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
    })
  },
}
