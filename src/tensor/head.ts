/**
 * @file The output head and its loss, in row blocks: of [N, V] logits only one block need exist at a time, which at
 * V = 49,152 and N = 2,048 is 400 MB a tensor. The one-hot labels are never formed: with p = softmax(x Wᵀ),
 * loss = logΣexp(x Wᵀ) − x·W[label] and ∂loss/∂x = p W − W[label].
 */
import type { HeadOptions, Primitives } from './ops.js'

/** x [N, D], head [V, D], labels int [N] → [N, 1], nats. */
export const tokenLossesForward = <T>(ops: Primitives<T>, x: T, head: T, labels: T, { logitScale = 1 }: HeadOptions = {}): T => {
  const label = ops.sum(ops.mul(x, ops.gather(head, labels)), { axes: [-1], keep: true }) // [N, 1]
  const all = joined(ops, inBlocks(ops, x, (rows) => ops.logSumExp(logits(ops, rows, head, logitScale))))
  return ops.sub(all, logitScale === 1 ? label : ops.scale(label, logitScale))
}

/** ∂/∂x from g = ∂/∂losses [N, 1]: [N, D] */
export const tokenLossesBackward = <T>(ops: Primitives<T>, g: T, x: T, head: T, labels: T, { logitScale = 1 }: HeadOptions = {}): T => {
  const expected = joined(ops, inBlocks(ops, x, (rows) => ops.matmul(ops.softmax(logits(ops, rows, head, logitScale)), head)))
  const dx = ops.mul(g, ops.sub(expected, ops.gather(head, labels)))
  return logitScale === 1 ? dx : ops.scale(dx, logitScale)
}

/** Labels drawn from the model's own distribution, by u [N, 1] uniform in [0, 1) → int [N]. */
export const sampleLabels = <T>(ops: Primitives<T>, x: T, head: T, u: T, { logitScale = 1 }: HeadOptions = {}): T => {
  const of = ops.blocks.head
  const us = of === 1 ? [u] : Array.from({ length: of }, (_, i) => ops.part(u, { axis: 0, from: i, to: i + 1, of }))
  return joined(ops, inBlocks(ops, x, (rows, i) => ops.sampleRows(ops.softmax(logits(ops, rows, head, logitScale)), us[i])))
}

const logits = <T>(ops: Primitives<T>, x: T, head: T, logitScale: number): T =>
  ops.matmul(x, head, logitScale === 1 ? { transB: true } : { transB: true, alpha: logitScale })

const inBlocks = <T>(ops: Primitives<T>, x: T, each: (rows: T, i: number) => T): readonly T[] => {
  const of = ops.blocks.head
  if (of === 1) return [each(x, 0)]
  return Array.from({ length: of }, (_, i) => each(ops.part(x, { axis: 0, from: i, to: i + 1, of }), i))
}

const joined = <T>(ops: Primitives<T>, parts: readonly T[]): T => (parts.length === 1 ? parts[0] : ops.concat(parts, 0))
