/** @file Attention as a part: projections to q, k and v, apart or in one layer, then rotation, softmax and output. */
import type { AttentionOptions } from '../../tensor/index.js'
import { chain, layerOf, linear, type BlockName, type LinearOptions, type Part, type Scope } from './part.js'
import type { Rotation } from './rotation.js'

/** H, Hkv and d. */
export type Heads = Pick<AttentionOptions, 'heads' | 'headsKv' | 'headDim'>

/** x [B, T, D] → q [B, T, H, d], k and v [B, T, Hkv, d] */
export interface Projection extends Pick<Part, 'layers' | 'shapes'> {
  readonly apply: <T>(scope: Scope<T>, x: T) => readonly [q: T, k: T, v: T]
}

/** Norms of queries and keys: `head` over each head [B, T, H, d], `all` over all heads at once [B, T, H·d]. */
export interface QueryKeyNorms {
  readonly over: 'head' | 'all'
  readonly q: Part
  readonly k: Part
}

export interface ProjectionSpec extends Heads {
  readonly block: BlockName
  /** The modules of the block: `self_attn.q_proj`, or the one of a fused layer. */
  readonly module: string
  /** D */
  readonly width: number
  readonly bias: boolean
}

/** q_proj, k_proj and v_proj, which read one input. */
export const separate = (
  { block, module, width, bias, heads, headsKv, headDim, norms }: ProjectionSpec & { readonly norms?: QueryKeyNorms },
): Projection => {
  const project = (name: string, count: number): Part =>
    linear(layerOf(block, { part: 'attention', module: `${module}.${name}`, inputs: width, outputs: count * headDim, bias, group: `${module}.qkv` }))
  const inHeads = (count: number): Part => ({ layers: [], shapes: [], apply: ({ ops }, x) => ops.reshape(x, [0, 0, count, headDim]) })
  const normed = (name: string, count: number, norm: Part | undefined): Part => {
    if (norm === undefined) return chain(project(name, count), inHeads(count))
    return norms?.over === 'all' ? chain(project(name, count), norm, inHeads(count)) : chain(project(name, count), inHeads(count), norm)
  }
  const [q, k, v] = [normed('q_proj', heads, norms?.q), normed('k_proj', headsKv, norms?.k), normed('v_proj', headsKv, undefined)]
  return {
    layers: [q, k, v].flatMap(({ layers }) => layers),
    shapes: [q, k, v].flatMap(({ shapes }) => shapes),
    apply: (scope, x) => [q.apply(scope, x), k.apply(scope, x), v.apply(scope, x)],
  }
}

/**
 * One layer for all three. `whole`: all of q, then k, then v (GPT-2, Phi-3); `byHead`: q, k and v of the first head,
 * then of the second, and so on (GPT-NeoX).
 */
export const fused = (
  { block, module, width, bias, heads, headsKv, headDim, order, ...options }: ProjectionSpec & LinearOptions & { readonly order: 'whole' | 'byHead' },
): Projection => {
  const sizes = [heads, headsKv, headsKv]
  const outputs = (heads + 2 * headsKv) * headDim
  const part = linear(layerOf(block, { part: 'attention', module, inputs: width, outputs, bias }), options)
  return {
    layers: part.layers,
    shapes: part.shapes,
    apply: (scope, x) => {
      const { ops } = scope
      const all = part.apply(scope, x)
      if (order === 'byHead') {
        const grouped = ops.reshape(all, [0, 0, heads, 3 * headDim])
        const of = (i: number): typeof x => ops.slice(grouped, { axis: -1, from: i * headDim, to: (i + 1) * headDim })
        return [of(0), of(1), of(2)]
      }
      const starts = [0, heads, heads + headsKv]
      const of = (i: number): typeof x =>
        ops.reshape(ops.slice(all, { axis: -1, from: starts[i] * headDim, to: (starts[i] + sizes[i]) * headDim }), [0, 0, sizes[i], headDim])
      return [of(0), of(1), of(2)]
    },
  }
}

export interface AttentionSpec {
  readonly projection: Projection
  readonly options: AttentionOptions
  /** Absent: positions come in another way, or not at all. */
  readonly rotation?: Rotation
  readonly output: Part
}

export const attention = ({ projection, options, rotation, output }: AttentionSpec): Part => ({
  layers: [...projection.layers, ...output.layers],
  shapes: [...projection.shapes, ...output.shapes],
  apply: (scope, x) => {
    const { ops } = scope
    const turned = (y: typeof x): typeof x => rotation?.turn(scope, y) ?? y
    const [q, k, v] = projection.apply(scope, x)
    const mixed = ops.attention(turned(q), turned(k), v, options) // [B, T, H, d]
    return output.apply(scope, ops.reshape(mixed, [0, 0, options.heads * options.headDim]))
  },
})

/** What most attentions have: q_proj, k_proj, v_proj and o_proj in one module. */
export interface SelfAttentionSpec extends Heads {
  readonly block: BlockName
  readonly width: number
  readonly bias: { readonly qkv: boolean; readonly o: boolean }
  readonly norms?: QueryKeyNorms
  readonly rotation?: Rotation
  readonly window: number | undefined
  /** 1/√d if absent. */
  readonly scale?: number
  readonly softCap?: number
}

export const selfAttention = (
  { block, width, bias, norms, rotation, window, heads, headsKv, headDim, scale = 1 / Math.sqrt(headDim), softCap }: SelfAttentionSpec,
): Part => attention({
  projection: separate({ block, module: 'self_attn', width, bias: bias.qkv, heads, headsKv, headDim, norms }),
  options: { heads, headsKv, headDim, scale, window, softCap },
  rotation,
  output: linear(layerOf(block, { part: 'attention', module: 'self_attn.o_proj', inputs: heads * headDim, outputs: width, bias: bias.o })),
})
