/**
 * @file The joins (docs/method.md §5): from a batch's ā and δ in one layer, and the prepared queries, to ⟨Q̃_q, ∇L(z)⟩
 * for every query and document. Three ways to the same number; the table is total, so a join without its parts does not
 * compile.
 *
 *     join      FLOP a token and layer              bytes of the queries a layer   exact
 *     dense     2·I·O·Q/T  (G is formed anyway)     4·Q·I·O                        yes
 *     low-rank  2·Q·R·(I + O)                       4·Q·R·(I + O)                  no
 *     shared    2·k·(I + O) + 2·k²·(1 + Q/T)        4·(Q·k² + k·(I + O))           no
 *
 * G = Σ_t δ_t ā_tᵀ, 2·I·O a token, is formed by all three: ‖∇L(z)‖ needs it.
 */
import type { LinearLayer } from '../model/index.js'
import type { InputSpec, Ops } from '../tensor/index.js'
import { inputWidth } from './layers.js'
import { lowRankOf, sharedWidths } from './precondition.js'

export type JoinKind = 'dense' | 'low-rank' | 'shared'

export interface JoinShape {
  /** Q */
  readonly queries: number
  /** R of low-rank, k of shared; unused by dense. */
  readonly rank: number
}

/** One layer of a batch. */
export interface JoinInput<T> {
  /** δ [B, T, O], zero where padded. */
  readonly delta: T
  /** ā [B, T, I'] */
  readonly input: T
  /** G [B, O, I'] */
  readonly gradient: T
}

export interface Join {
  /** What the queries bring, by the names that `dot` asks for. */
  readonly inputs: (layer: LinearLayer, shape: JoinShape) => Readonly<Record<string, InputSpec>>
  /** ⟨Q̃, ∇L⟩ of this layer: [B, Q] */
  readonly dot: <T>(ops: Ops<T>, layer: LinearLayer, shape: JoinShape, batch: JoinInput<T>, value: (name: string) => T) => T
}

const float = (...shape: readonly number[]): InputSpec => ({ type: 'float32', shape })

export const joins: Readonly<Record<JoinKind, Join>> = {
  dense: {
    inputs: (layer, { queries }) => ({ [`Q/${layer.name}`]: float(queries, layer.outputs * inputWidth(layer)) }),
    dot: (ops, layer, _shape, { gradient }, value) =>
      // The longer operand on the left is read once and by all threads; the other way round takes 1.3 times as long.
      ops.transpose(ops.matmul(value(`Q/${layer.name}`), ops.reshape(gradient, [0, -1]), { transB: true }), [1, 0]),
  },

  'low-rank': {
    inputs: (layer, { queries, rank }) => {
      const r = lowRankOf(layer, rank)
      return { [`U/${layer.name}`]: float(layer.outputs, queries * r), [`V/${layer.name}`]: float(inputWidth(layer), queries * r) }
    },
    dot: (ops, layer, { queries, rank }, { delta, input }, value) => {
      const products = ops.mul(ops.matmul(delta, value(`U/${layer.name}`)), ops.matmul(input, value(`V/${layer.name}`))) // [B, T, Q·R]
      const byRank = ops.reshape(ops.sum(products, { axes: [1] }), [0, queries, lowRankOf(layer, rank)]) // [B, Q, R]
      return ops.sum(byRank, { axes: [2] })
    },
  },

  shared: {
    inputs: (layer, { queries, rank }) => {
      const [kO, kI] = sharedWidths(layer, rank)
      return {
        [`P/${layer.name}`]: float(layer.outputs, kO),
        [`R/${layer.name}`]: float(inputWidth(layer), kI),
        [`C/${layer.name}`]: float(queries, kO * kI),
      }
    },
    dot: (ops, layer, _shape, { delta, input }, value) => {
      const projected = ops.matmul(ops.matmul(delta, value(`P/${layer.name}`)), ops.matmul(input, value(`R/${layer.name}`)), { transA: true })
      return ops.matmul(ops.reshape(projected, [0, -1]), value(`C/${layer.name}`), { transB: true }) // [B, kO·kI] · [Q, kO·kI]ᵀ
    },
  },
}

/** FLOP of a join for a token of a document of T tokens, and bytes of its queries, over all tracked layers. */
export const joinCost = (kind: JoinKind, layers: readonly LinearLayer[], shape: JoinShape, tokens: number): { readonly flop: number; readonly bytes: number } => {
  const { queries: Q } = shape
  const each = layers.map((layer) => {
    const [I, O] = [inputWidth(layer), layer.outputs]
    if (kind === 'dense') return { flop: (2 * I * O * Q) / tokens, bytes: 4 * Q * I * O }
    if (kind === 'low-rank') {
      const R = lowRankOf(layer, shape.rank)
      return { flop: 2 * Q * R * (I + O), bytes: 4 * Q * R * (I + O) }
    }
    const [kO, kI] = sharedWidths(layer, shape.rank)
    return { flop: 2 * (kO * O + kI * I) + 2 * kO * kI * (1 + Q / tokens), bytes: 4 * (Q * kO * kI + kO * O + kI * I) }
  })
  return each.reduce((sum, { flop, bytes }) => ({ flop: sum.flop + flop, bytes: sum.bytes + bytes }), { flop: 0, bytes: 0 })
}
