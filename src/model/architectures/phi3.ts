/**
 * @file Phi-3 (Abdin et al. 2024, arXiv 2404.14219): Llama's parts with q, k and v in one layer and gate and up in one;
 * rotary positions on a part of each head in its later members (Phi-4-mini), scaled by LongRoPE in the long ones.
 */
import { z } from 'zod'
import { activationOf, parseConfig, positive, refuseEverywhere, size } from '../config.js'
import {
  attention, blocksOf, chain, decoder, decoderSettings, fused, fusedGated, headSettings, headsOf, layerOf, linear, nullableWindow, residual, rmsNorm,
  rotationOf,
} from '../parts/index.js'
import { ROTARY_BUFFERS, type Architecture } from './architecture.js'

const schema = z.looseObject({
  ...decoderSettings,
  ...headSettings,
  hidden_act: z.string().default('silu'),
  rms_norm_eps: positive().default(1e-5),
  original_max_position_embeddings: size().optional(),
  sliding_window: nullableWindow(null),
  tie_word_embeddings: z.boolean().default(false),
})

const POSITIONS_DEFAULT = 4096

export const phi3: Architecture = {
  modelTypes: ['phi3'],
  prefix: 'model.',
  buffers: ROTARY_BUFFERS,
  read: (config, options) => {
    refuseEverywhere(config)
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const heads = headsOf(config, c)
    const { positionsMax, turn } = rotationOf(config, {
      headDim: heads.headDim, positionsMax: c.max_position_embeddings ?? POSITIONS_DEFAULT, partial: { default: 1 },
      originalDefault: POSITIONS_DEFAULT, kinds: { longrope: 'longrope', su: 'longrope', yarn: 'longrope' }, // the latter two are what it was once called
    }, options)
    const width = c.hidden_size
    const norm = (name: string) => rmsNorm({ name, width, epsilon: c.rms_norm_eps })
    return decoder({
      architecture: 'phi3',
      width,
      vocabulary: c.vocab_size,
      positionsMax,
      heads,
      embedding: 'model.embed_tokens.weight',
      blocks: blocksOf(c.num_hidden_layers, 'model.layers').map((block) => chain(
        residual(norm(`${block.name}.input_layernorm`), attention({
          projection: fused({ block, module: 'self_attn.qkv_proj', width, bias: false, order: 'whole', ...heads }),
          options: { ...heads, scale: 1 / Math.sqrt(heads.headDim), window: c.sliding_window ?? undefined },
          rotation: turn,
          output: linear(layerOf(block, { part: 'attention', module: 'self_attn.o_proj', inputs: heads.heads * heads.headDim, outputs: width, bias: false })),
        })),
        residual(norm(`${block.name}.post_attention_layernorm`), fusedGated({ block, width, inner: c.intermediate_size, activation, bias: false })),
      )),
      norm: norm('model.norm'),
      tied: c.tie_word_embeddings,
    })
  },
}
