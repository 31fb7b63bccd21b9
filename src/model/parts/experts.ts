/**
 * @file A mixture of experts (Jiang et al. 2024, arXiv 2401.04088) as a part: a router, and gated MLPs of which each
 * token is read by a few. Every expert's layers are linear layers like any other, and so is the router.
 *
 * Every expert computes every token of a batch, and the routing weight, zero for most, decides what comes of it: exact,
 * at E/k times the work of an engine that gathers each expert's tokens (4 times with 2 of 8). An expert's input is set to
 * zero where a token is not routed to it: such a token gives nothing to ā, to δ, nor to what is computed from them.
 */
import { layerOf, linear, type BlockName, type Part, type Scope } from './part.js'
import type { Activation } from './mlp.js'

export interface ExpertsSpec {
  readonly block: BlockName
  /** D */
  readonly width: number
  readonly inner: number
  readonly activation: Activation
  /** E, and k, how many of them read a token. */
  readonly experts: number
  readonly perToken: number
  /** Whether a token's routing weights sum to 1: softmax over the k chosen, or over all E. */
  readonly normalized: boolean
  /** The module, and what the layers of an expert are called. */
  readonly module: string
  readonly names: { readonly gate: string; readonly up: string; readonly down: string }
}

/** Far beyond any router's logit, so that the exponential of what lies so far below is 0; f16 can hold it. */
const FAR = 3e4

export const mixture = ({ block, width, inner, activation, experts, perToken, normalized, module, names }: ExpertsSpec): Part => {
  const router = linear(layerOf(block, { part: 'mlp', module: `${module}.gate`, inputs: width, outputs: experts, bias: false }))
  const each = Array.from({ length: experts }, (_, e) => {
    const of = (layer: 'gate' | 'up' | 'down', inputs: number, outputs: number, group?: string) =>
      linear(layerOf(block, { part: 'mlp', module: `${module}.experts.${e}.${names[layer]}`, inputs, outputs, bias: false, group, routed: true }))
    const group = `${module}.experts.${e}.gate_up`
    return { gate: of('gate', width, inner, group), up: of('up', width, inner, group), down: of('down', inner, width) }
  })
  const parts = [router, ...each.flatMap(({ gate, up, down }) => [gate, up, down])]
  return {
    layers: parts.flatMap(({ layers }) => layers),
    shapes: parts.flatMap(({ shapes }) => shapes),
    apply: <T>(scope: Scope<T>, x: T): T => {
      const { ops } = scope
      const logits = router.apply(scope, x) // [B, T, E]
      const chosen = ops.topMask(logits, perToken)
      const routing = normalized
        ? ops.softmax(ops.add(logits, ops.scale(ops.shift(chosen, -1), FAR)))
        : ops.mul(ops.softmax(logits), chosen)
      const ones = ops.constant(new Float32Array(width).fill(1), [1, width])
      const outputs = each.map(({ gate, up, down }, e) => {
        const only = (all: T): T => ops.slice(all, { axis: -1, from: e, to: e + 1 }) // [B, T, 1]
        const seen = only(chosen)
        const own = ops.mul(x, seen)
        const hidden = ops.mul(ops[activation](gate.applyTo(scope, own, seen)), up.applyTo(scope, own, seen))
        // A product with ones spreads the weight over D: on the tape, what is watched is never broadcast.
        return ops.mul(down.applyTo(scope, hidden, seen), ops.matmul(only(routing), ones)) // [B, T, D]
      })
      return outputs.reduce((sum, output) => ops.add(sum, output))
    },
  }
}
