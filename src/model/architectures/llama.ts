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
import {
  activationOf, parseConfig, positive, refuseEverywhere, refuseUnlessNeutral, size, unsupported, type RawConfig,
} from '../config.js'
import type { LinearLayer, Model, Weights } from '../model.js'
import { readRope, rotaryTables, type RotaryTables } from '../rope.js'
import type { Ops } from '../../tensor/index.js'
import type { Architecture } from './architecture.js'

const MODEL_TYPES = ['llama', 'mistral', 'qwen2'] as const
type ModelType = (typeof MODEL_TYPES)[number]

/** What `transformers` takes where config.json is silent. */
const DEFAULTS = {
  llama: { headsKv: undefined, positions: 2048 },
  mistral: { headsKv: 8, positions: 4096 * 32 },
  qwen2: { headsKv: 32, positions: 32768 },
} as const satisfies Record<ModelType, { headsKv: number | undefined; positions: number }>

const schema = z.looseObject({
  model_type: z.enum(MODEL_TYPES),
  vocab_size: size(),
  hidden_size: size(),
  intermediate_size: size(),
  num_hidden_layers: size(),
  num_attention_heads: size(),
  num_key_value_heads: size().nullish(),
  head_dim: size().nullish(),
  hidden_act: z.string().default('silu'),
  max_position_embeddings: size().optional(),
  rms_norm_eps: positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  sliding_window: size().nullish(),
  use_sliding_window: z.boolean().default(false),
  max_window_layers: z.int().nonnegative().default(28),
  layer_types: z.array(z.string()).nullish(),
})
type Config = z.output<typeof schema>

export const llama: Architecture = {
  modelTypes: MODEL_TYPES,
  prefix: 'model.',
  buffers: /^(layers\.\d+\.self_attn\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)$/,
  read: (config, options) => {
    refuseEverywhere(config)
    refuseUnlessNeutral(config, { pretraining_tp: [1] })
    const c = parseConfig(config, schema)
    const activation = activationOf(config, 'hidden_act', c.hidden_act)
    const heads = c.num_attention_heads
    const headsKv = c.num_key_value_heads ?? (c.num_key_value_heads === null ? heads : (DEFAULTS[c.model_type].headsKv ?? heads))
    if (heads % headsKv !== 0) throw unsupported(config, 'num_key_value_heads', headsKv, `divisors of num_attention_heads = ${heads}`)
    if (c.head_dim == null && c.hidden_size % heads !== 0)
      throw unsupported(config, 'num_attention_heads', heads, `divisors of hidden_size = ${c.hidden_size}, as head_dim is not given`)
    const headDim = c.head_dim ?? c.hidden_size / heads
    const windows = windowsOf(config, c)
    const rope = readRope(config, { headDim, positionsMax: c.max_position_embeddings ?? DEFAULTS[c.model_type].positions })
    const positionsMax = Math.min(rope.positionsMax, options.positionsMax)
    const tables = once(() => rotaryTables(rope, positionsMax))

    const width = c.hidden_size
    const inner = c.intermediate_size
    const norm = { epsilon: c.rms_norm_eps }
    const scale = 1 / Math.sqrt(headDim)
    const biases = biasesOf(c)

    const blocks = windows.map((window, block) => {
      const name = `model.layers.${block}`
      const layer = (part: 'attention' | 'mlp', module: string, inputs: number, outputs: number, bias: boolean, group = module): LinearLayer =>
        ({ name: `${name}.${module}`, block, part, inputs, outputs, bias, inputGroup: `${name}.${group}${bias ? '+1' : ''}` })
      const attention = (module: string, outputs: number) =>
        layer('attention', `self_attn.${module}`, width, outputs, biases.qkv, 'self_attn.qkv')
      const mlp = (module: string) => layer('mlp', `mlp.${module}`, width, inner, biases.mlp, 'mlp.gate_up')
      return {
        name,
        window,
        q: attention('q_proj', heads * headDim),
        k: attention('k_proj', headsKv * headDim),
        v: attention('v_proj', headsKv * headDim),
        o: layer('attention', 'self_attn.o_proj', heads * headDim, width, biases.o),
        gate: mlp('gate_proj'),
        up: mlp('up_proj'),
        down: layer('mlp', 'mlp.down_proj', inner, width, biases.mlp),
      }
    })
    const layers = blocks.flatMap((b) => [b.q, b.k, b.v, b.o, b.gate, b.up, b.down])
    const embedding = 'model.embed_tokens.weight'

    const forward: Model['forward'] = (ops, weights, { tokens }, onLinear) => {
      const linear = linearOf(ops, weights)
      const rotation = rotationOf(ops, tables(), tokens)
      const heading = (x: typeof tokens, count: number) => ops.reshape(x, [0, 0, count, headDim])
      const normed = (x: typeof tokens, name: string) => ops.rmsNorm(x, weights(`${name}.weight`), norm)
      let x = ops.gather(weights(embedding), tokens) // [B, T, D]
      for (const { name, window, q, k, v, o, gate, up, down } of blocks) {
        const read = normed(x, `${name}.input_layernorm`)
        const queries = rotation(heading(onLinear(q, read, linear(q)), heads)) // [B, T, H, d]
        const keys = rotation(heading(onLinear(k, read, linear(k)), headsKv)) // [B, T, Hkv, d]
        const values = heading(onLinear(v, read, linear(v)), headsKv)
        const mixed = ops.attention(queries, keys, values, { heads, headsKv, headDim, scale, window })
        x = ops.add(x, onLinear(o, ops.reshape(mixed, [0, 0, heads * headDim]), linear(o)))
        const thought = normed(x, `${name}.post_attention_layernorm`)
        const gated = ops[activation](onLinear(gate, thought, linear(gate)))
        x = ops.add(x, onLinear(down, ops.mul(gated, onLinear(up, thought, linear(up))), linear(down)))
      }
      return normed(x, 'model.norm')
    }

    return {
      embedding,
      tied: c.tie_word_embeddings,
      build: (head) => ({
        architecture: c.model_type,
        width,
        blocks: c.num_hidden_layers,
        vocabulary: c.vocab_size,
        positionsMax,
        layers,
        heads,
        headDim,
        forward,
        head: { weight: head },
        weightShapes: new Map<string, readonly number[]>([
          [embedding, [c.vocab_size, width]],
          ...blocks.flatMap(({ name }): [string, number[]][] => [
            [`${name}.input_layernorm.weight`, [width]],
            [`${name}.post_attention_layernorm.weight`, [width]],
          ]),
          ...layers.flatMap(({ name, inputs, outputs, bias }): [string, number[]][] => [
            [`${name}.weight`, [outputs, inputs]],
            ...(bias ? [[`${name}.bias`, [outputs]] satisfies [string, number[]]] : []),
          ]),
          ['model.norm.weight', [width]],
          [head, [c.vocab_size, width]],
        ]),
      }),
    }
  },
}

const linearOf = <T>(ops: Ops<T>, weights: Weights<T>) => ({ name, bias }: LinearLayer) => (x: T): T =>
  ops.linear(x, weights(`${name}.weight`), bias ? weights(`${name}.bias`) : undefined, { transposed: false })

/** Rotates [B, T, H, d] by the positions of tokens [B, T]; the tables are constants of the graph. */
const rotationOf = <T>(ops: Ops<T>, { positions, half, cos, sin }: RotaryTables, tokens: T): ((x: T) => T) => {
  const at = ops.positions(tokens)
  const [c, s] = [cos, sin].map((table) => ops.gather(ops.constant(table, [positions, half]), at)) // [T, d/2]
  return (x) => ops.rotary(x, c, s)
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

/** For each block how many positions a position sees, itself included; undefined where all. */
const windowsOf = (config: RawConfig, c: Config): readonly (number | undefined)[] => {
  const everywhere = (window: number | undefined) => Array.from({ length: c.num_hidden_layers }, () => window)
  const window = c.sliding_window === undefined ? SLIDING_WINDOW_DEFAULT : (c.sliding_window ?? undefined)
  switch (c.model_type) {
    case 'llama':
      return everywhere(undefined)
    case 'mistral':
      if (window !== undefined && c.layer_types?.some((type) => type !== 'sliding_attention'))
        throw unsupported(config, 'layer_types', c.layer_types, 'sliding_attention throughout, or another model_type')
      return everywhere(window)
    case 'qwen2': {
      const used = c.use_sliding_window ? window : undefined
      if (c.layer_types == null) return everywhere(undefined).map((_, block) => (block >= c.max_window_layers ? used : undefined))
      if (c.layer_types.length !== c.num_hidden_layers)
        throw unsupported(config, 'layer_types', `${c.layer_types.length} types`, `${c.num_hidden_layers}, one a layer`)
      return c.layer_types.map((type, block) => {
        if (type === 'full_attention') return undefined
        if (type !== 'sliding_attention') throw unsupported(config, `layer_types.${block}`, type, 'full_attention, sliding_attention')
        if (used === undefined)
          throw unsupported(config, `layer_types.${block}`, type, 'full_attention, as use_sliding_window or sliding_window is off')
        return used
      })
    }
    default:
      return c.model_type satisfies never
  }
}

const SLIDING_WINDOW_DEFAULT = 4096

const once = <A>(make: () => A): (() => A) => {
  let made: A | undefined
  return () => (made ??= make())
}
