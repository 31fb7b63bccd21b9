/**
 * @file The output head and its loss, in row blocks: of [N, V] logits only one block need exist at a time, which at
 * V = 49,152 and N = 2,048 is 400 MB a tensor. The one-hot labels are never formed: with p = softmax(x Wᵀ),
 * loss = logΣexp(x Wᵀ) − x·W[label] and ∂loss/∂x = p W − W[label].
 */
import type { HeadOptions, Primitives } from './ops.js'

/** x [N, D], head [V, D], labels int [N] → [N, 1], nats. */
export const tokenLossesForward = <T>(ops: Primitives<T>, x: T, head: T, labels: T, options: HeadOptions = {}): T => {
  const all = joined(ops, inBlocks(ops, x, (rows) => ops.logSumExp(logits(ops, rows, head, options))))
  return ops.sub(all, capped(ops, labelLogits(ops, x, head, labels, options), options))
}

/**
 * ∂/∂x from g = ∂/∂losses [N, 1]: [N, D]. With a soft cap c and t = tanh(logit / c), each logit's gradient is its own
 * times 1 − t²: ∂loss/∂x = (p ⊙ (1 − t²)) W − (1 − t²)[label] W[label].
 */
export const tokenLossesBackward = <T>(ops: Primitives<T>, g: T, x: T, head: T, labels: T, options: HeadOptions = {}): T => {
  const { logitScale = 1, softCap } = options
  const expected = joined(ops, inBlocks(ops, x, (rows) => {
    const raw = rawLogits(ops, rows, head, options)
    const p = ops.softmax(capped(ops, raw, options))
    return ops.matmul(softCap === undefined ? p : ops.mul(p, slope(ops, raw, softCap)), head)
  }))
  const row = ops.gather(head, labels) // [N, D]
  const own = softCap === undefined ? row : ops.mul(row, slope(ops, labelLogits(ops, x, head, labels, options), softCap))
  const dx = ops.mul(g, ops.sub(expected, own))
  return logitScale === 1 ? dx : ops.scale(dx, logitScale)
}

/** Labels drawn from the model's own distribution, by u [N, 1] uniform in [0, 1) → int [N]. */
export const sampleLabels = <T>(ops: Primitives<T>, x: T, head: T, u: T, options: HeadOptions = {}): T => {
  const of = ops.blocks.head
  const us = of === 1 ? [u] : Array.from({ length: of }, (_, i) => ops.part(u, { axis: 0, from: i, to: i + 1, of }))
  return joined(ops, inBlocks(ops, x, (rows, i) => ops.sampleRows(ops.softmax(logits(ops, rows, head, options)), us[i])))
}

/** Before the soft cap: [N, V] */
const rawLogits = <T>(ops: Primitives<T>, x: T, head: T, { logitScale = 1 }: HeadOptions): T =>
  ops.matmul(x, head, logitScale === 1 ? { transB: true } : { transB: true, alpha: logitScale })

const logits = <T>(ops: Primitives<T>, x: T, head: T, options: HeadOptions): T => capped(ops, rawLogits(ops, x, head, options), options)

/** The logit of each row's own label, before the soft cap: [N, 1] */
const labelLogits = <T>(ops: Primitives<T>, x: T, head: T, labels: T, { logitScale = 1 }: HeadOptions): T => {
  const label = ops.sum(ops.mul(x, ops.gather(head, labels)), { axes: [-1], keep: true })
  return logitScale === 1 ? label : ops.scale(label, logitScale)
}

const capped = <T>(ops: Primitives<T>, raw: T, { softCap }: HeadOptions): T =>
  softCap === undefined ? raw : ops.scale(ops.tanh(ops.scale(raw, 1 / softCap)), softCap)

/** ∂ capped / ∂ raw = 1 − tanh²(raw / c) */
const slope = <T>(ops: Primitives<T>, raw: T, softCap: number): T => {
  const t = ops.tanh(ops.scale(raw, 1 / softCap))
  return ops.shift(ops.scale(ops.mul(t, t), -1), 1)
}

const inBlocks = <T>(ops: Primitives<T>, x: T, each: (rows: T, i: number) => T): readonly T[] => {
  const of = ops.blocks.head
  if (of === 1) return [each(x, 0)]
  return Array.from({ length: of }, (_, i) => each(ops.part(x, { axis: 0, from: i, to: i + 1, of }), i))
}

const joined = <T>(ops: Primitives<T>, parts: readonly T[]): T => (parts.length === 1 ? parts[0] : ops.concat(parts, 0))
