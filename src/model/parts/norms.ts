/** @file The norms of architectures, as parts: over the last axis, whatever is before it. */
import type { Part, WeightShape } from './part.js'

export interface NormSpec {
  /** The module: its weight is `<name>.weight`. */
  readonly name: string
  readonly width: number
  readonly epsilon: number
}

/** x / √(mean x² + ε) · γ; `oneAdded` (Gemma): γ is 1 + the stored weight. */
export const rmsNorm = ({ name, width, epsilon, oneAdded = false }: NormSpec & { readonly oneAdded?: boolean }): Part => ({
  layers: [],
  shapes: [[`${name}.weight`, [width]]],
  apply: ({ ops, weights }, x) => {
    const stored = weights(`${name}.weight`)
    return ops.rmsNorm(x, oneAdded ? ops.shift(stored, 1) : stored, { epsilon })
  },
})

/** (x − mean) / √(var + ε) · γ + β, or without β. */
export const layerNorm = ({ name, width, epsilon, bias }: NormSpec & { readonly bias: boolean }): Part => ({
  layers: [],
  shapes: [[`${name}.weight`, [width]], ...(bias ? [[`${name}.bias`, [width]] satisfies WeightShape] : [])],
  apply: ({ ops, weights }, x) => ops.layerNorm(x, weights(`${name}.weight`), bias ? weights(`${name}.bias`) : undefined, { epsilon }),
})

/** LayerNorm over each head with a γ of its own for each: x [B, T, H, d], weight [H, d] (Cohere). */
export const headLayerNorm = ({ name, heads, width, epsilon }: NormSpec & { readonly heads: number }): Part => ({
  layers: [],
  shapes: [[`${name}.weight`, [heads, width]]],
  apply: ({ ops, weights }, x) => {
    const normed = ops.layerNorm(x, ops.constant(new Float32Array(width).fill(1), [width]), undefined, { epsilon })
    return ops.mul(normed, weights(`${name}.weight`))
  },
})
