/**
 * @file Every composite of `Ops<T>`, over primitives alone: what an engine gets that brings no kernel of its own.
 * Attention and the head's loss live in their own files, as they are cut into row blocks.
 */
import { attentionForward } from './attention.js'
import { tokenLossesForward } from './head.js'
import type { Composites, Primitives } from './ops.js'

/** √(2/π), in the tanh approximation of gelu (Hendrycks and Gimpel 2016, arXiv 1606.08415). */
const GELU_SCALE = Math.sqrt(2 / Math.PI)
const GELU_CUBIC = 0.044715

export const composites = <T>(p: Primitives<T>): Composites<T> => ({
  linear: (x, weight, bias, { transposed }) => {
    const y = p.matmul(x, weight, { transB: !transposed })
    return bias === undefined ? y : p.add(y, bias)
  },

  layerNorm: (x, gamma, beta, { epsilon }) => {
    const centred = p.sub(x, p.meanLast(x))
    const variance = p.meanLast(p.mul(centred, centred))
    const y = p.mul(p.mul(centred, p.rsqrt(p.shift(variance, epsilon))), gamma)
    return beta === undefined ? y : p.add(y, beta)
  },

  rmsNorm: (x, gamma, { epsilon }) => {
    const meanSquare = p.meanLast(p.mul(x, x))
    return p.mul(p.mul(x, p.rsqrt(p.shift(meanSquare, epsilon))), gamma)
  },

  silu: (x) => p.mul(x, p.sigmoid(x)),

  // x Φ(x) = x/2 · (1 + erf(x/√2))
  gelu: (x) => p.mul(p.scale(x, 0.5), p.shift(p.erf(p.scale(x, Math.SQRT1_2)), 1)),

  // x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
  geluTanh: (x) => {
    const inner = p.scale(p.mul(x, p.shift(p.scale(p.mul(x, x), GELU_CUBIC), 1)), GELU_SCALE)
    return p.mul(p.scale(x, 0.5), p.shift(p.tanh(inner), 1))
  },

  rotary: (x, cos, sin) => {
    const half = (i: number): T => p.part(x, { axis: -1, from: i, to: i + 1, of: 2 }) // [B, T, H, r/2]
    const first = half(0)
    const second = half(1)
    const c = p.reshape(cos, [0, 1, -1]) // [T, 1, r/2], the same for all heads
    const s = p.reshape(sin, [0, 1, -1])
    return p.concat([p.sub(p.mul(first, c), p.mul(second, s)), p.add(p.mul(second, c), p.mul(first, s))], -1)
  },

  attention: (q, k, v, options) => attentionForward(p, p.blocks.attention, q, k, v, options),

  takeRows: (x, rows) => p.gather(x, rows),

  tokenLosses: (x, head, labels, options) => tokenLossesForward(p, x, head, labels, options),
})
