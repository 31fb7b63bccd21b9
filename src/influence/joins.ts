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
 *
 * A document's scores are the same bits whatever it is batched with. Sums are therefore written in forms whose order of
 * addition ONNX Runtime does not choose by B (measured in test/influence/alone.test.ts):
 *
 *   - products with one row or column have a kernel of their own, except where a factor is applied: `unswayed` applies ½;
 *   - a product over K is summed in runs of K whose length depends on how many columns a thread has. It is constant up
 *     to 16 columns, hence `documentsAtOnceMax`, and where the left operand is transposed;
 *   - a sum over an axis is written as one over the last, of whole rows.
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
  /** G [B, ...gradientShape] */
  readonly gradient: T
}

export interface Join {
  /** What the queries bring, by the names that `dot` asks for. */
  readonly inputs: (layer: LinearLayer, shape: JoinShape) => Readonly<Record<string, InputSpec>>
  /** ⟨Q̃, ∇L⟩ of this layer: [B, Q] */
  readonly dot: <T>(ops: Ops<T>, layer: LinearLayer, shape: JoinShape, batch: JoinInput<T>, value: (name: string) => T) => T
}

/** Documents that one batch may have: with more, the order of sums in the dense and shared join would depend on B. */
export const documentsAtOnceMax = 16

const float = (...shape: readonly number[]): InputSpec => ({ type: 'float32', shape })

/** x yᵀ: [M, K] · [N, K] → [N, M], with the same bits for a row of y whatever other rows there are, up to 16. */
const unswayed = <T>(ops: Ops<T>, x: T, y: T): T =>
  ops.scale(ops.transpose(ops.matmul(x, y, { transB: true, alpha: 0.5 }), [1, 0]), 2)

/** Every document's tokens in a basis: [I, N]ᵀ · [B, T, I]ᵀ → [B, N, T], a product for each document. */
const projected = <T>(ops: Ops<T>, basis: T, x: T): T => ops.matmul(basis, x, { transA: true, transB: true })

export const joins: Readonly<Record<JoinKind, Join>> = {
  dense: {
    inputs: (layer, { queries }) => ({ [`Q/${layer.name}`]: float(queries, layer.outputs * inputWidth(layer)) }),
    dot: (ops, layer, _shape, { gradient }, value) =>
      // The longer operand on the left is read once and by all threads; the other way round takes 1.3 times as long.
      unswayed(ops, value(`Q/${layer.name}`), ops.reshape(gradient, [0, -1])),
  },

  'low-rank': {
    inputs: (layer, { queries, rank }) => {
      const r = lowRankOf(layer, rank)
      return { [`U/${layer.name}`]: float(layer.outputs, queries * r), [`V/${layer.name}`]: float(inputWidth(layer), queries * r) }
    },
    dot: (ops, layer, { queries }, { delta, input }, value) => {
      const products = ops.mul(projected(ops, value(`U/${layer.name}`), delta), projected(ops, value(`V/${layer.name}`), input)) // [B, Q·R, T]
      return ops.sum(ops.reshape(products, [0, queries, -1]), { axes: [-1] }) // over R and T
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
      const [d, a] = [projected(ops, value(`P/${layer.name}`), delta), projected(ops, value(`R/${layer.name}`), input)] // [B, k, T]
      const gradient = ops.matmul(d, a, { transB: true }) // [B, kO, kI]
      return unswayed(ops, value(`C/${layer.name}`), ops.reshape(gradient, [0, -1])) // [Q, kO·kI] · [B, kO·kI]ᵀ
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
