/**
 * @file What architectures are put together from. A part is a function of a tensor with the linear layers and the
 * weights in it; `chain`, `add` and `residual` join parts, so that a block reads as its paper draws it.
 */
import type { Ops } from '../../tensor/index.js'
import type { LinearLayer, OnLinear, Weights } from '../model.js'

/** One forward pass, as its parts see it. */
export interface Scope<T> {
  readonly ops: Ops<T>
  readonly weights: Weights<T>
  /** int [B, T] */
  readonly tokens: T
  readonly onLinear: OnLinear<T>
  /** What `make` makes, made once in this pass for a key, however many parts ask. */
  readonly once: (key: object, make: () => readonly T[]) => readonly T[]
}

/** A weight's name in the whole model, and its shape. */
export type WeightShape = readonly [name: string, shape: readonly number[]]

export interface Part {
  /** In the order in which `apply` comes by them. */
  readonly layers: readonly LinearLayer[]
  readonly shapes: readonly WeightShape[]
  /** x [B, T, I] → [B, T, O] */
  readonly apply: <T>(scope: Scope<T>, x: T) => T
}

const contents = (parts: readonly Pick<Part, 'layers' | 'shapes'>[]): Pick<Part, 'layers' | 'shapes'> => ({
  layers: parts.flatMap(({ layers }) => layers),
  shapes: parts.flatMap(({ shapes }) => shapes),
})

/** One after the other. */
export const chain = (...parts: readonly Part[]): Part => ({
  ...contents(parts),
  apply: <T>(scope: Scope<T>, x: T): T => parts.reduce((y, part) => part.apply(scope, y), x),
})

/** The sum of what two parts make of the same input: attention and MLP of a parallel block. */
export const add = (one: Part, other: Part): Part => ({
  ...contents([one, other]),
  apply: (scope, x) => scope.ops.add(one.apply(scope, x), other.apply(scope, x)),
})

/** x + part(x) */
export const residual = (...parts: readonly Part[]): Part => {
  const inner = chain(...parts)
  return { ...inner, apply: (scope, x) => scope.ops.add(x, inner.apply(scope, x)) }
}

export interface LinearOptions {
  /** The weight is stored [I, O] (GPT-2's Conv1D) in place of torch's [O, I]. */
  readonly transposed?: boolean
}

export interface Linear extends Part {
  readonly layer: LinearLayer
  /** @param seen 1 where the layer reads a token and 0 elsewhere, [B, T, 1]; x is zero there */
  readonly applyTo: <T>(scope: Scope<T>, x: T, seen?: T) => T
}

/** A linear layer, announced to `onLinear`. */
export const linear = (layer: LinearLayer, { transposed = false }: LinearOptions = {}): Linear => {
  const { name, inputs, outputs, bias } = layer
  const applyTo: Linear['applyTo'] = ({ ops, weights, onLinear }, x, seen) =>
    onLinear(layer, x, (input) => ops.linear(input, weights(`${name}.weight`), bias ? weights(`${name}.bias`) : undefined, { transposed }), seen)
  return {
    layer,
    layers: [layer],
    shapes: [
      [`${name}.weight`, transposed ? [inputs, outputs] : [outputs, inputs]],
      ...(bias ? [[`${name}.bias`, [outputs]] satisfies WeightShape] : []),
    ],
    apply: (scope, x) => applyTo(scope, x),
    applyTo,
  }
}

/** Names the linear layers of one block: what they share, and what each says for itself. */
export interface BlockName {
  readonly block: number
  /** The block's module: `model.layers.0`. */
  readonly name: string
}

export interface LayerSpec {
  readonly part: LinearLayer['part']
  /** The module within the block: `self_attn.q_proj`. */
  readonly module: string
  readonly inputs: number
  readonly outputs: number
  readonly bias: boolean
  /** What names the input if other layers read it too; the module itself if absent. */
  readonly group?: string
  readonly routed?: boolean
}

export const layerOf = ({ block, name }: BlockName, { part, module, inputs, outputs, bias, group = module, routed }: LayerSpec): LinearLayer =>
  ({ name: `${name}.${module}`, block, part, inputs, outputs, bias, inputGroup: `${name}.${group}${bias ? '+1' : ''}`, ...(routed === true ? { routed } : {}) })
