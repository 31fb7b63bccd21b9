/**
 * @file Matrix products of a width. Everything else in a program is float32; what a product of 16 bits takes is rounded to
 * them on its way in, and what it gives is of 16 bits too. Two forms of the same rounding:
 *
 *     on a GPU    x ─Cast 16─▶ MatMul of 16 bits ─Cast 32─▶ y           adds up in float32 (cuBLAS does)
 *     on the CPU  x ─Cast 16─▶ Cast 32 ─▶ MatMul ─Cast 16─▶ Cast 32 ─▶ y
 *
 * since ONNX Runtime's CPU provider has no products of 16 bits on x64: it would put such casts around them itself, for
 * float16, and refuse bfloat16.
 */
import type { MatmulOptions } from '../../ops.js'
import type { NarrowType } from '../narrow.js'
import type { GraphBuilder, Value } from './graph.js'

export interface Width {
  readonly type: NarrowType
  /** The device multiplies numbers of this width; else it multiplies float32. */
  readonly native: boolean
}

export interface Products {
  matmul(x: Value, y: Value, options?: MatmulOptions): Value
  /** Rows of a table of float32, as `Gather`. */
  gather(table: Value, ids: Value): Value
  /** The float32 value of one of 16 bits; products and `gather` then take that one itself. */
  widen(narrow: Value): Value
  /** Says that a float32 value was rounded before. */
  isRounded(value: Value): void
}

// onnx.proto, TensorProto.DataType
const code = { float32: 1, float16: 10, bfloat16: 16 } as const

export const productsOf = (graph: GraphBuilder, width: Width | undefined): Products => {
  const node = (op: string, inputs: readonly Value[], attributes: Parameters<GraphBuilder['node']>[2] = {}, domain = ''): Value =>
    graph.node(op, inputs, attributes, { domain })[0]
  const product = (x: Value, y: Value, { transA = false, transB = false, alpha = 1 }: MatmulOptions): Value =>
    !transA && !transB && alpha === 1
      ? node('MatMul', [x, y])
      : node('FusedMatMul', [x, y], { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } }, 'com.microsoft')
  const gathered = (table: Value, ids: Value): Value => node('Gather', [table, ids], { axis: 0 })
  const cast = (x: Value, type: keyof typeof code): Value => node('Cast', [x], { to: code[type] })

  if (width === undefined)
    return { matmul: (x, y, options = {}) => product(x, y, options), gather: gathered, widen: (narrow) => cast(narrow, 'float32'), isRounded: () => undefined }

  if (width.native) {
    /** By a float32 value, the one of 16 bits that it was widened from. */
    const narrowOf = new Map<Value, Value>()
    const widen = (narrow: Value): Value => {
      const wide = cast(narrow, 'float32')
      narrowOf.set(wide, narrow)
      return wide
    }
    const operand = (x: Value): Value => narrowOf.get(x) ?? cast(x, width.type)
    return {
      matmul: (x, y, options = {}) => widen(product(operand(x), operand(y), options)),
      gather: (table, ids) => {
        const narrow = narrowOf.get(table)
        return narrow === undefined ? gathered(table, ids) : widen(gathered(narrow, ids))
      },
      widen,
      isRounded: () => undefined,
    }
  }

  const known = new Set<Value>()
  const widen = (narrow: Value): Value => {
    const wide = cast(narrow, 'float32')
    known.add(wide)
    return wide
  }
  const operand = (x: Value): Value => (known.has(x) ? x : widen(cast(x, width.type)))
  return {
    matmul: (x, y, options = {}) => widen(cast(product(operand(x), operand(y), options), width.type)),
    gather: (table, ids) => {
      const rows = gathered(table, ids)
      if (known.has(table)) known.add(rows)
      return rows
    },
    widen,
    isRounded: (value) => void known.add(value),
  }
}
