/**
 * @file `Ops<Value>` by tracing: each operation adds nodes to an ONNX graph. Shapes stay unknown until the graph
 * runs; what needs one reads it inside the graph.
 *
 * `FusedMatMul`, `QuickGelu`, `SimplifiedLayerNormalization` and `RotaryEmbedding` are ONNX Runtime's own operators
 * (docs/ContribOperators.md there); the others are ONNX opset 17.
 */
import { composites } from '../../composites.js'
import type { Ops, Primitives } from '../../ops.js'
import type { GraphBuilder, Value } from './graph.js'
import type { Device } from './engine.js'
import { productsOf, type Products } from './products.js'

/** Beyond any axis: ONNX cuts a slice's end at the axis's length. */
const end = Number.MAX_SAFE_INTEGER

export interface OnnxOptions {
  /** Row blocks of causal attention; more compute less and run at a lower rate. */
  readonly attentionBlocks?: number
  /** Row blocks of the output head; more hold fewer logits at a time. */
  readonly headBlocks?: number
  /**
   * Whose graph it is, default: `cpu`. WebGPU refuses to work on an empty tensor, and its softmax gives a row of zeros where it
   * should give NaN; the CPU has kernels of its own for some operations.
   */
  readonly device?: Device
  /** Default: of float32. */
  readonly products?: Products
}

export const onnxOps = (graph: GraphBuilder, { attentionBlocks = 4, headBlocks = 4, device = 'cpu', products = productsOf(graph, undefined) }: OnnxOptions = {}): Ops<Value> => {
  const node = (op: string, inputs: readonly Value[], attributes: Parameters<GraphBuilder['node']>[2] = {}, domain = ''): Value =>
    graph.node(op, inputs, attributes, { domain })[0]
  const ints = (...values: readonly number[]): Value => graph.constant('int64', values, [values.length])
  const int = (value: number): Value => graph.constant('int64', [value], [])
  const float = (value: number): Value => graph.constant('float32', [value], [])
  const shape = (x: Value): Value => node('Shape', [x])
  /** The length of an axis: int64 [1]. */
  const length = (x: Value, axis: number): Value => node('Gather', [shape(x), ints(axis)], { axis: 0 })
  const slice = (x: Value, axis: number, from: Value, to: Value): Value => node('Slice', [x, from, to, ints(axis)])
  /** int64 [1]: ⌊length·i/of⌋ */
  const bound = (x: Value, axis: number, i: number, of: number): Value =>
    i === 0 ? ints(0) : i === of ? ints(end) : node('Div', [node('Mul', [length(x, axis), ints(i)]), ints(of)])

  /** ONNX Runtime leaves an empty tensor as it is where it should reduce an axis: a row block of the head may have no row. */
  const reducedLast = (x: Value): Value => slice(x, -1, ints(0), ints(1))

  /** An operation on rows, with a row of zeros added that goes again. `width` is that of the result: as it was, or 1. */
  const withRow = (x: Value, work: (rows: Value) => Value, width: 'same' | 1): Value => {
    if (device !== 'webgpu') return width === 1 ? reducedLast(work(x)) : work(x)
    const before = node('Slice', [shape(x), ints(0), ints(-1)]) // all lengths but the last
    const flat = node('Reshape', [x, node('Concat', [node('ReduceProd', [before], { keepdims: 1 }), length(x, -1)], { axis: 0 })], { allowzero: 1 })
    const row = node('Expand', [float(0), node('Concat', [ints(1), length(x, -1)], { axis: 0 })])
    const worked = slice(work(node('Concat', [flat, row], { axis: 0 })), 0, ints(0), ints(-1))
    return node('Reshape', [worked, width === 1 ? node('Concat', [before, ints(1)], { axis: 0 }) : shape(x)], { allowzero: 1 })
  }

  const primitives: Primitives<Value> = {
    blocks: { attention: attentionBlocks, head: headBlocks },
    constant: (values, dimensions, kind = 'float') => graph.constant(kind === 'float' ? 'float32' : 'int64', values, dimensions),
    add: (x, y) => node('Add', [x, y]),
    sub: (x, y) => node('Sub', [x, y]),
    mul: (x, y) => node('Mul', [x, y]),
    div: (x, y) => node('Div', [x, y]),
    scale: (x, factor) => (factor === -1 ? node('Neg', [x]) : node('Mul', [x, float(factor)])),
    shift: (x, term) => node('Add', [x, float(term)]),
    exp: (x) => node('Exp', [x]),
    tanh: (x) => node('Tanh', [x]),
    sigmoid: (x) => node('Sigmoid', [x]),
    erf: (x) => node('Erf', [x]),
    rsqrt: (x) => node('Reciprocal', [node('Sqrt', [x])]),
    matmul: (x, y, options) => products.matmul(x, y, options),
    sum: (x, { axes, keep = false }) => node('ReduceSum', [x, ints(...axes)], { keepdims: Number(keep) }),
    sumSquares: (x, { axes, keep = false }) => node('ReduceSumSquare', [x], { axes, keepdims: Number(keep) }),
    meanLast: (x) => node('ReduceMean', [x], { axes: [-1], keepdims: 1 }),
    softmax: (x) =>
      withRow(x, (rows) => {
        const shares = node('Softmax', [rows], { axis: -1 })
        return device === 'webgpu' ? node('Div', [shares, node('ReduceSum', [shares, ints(-1)], { keepdims: 1 })]) : shares // 0 / 0 is NaN again
      }, 'same'),
    logSumExp: (x) => {
      const greatest = (rows: Value): Value => node('ReduceMax', [rows], { axes: [-1], keepdims: 1 })
      const most = withRow(x, greatest, 1)
      // By LogSoftmax, whose greatest element is −log Σ exp(x − most): its logarithm is taken row by row, while that of the
      // operator Log differs in the last bit with a number's place in its tensor.
      const log = withRow(x, (rows) => greatest(node('LogSoftmax', [rows], { axis: -1 })), 1)
      return node('Sub', [most, log])
    },
    reshape: (x, dimensions) => node('Reshape', [x, ints(...dimensions)]),
    reshapeLike: (x, like) => node('Reshape', [x, shape(like)]),
    // ONNX Runtime folds a transpose into the product that reads it, but not through a reshape, which copies nothing.
    transpose: (x, permutation, { copied = false } = {}) => {
      const turned = node('Transpose', [x], { perm: permutation })
      return copied && device === 'cpu' ? node('Reshape', [turned, shape(turned)]) : turned
    },
    part: (x, { axis, from, to, of }) => slice(x, axis, bound(x, axis, from, of), bound(x, axis, to, of)),
    slice: (x, { axis, from, to }) => slice(x, axis, ints(from), ints(Number.isFinite(to) ? to : end)),
    concat: (xs, axis) => (xs.length === 1 ? xs[0] : node('Concat', xs, { axis })),
    cutLike: (x, before, like, axis) => {
      const from = before.reduce((sum, b) => node('Add', [sum, length(b, axis)]), ints(0))
      return slice(x, axis, from, node('Add', [from, length(like, axis)]))
    },
    // A reshape to its own shape, which copies nothing; the shape is computed from that of `done`, times zero.
    after: (x, done) => node('Reshape', [x, node('Add', [shape(x), node('Mul', [length(done, 0), ints(0)])])]),
    zerosLike: (x) => node('Expand', [float(0), shape(x)]),
    // Pad wants a pair of counts for every axis; a rank that the graph knows only when it runs needs Concat instead.
    appendOne: (x) => {
      const one = node('Expand', [float(1), node('Concat', [node('Slice', [shape(x), ints(0), ints(-1)]), ints(1)], { axis: 0 })])
      return node('Concat', [x, one], { axis: -1 })
    },
    gather: (table, ids) => products.gather(table, ids),
    scatterRows: (x, rows, like) => node('ScatterND', [node('Expand', [float(0), shape(like)]), node('Unsqueeze', [rows, ints(-1)]), x]),
    causalBias: (like, window) => {
      const at = positions(like)
      const distance = node('Sub', [node('Unsqueeze', [at, ints(1)]), node('Unsqueeze', [at, ints(0)])]) // [T, T], i − j
      const future = node('Less', [distance, int(0)])
      const hidden = window === undefined ? future : node('Or', [future, node('GreaterOrEqual', [distance, int(window)])])
      return node('Where', [hidden, float(-Infinity), float(0)])
    },
    positions: (like) => positions(like),
    sampleRows: (probabilities, u) => sampleRows(probabilities, u),
    topMask: (x, count) => {
      const [, places] = graph.node('TopK', [x, ints(count)], { axis: -1 }, { outputs: 2 })
      const zeros = node('Expand', [float(0), shape(x)])
      return node('ScatterElements', [zeros, places, node('Expand', [float(1), shape(places)])], { axis: -1 })
    },
  }

  const positions = (like: Value): Value => node('Range', [int(0), node('Squeeze', [length(like, 1), ints(0)]), int(1)])

  /**
   * In two steps, since a cumulative sum over the whole vocabulary is slow and inexact: the chunk of the row in which
   * the distribution function passes u, then the place in that chunk. Rounding may leave the last sum below u: then it is
   * the last that has a chance at all.
   */
  const sampleRows = (probabilities: Value, u: Value): Value => {
    const width = 256
    const count = node('Div', [node('Add', [length(probabilities, -1), ints(width - 1)]), ints(width)]) // chunks C, [1]
    const missing = node('Sub', [node('Mul', [count, ints(width)]), length(probabilities, -1)])
    const padded = node('Pad', [probabilities, node('Concat', [ints(0, 0, 0), missing], { axis: 0 })])
    const rows = length(probabilities, 0)
    const chunks = node('Reshape', [padded, node('Concat', [rows, count, ints(width)], { axis: 0 })]) // [N, C, 256]
    const range = (to: Value): Value => node('Range', [int(0), node('Squeeze', [to, ints(0)]), int(1)])
    const integers = (x: Value): Value => node('Cast', [x], { to: 7 })
    /** The first place where `sums` exceed `at`, at most the last where `weights` are positive: int [N, 1]. */
    const first = (sums: Value, at: Value, weights: Value): Value => {
      const passed = reducedLast(node('ReduceSum', [integers(node('LessOrEqual', [sums, at])), ints(-1)], { keepdims: 1 }))
      const chances = node('Mul', [integers(node('Greater', [weights, float(0)])), range(length(weights, -1))])
      return node('Min', [passed, reducedLast(node('ReduceMax', [chances], { axes: [-1], keepdims: 1 }))])
    }
    const perChunk = node('Squeeze', [reducedLast(node('ReduceSum', [chunks, ints(-1)], { keepdims: 1 })), ints(-1)]) // [N, C]
    const upTo = node('CumSum', [perChunk, int(-1)])
    const chunk = first(upTo, u, perChunk)
    const before = node('GatherElements', [node('Pad', [upTo, ints(0, 1, 0, 0)]), chunk], { axis: 1 }) // sum of earlier chunks
    const row = node('Unsqueeze', [range(rows), ints(1)])
    const flat = node('Reshape', [chunks, ints(-1, width)]) // [N·C, 256]
    const one = node('Gather', [flat, node('Squeeze', [node('Add', [node('Mul', [row, count]), chunk]), ints(1)])], { axis: 0 }) // [N, 256]
    const within = first(node('CumSum', [one, int(-1)]), node('Sub', [u, before]), one)
    return node('Squeeze', [node('Add', [node('Mul', [chunk, ints(width)]), within]), ints(1)])
  }

  const plain = composites(primitives)
  return {
    ...primitives,
    ...plain,
    // [B, T, H·r], from position 0 on. A sixth of the time of its parts, which on a GPU are left as they are known to work.
    rotary: (x, cos, sin) =>
      device === 'cpu'
        ? node('Reshape', [node('RotaryEmbedding', [node('Reshape', [x, ints(0, 0, -1)]), ints(0), cos, sin], {}, 'com.microsoft'), shape(x)])
        : plain.rotary(x, cos, sin),
    rmsNorm: (x, gamma, { epsilon }) => node('SimplifiedLayerNormalization', [x, gamma], { axis: -1, epsilon: { float: epsilon }, stash_type: 1 }),
    layerNorm: (x, gamma, beta, { epsilon }) =>
      node('LayerNormalization', beta === undefined ? [x, gamma] : [x, gamma, beta], { axis: -1, epsilon: { float: epsilon } }),
  }
}
