/**
 * @file What an architecture is to the rest of tributary: a forward pass over `Ops<T>` and the linear layers in it.
 */
import type { HeadOptions, Ops } from '../tensor/index.js'

/** A linear layer that may be tracked (attributed). */
export interface LinearLayer {
  /** As Hugging Face spells the module: `model.layers.0.mlp.gate_proj`, `transformer.h.0.mlp.c_fc`. */
  readonly name: string
  /** The block it is in, from 0. */
  readonly block: number
  readonly part: 'attention' | 'mlp'
  /** I: inputs, without the bias column. */
  readonly inputs: number
  /** O: outputs. */
  readonly outputs: number
  readonly bias: boolean
  /**
   * Layers of one block with equal `inputGroup` read the very same input (gate and up; q, k and v), so that
   * covariances and projections of ā can be shared. With a bias column or without, so `bias` is part of the group.
   */
  readonly inputGroup: string
  /** A mixture's expert: it reads only the tokens that are routed to it, and its input is zero elsewhere. */
  readonly routed?: boolean
}

/**
 * A weight by the name that Hugging Face gives it in the whole model (a file of the base model alone may leave out the
 * prefix; `Checkpoint.tensors` says where it lies), handed over when the forward pass asks for it.
 */
export type Weights<T> = (name: string) => T

/** What the forward pass is called with. */
export interface ForwardInputs<T> {
  /** int [B, T]; right-padded with any id. */
  readonly tokens: T
  /** Of a span that does not begin with the embedding: the residual stream that it goes on with, [B, T, D]. */
  readonly entry?: T
}

/**
 * Consecutive parts `[from, to)` of a forward pass: part 0 is the embedding, parts 1 to `blocks` are the blocks, part
 * `blocks + 1` is the final norm. What goes from one to the next is the residual stream [B, T, D], and nothing else.
 */
export interface Span {
  readonly from: number
  readonly to: number
}

/**
 * Called for every linear layer of the blocks, in order of the forward pass, in place of `ops.linear`:
 * the caller decides whether it is tracked. `compute(x)` is the layer itself.
 * x [B, T, I] → [B, T, O]. `seen` [B, T, 1], given by layers that do not read every token (a mixture's experts): 1 where
 * this one does, 0 where it does not and x is zero.
 */
export type OnLinear<T> = (layer: LinearLayer, x: T, compute: (x: T) => T, seen?: T) => T

export interface Model {
  /** `gpt2`, `llama`, ... as config.json's model_type. */
  readonly architecture: string
  /** D, the width of the residual stream. */
  readonly width: number
  readonly blocks: number
  readonly vocabulary: number
  /** The longest sequence that the checkpoint knows positions for. */
  readonly positionsMax: number
  /** All linear layers of the blocks, in forward order. */
  readonly layers: readonly LinearLayer[]
  /** How many attention heads; for the planner. */
  readonly heads: number
  readonly headDim: number
  /** tokens → the final normed hidden states [B, T, D]; of a span, what comes out of its last part. */
  readonly forward: <T>(ops: Ops<T>, weights: Weights<T>, inputs: ForwardInputs<T>, onLinear: OnLinear<T>, span?: Span) => T
  /** The output head: the weight's name ([V, D]), the factor on the logits and their soft cap, as `HeadOptions` has them. */
  readonly head: { readonly weight: string } & HeadOptions
  /** The names and shapes of all weights that `forward` and `head` ask for; checked against the files beforehand. */
  readonly weightShapes: ReadonlyMap<string, readonly number[]>
  /** The names of the weights that a span asks for, the head with the final norm. */
  readonly weightsOf: (span: Span) => readonly string[]
}
