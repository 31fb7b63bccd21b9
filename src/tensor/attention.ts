/**
 * @file Causal attention in row blocks, and its gradient, over primitives.
 *
 *     keys →        With n blocks of rows, block i reads only the keys up to its own end: of the T×T scores
 *     ■ · · ·       (n + 1) / 2n are computed, 5/8 at n = 4. What lies above the diagonal inside a block is
 *     ■ ■ · ·       masked. Right padding lies to the right of every real token, so it needs no mask.
 *     ■ ■ ■ ·
 *     ■ ■ ■ ■       One block is the textbook version, the oracle of the others.
 *
 * Grouped queries: the H/Hkv query heads of a group are stacked as rows, [B, Hkv, G·T, d], so that a group is one
 * product and the gradient of its keys sums over the group by itself.
 */
import type { AttentionOptions, Primitives } from './ops.js'

/**
 * Into how many row blocks an engine does well to cut sequences of so many tokens at most. Every block is a dozen nodes in
 * each layer, and the time to make an ONNX session grows with the square of the nodes: of a model of 30 layers it is 4
 * times as long with 4 blocks as with 1.
 */
export const attentionBlocksFor = (tokensMax = Infinity): number => (tokensMax <= 128 ? 1 : tokensMax <= 256 ? 2 : 4)

/** q [B, T, H, d], k and v [B, T, Hkv, d] → [B, T, H, d] */
export const attentionForward = <T>(ops: Primitives<T>, blocks: number, q: T, k: T, v: T, options: AttentionOptions): T => {
  const values = ops.transpose(v, [0, 2, 1, 3]) // [B, Hkv, T, d]
  const rows = probabilities(ops, blocks, q, k, options).map(({ p }, i) =>
    ungroup(ops, ops.matmul(p, upTo(ops, values, i, blocks)), options),
  )
  return fromGroups(ops, rows.length === 1 ? rows[0] : ops.concat(rows, 3), options)
}

/** The gradients of q, k and v, each of its own shape, from g = ∂/∂output [B, T, H, d]. */
export const attentionBackward = <T>(
  ops: Primitives<T>, blocks: number, g: T, q: T, k: T, v: T, options: AttentionOptions,
): { readonly q: T; readonly k: T; readonly v: T } => {
  const queries = toGroups(ops, q, options) // [B, Hkv, G, T, d]
  const keys = ops.transpose(k, [0, 2, 1, 3])
  const values = ops.transpose(v, [0, 2, 1, 3])
  const outputs = toGroups(ops, g, options)
  const dq: T[] = []
  let dk: T | undefined
  let dv: T | undefined
  const all = probabilities(ops, blocks, q, k, options)
  for (let i = blocks - 1; i >= 0; i--) {
    const { p, slope } = all[i] // [B, Hkv, G·t, T']
    const gi = flatten(ops, block(ops, outputs, i, blocks), options) // [B, Hkv, G·t, d]
    const dp = ops.matmul(gi, upTo(ops, values, i, blocks), { transB: true })
    const pdp = ops.mul(p, dp)
    const dCapped = ops.sub(pdp, ops.mul(p, ops.sum(pdp, { axes: [-1], keep: true })))
    const ds = slope === undefined ? dCapped : ops.mul(dCapped, slope())
    dq.unshift(ungroup(ops, ops.matmul(ds, upTo(ops, keys, i, blocks), { alpha: options.scale }), options))
    dk = addUpTo(ops, dk, ops.matmul(ds, flatten(ops, block(ops, queries, i, blocks), options), { transA: true, alpha: options.scale }), i, blocks)
    dv = addUpTo(ops, dv, ops.matmul(p, gi, { transA: true }), i, blocks)
  }
  if (dk === undefined || dv === undefined) throw new RangeError(`attention in ${blocks} blocks`)
  return {
    q: fromGroups(ops, dq.length === 1 ? dq[0] : ops.concat(dq, 3), options),
    k: ops.transpose(dk, [0, 2, 1, 3]),
    v: ops.transpose(dv, [0, 2, 1, 3]),
  }
}

/**
 * softmax(scale · q kᵀ + bias), row block by row block: [B, Hkv, G·t, T'] with T' the keys up to the block's end. With a
 * soft cap c the scores s are c · tanh(s / c) before the bias, and `slope` is ∂/∂s of that, 1 − tanh²(s / c).
 */
const probabilities = <T>(
  ops: Primitives<T>, blocks: number, q: T, k: T, options: AttentionOptions,
): readonly { readonly p: T; readonly slope: (() => T) | undefined }[] => {
  const { softCap } = options
  const queries = toGroups(ops, q, options)
  const keys = ops.transpose(k, [0, 2, 1, 3])
  const bias = ops.causalBias(q, options.window) // [T, T]
  return Array.from({ length: blocks }, (_, i) => {
    const rows = flatten(ops, block(ops, queries, i, blocks), options) // [B, Hkv, G·t, d]
    const alpha = softCap === undefined ? options.scale : options.scale / softCap
    const scores = ops.matmul(rows, upTo(ops, keys, i, blocks), { transB: true, alpha })
    const masked = (s: T): T => ops.softmax(ops.add(s, biasOf(ops, bias, i, blocks, options)))
    if (softCap === undefined) return { p: masked(scores), slope: undefined }
    const t = ops.tanh(scores)
    return { p: masked(ops.scale(t, softCap)), slope: () => ops.shift(ops.scale(ops.mul(t, t), -1), 1) }
  })
}

/** The bias of row block i, repeated for each head of a group: [G·t, T'] */
const biasOf = <T>(ops: Primitives<T>, bias: T, i: number, of: number, { heads, headsKv }: AttentionOptions): T => {
  const rows = of === 1 ? bias : ops.part(bias, { axis: 0, from: i, to: i + 1, of })
  const cut = i + 1 === of ? rows : ops.part(rows, { axis: 1, from: 0, to: i + 1, of }) // [t, T']
  const group = heads / headsKv
  return group === 1 ? cut : ops.concat(Array.from({ length: group }, () => cut), 0)
}

/** [B, T, H, d] → [B, Hkv, G, T, d] */
const toGroups = <T>(ops: Primitives<T>, x: T, { heads, headsKv, headDim }: AttentionOptions): T =>
  ops.transpose(ops.reshape(x, [0, 0, headsKv, heads / headsKv, headDim]), [0, 2, 3, 1, 4])

/** [B, Hkv, G, T, d] → [B, T, H, d] */
const fromGroups = <T>(ops: Primitives<T>, x: T, { heads, headDim }: AttentionOptions): T =>
  ops.reshape(ops.transpose(x, [0, 3, 1, 2, 4]), [0, 0, heads, headDim])

/** [B, Hkv, G, t, d] → [B, Hkv, G·t, d] */
const flatten = <T>(ops: Primitives<T>, x: T, { headDim }: AttentionOptions): T => ops.reshape(x, [0, 0, -1, headDim])

/** [B, Hkv, G·t, d] → [B, Hkv, G, t, d] */
const ungroup = <T>(ops: Primitives<T>, x: T, { heads, headsKv, headDim }: AttentionOptions): T =>
  ops.reshape(x, [0, 0, heads / headsKv, -1, headDim])

/** Row block i of [B, Hkv, G, T, d]. */
const block = <T>(ops: Primitives<T>, x: T, i: number, of: number): T =>
  of === 1 ? x : ops.part(x, { axis: 3, from: i, to: i + 1, of })

/** What row block i may see of [B, Hkv, T, d]: everything up to the block's end. */
const upTo = <T>(ops: Primitives<T>, x: T, i: number, of: number): T =>
  i + 1 === of ? x : ops.part(x, { axis: 2, from: 0, to: i + 1, of })

/** sum + term, where term covers the first i + 1 of the sum's parts along T; blocks come last to first. */
const addUpTo = <T>(ops: Primitives<T>, sum: T | undefined, term: T, i: number, of: number): T =>
  sum === undefined
    ? term
    : ops.concat(
        [ops.add(upTo(ops, sum, i, of), term), ops.part(sum, { axis: 2, from: i + 1, to: of, of })],
        2,
      )
