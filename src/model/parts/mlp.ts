/** @file The MLPs of architectures, as parts. */
import { chain, layerOf, linear, type BlockName, type LinearOptions, type Part } from './part.js'

export type Activation = 'silu' | 'gelu' | 'geluTanh'

export interface MlpSpec {
  readonly block: BlockName
  /** D */
  readonly width: number
  readonly inner: number
  readonly activation: Activation
  readonly bias: boolean
}

const activated = (activation: Activation): Part => ({ layers: [], shapes: [], apply: ({ ops }, x) => ops[activation](x) })

/** contract(f(expand(x))) */
export const twoLayer = (
  { block, width, inner, activation, bias, expand, contract, ...options }: MlpSpec & LinearOptions & { readonly expand: string; readonly contract: string },
): Part => chain(
  linear(layerOf(block, { part: 'mlp', module: expand, inputs: width, outputs: inner, bias }), options),
  activated(activation),
  linear(layerOf(block, { part: 'mlp', module: contract, inputs: inner, outputs: width, bias }), options),
)

/** down(f(gate(x)) ⊙ up(x)): gate_proj, up_proj, down_proj (Shazeer 2020, arXiv 2002.05202). */
export const gated = ({ block, width, inner, activation, bias }: MlpSpec): Part => {
  const open = (module: string): Part => linear(layerOf(block, { part: 'mlp', module: `mlp.${module}`, inputs: width, outputs: inner, bias, group: 'mlp.gate_up' }))
  const [gate, up] = [open('gate_proj'), open('up_proj')]
  const down = linear(layerOf(block, { part: 'mlp', module: 'mlp.down_proj', inputs: inner, outputs: width, bias }))
  return {
    layers: [gate, up, down].flatMap(({ layers }) => layers),
    shapes: [gate, up, down].flatMap(({ shapes }) => shapes),
    apply: (scope, x) => down.apply(scope, scope.ops.mul(scope.ops[activation](gate.apply(scope, x)), up.apply(scope, x))),
  }
}

/** The same with gate and up as one layer, the gate first: gate_up_proj (Phi-3). */
export const fusedGated = ({ block, width, inner, activation, bias }: MlpSpec): Part => chain(
  linear(layerOf(block, { part: 'mlp', module: 'mlp.gate_up_proj', inputs: width, outputs: 2 * inner, bias })),
  {
    layers: [],
    shapes: [],
    apply: ({ ops }, x) =>
      ops.mul(ops[activation](ops.slice(x, { axis: -1, from: 0, to: inner })), ops.slice(x, { axis: -1, from: inner, to: 2 * inner })),
  },
  linear(layerOf(block, { part: 'mlp', module: 'mlp.down_proj', inputs: inner, outputs: width, bias })),
)
