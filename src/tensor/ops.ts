/**
 * @file `Ops<T>`: the operations a model, a join or a factor is written in, generic in the tensor handle T.
 *
 * A handle is whatever an engine needs: a name in an ONNX graph that is being traced (engines/onnx), an array of
 * numbers (engines/plain). Batch B and length T may be unknown while a graph is traced, so no operation here takes
 * them as a number: `reshape` copies a dimension with 0 and infers one with -1, `part` cuts an axis by fractions.
 *
 * Primitives come from the engine. Composites have a default over the primitives (composites.ts), which an engine
 * may replace by a fused kernel. Both have a gradient in the tape's total table (tape.ts).
 */

export interface MatmulOptions {
  /** Use the transpose of the last two axes of the left operand. */
  readonly transA?: boolean
  /** Use the transpose of the last two axes of the right operand. */
  readonly transB?: boolean
  /** A factor on the product. */
  readonly alpha?: number
}

/** Parts `[from, to)` of an axis that is cut into `of` parts; part i starts at ⌊length·i/of⌋. */
export interface PartOptions {
  readonly axis: number
  readonly from: number
  readonly to: number
  readonly of: number
}

export interface SumOptions {
  /** At least one. The tensor must not be empty: ONNX Runtime leaves the shape of such a one as it is. */
  readonly axes: readonly number[]
  /** Keep the summed axes with length 1 (default false). */
  readonly keep?: boolean
}

export interface TransposeOptions {
  readonly copied?: boolean
}

/** What every engine brings. Elementwise operations broadcast as in numpy; negative axes count from the end. */
export interface Primitives<T> {
  /** Into how many row blocks causal attention is cut (attention.ts; T must be at least that), and the head's rows (head.ts). */
  readonly blocks: { readonly attention: number; readonly head: number }

  /** A constant of known shape. Integers (indices, labels) are held exactly. */
  constant(values: ArrayLike<number>, shape: readonly number[], kind?: 'float' | 'int'): T

  add(x: T, y: T): T
  sub(x: T, y: T): T
  mul(x: T, y: T): T
  div(x: T, y: T): T
  /** x · factor */
  scale(x: T, factor: number): T
  /** x + term */
  shift(x: T, term: number): T
  exp(x: T): T
  tanh(x: T): T
  sigmoid(x: T): T
  erf(x: T): T
  /** 1/√x */
  rsqrt(x: T): T

  /** Product over the last two axes; the leading axes broadcast. [.., M, K] × [.., K, N] → [.., M, N] */
  matmul(x: T, y: T, options?: MatmulOptions): T

  sum(x: T, options: SumOptions): T
  /** Σ x² */
  sumSquares(x: T, options: SumOptions): T
  /** Mean over the last axis, kept with length 1. */
  meanLast(x: T): T
  /** Softmax over the last axis. */
  softmax(x: T): T
  /** log Σ exp over the last axis, kept with length 1. */
  logSumExp(x: T): T

  /** 0 copies the input's dimension at that place, -1 (once) is inferred. */
  reshape(x: T, shape: readonly number[]): T
  /** x in the shape of `like`, of as many elements. */
  reshapeLike(x: T, like: T): T
  /**
   * Axis i of the result is axis permutation[i] of x. `copied` says that it is to be laid out once, and not read in the other
   * order by the product that takes it as its left operand: a CPU's product does that again for every 128 columns.
   */
  transpose(x: T, permutation: readonly number[], options?: TransposeOptions): T
  part(x: T, options: PartOptions): T
  /** Elements `[from, to)` of an axis; the bounds are known numbers. A negative one counts from the end, `to` is cut at the end. */
  slice(x: T, options: { readonly axis: number; readonly from: number; readonly to: number }): T
  concat(xs: readonly T[], axis: number): T
  /** What `like` contributed to `x` = concat([...before, like, ...], axis). */
  cutLike(x: T, before: readonly T[], like: T, axis: number): T
  /** Zeros in the shape of x. */
  zerosLike(x: T): T
  /**
   * x as it is, but nothing that reads it is computed before `done` (of rank 1 or more): an engine that orders the
   * computation by itself would else keep alive what could be used up and let go.
   */
  after(x: T, done: T): T
  /** Appends a 1 to the last axis: the homogeneous input ā of a layer with a bias. [.., I] → [.., I+1] */
  appendOne(x: T): T

  /** Rows of a table: table [N, ...rest], ids int [...shape] → [...shape, ...rest]. */
  gather(table: T, ids: T): T
  /** The inverse of `gather` for distinct rows: y [N, D] zero but y[rows[i]] = x[i]; `like` [N, D] gives N. */
  scatterRows(x: T, rows: T, like: T): T

  /**
   * The additive attention bias of T positions, from a tensor whose axis 1 has length T ([B, T, ..]):
   * 0 where position j may be seen from i (j ≤ i, and i − j < window if there is one), −∞ elsewhere. → [T, T]
   * Causal attention never sees to the right, so right padding needs no mask of its own.
   */
  causalBias(like: T, window?: number): T
  /** Positions 0..T−1 of a tensor whose axis 1 has length T: int [T]. */
  positions(like: T): T

  /**
   * For each row of probabilities the first index whose cumulative sum exceeds u (the inverse of the distribution
   * function): probabilities [N, V], u [N, 1] in [0, 1) → int [N]. Not differentiable.
   */
  sampleRows(probabilities: T, u: T): T

  /** 1 where an entry is among the `count` largest of the last axis, the first ones of equals, and 0 elsewhere. Not differentiable. */
  topMask(x: T, count: number): T
}

export interface NormOptions {
  readonly epsilon: number
}

export interface AttentionOptions {
  /** H, Hkv and d: query heads, key and value heads, and the width of each. */
  readonly heads: number
  readonly headsKv: number
  readonly headDim: number
  /** The factor on q·k, usually 1/√head_dim. */
  readonly scale: number
  /** Sliding window: position i sees the last `window` positions, itself included. Absent: all. */
  readonly window?: number
  /** Soft cap c on the scores: c · tanh(score / c) (Gemma 2). Absent: none. */
  readonly softCap?: number
}

/** Token losses from a head: weight [V, D], or a part of it. */
export interface HeadOptions {
  /** Factor on the logits (Cohere, Granite); 1 if absent. */
  readonly logitScale?: number
  /** Soft cap c on the logits, after the factor: c · tanh(logit / c) (Gemma 2). Absent: none. */
  readonly softCap?: number
}

/** What models are made of, beyond primitives; gradients flow to x, q, k, v, never to weights. */
export interface Composites<T> {
  /**
   * y = x Wᵀ + b. `transposed` weights are stored [I, O] (GPT-2's Conv1D), others [O, I] (torch's Linear).
   * x [.., I] → [.., O]
   */
  linear(x: T, weight: T, bias: T | undefined, options: { readonly transposed: boolean }): T
  /** (x − mean) / √(var + ε) · γ + β over the last axis. */
  layerNorm(x: T, gamma: T, beta: T | undefined, options: NormOptions): T
  /** x / √(mean x² + ε) · γ over the last axis. */
  rmsNorm(x: T, gamma: T, options: NormOptions): T
  /** x · sigmoid(x) */
  silu(x: T): T
  /** x Φ(x), exact. */
  gelu(x: T): T
  /** The tanh approximation of gelu ("gelu_new", "gelu_pytorch_tanh"). */
  geluTanh(x: T): T
  /**
   * Rotary position embedding, the half-split convention of Hugging Face: with x = [x₁ x₂], two halves of the last
   * axis, → [x₁cos − x₂sin, x₂cos + x₁sin]. x [B, T, H, r]; cos, sin [T, r/2]. A model that rotates only a part of
   * the head cuts that part out with `slice`.
   */
  rotary(x: T, cos: T, sin: T): T
  /**
   * Causal softmax attention with grouped queries: q [B, T, H, d], k and v [B, T, Hkv, d], H a multiple of Hkv
   * (query head h reads key head ⌊h·Hkv/H⌋) → [B, T, H, d].
   */
  attention(q: T, k: T, v: T, options: AttentionOptions): T
  /** Rows of x that are wanted, all distinct: x [N, D], rows int [N'] → [N', D]. */
  takeRows(x: T, rows: T): T
  /** −log softmax(x Wᵀ)[label], nats: x [N, D], head [V, D], labels int [N] → [N, 1]. */
  tokenLosses(x: T, head: T, labels: T, options?: HeadOptions): T
}

export interface Ops<T> extends Primitives<T>, Composites<T> {}
