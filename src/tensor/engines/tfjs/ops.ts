/**
 * @file The primitives on TensorFlow.js tensors: float32, and int32 for ids. Only forward operations of it are used;
 * gradients are the tape's (tensor/tape.ts). Where a kernel of the JavaScript backend differs from the others, the
 * operation is put together from ones that agree.
 */
import type * as TF from '@tensorflow/tfjs-core'
import type { MatmulOptions, Primitives } from '../../ops.js'
import type { Operation } from './recording.js'

type Tensor = TF.Tensor

/** Causal biases kept from one layer to the next, of as many lengths and windows. */
const biasesMax = 8

export const tfjsOps = (tf: typeof TF): { readonly ops: Pick<Primitives<Tensor>, Operation>; dispose(): void } => {
  const scalar = (value: number): Tensor => tf.scalar(value, 'float32')
  const axisOf = (x: Tensor, axis: number): number => (axis < 0 ? axis + x.rank : axis)
  const cut = (x: Tensor, axis: number, from: number, to: number): Tensor => {
    const at = axisOf(x, axis)
    return tf.slice(x, x.shape.map((_, a) => (a === at ? from : 0)), x.shape.map((length, a) => (a === at ? to - from : length)))
  }
  const zeros = (shape: readonly number[]): Tensor => tf.zeros([...shape], 'float32')
  /** TensorFlow refuses some operations on tensors without elements. */
  const unlessEmpty = (x: Tensor, shape: readonly number[], compute: () => Tensor): Tensor => (x.size === 0 ? zeros(shape) : compute())
  /** T, the length of axis 1. */
  const tokensOf = ({ shape }: { readonly shape: readonly number[] }): number => shape[1]
  const rowShape = (x: Tensor): readonly number[] => [...x.shape.slice(0, -1), 1]

  const biases = new Map<string, Tensor>()
  const causalBias = (T: number, window = Infinity): Tensor => {
    const key = `${T} ${window}`
    const known = biases.get(key)
    if (known !== undefined) return known.clone()
    const values = new Float32Array(T * T)
    for (let i = 0; i < T; i++) for (let j = 0; j < T; j++) values[i * T + j] = j <= i && i - j < window ? 0 : -Infinity
    const bias = tf.keep(tf.tensor2d(values, [T, T], 'float32'))
    for (const [oldest, kept] of biases) {
      if (biases.size < biasesMax) break
      biases.delete(oldest)
      kept.dispose()
    }
    biases.set(key, bias)
    return bias.clone()
  }

  const ops: Pick<Primitives<Tensor>, Operation> = {
    add: (x, y) => tf.add(x, y),
    sub: (x, y) => tf.sub(x, y),
    mul: (x, y) => tf.mul(x, y),
    div: (x, y) => tf.div(x, y),
    scale: (x, factor) => (factor === -1 ? tf.neg(x) : tf.mul(x, scalar(factor))),
    shift: (x, term) => tf.add(x, scalar(term)),
    exp: (x) => tf.exp(x),
    tanh: (x) => tf.tanh(x),
    sigmoid: (x) => tf.sigmoid(x),
    erf: (x) => tf.erf(x),
    rsqrt: (x) => tf.rsqrt(x),
    matmul: (x, y, options = {}) => {
      const product = matmul(tf, x, y, options)
      return options.alpha === undefined || options.alpha === 1 ? product : tf.mul(product, scalar(options.alpha))
    },
    sum: (x, { axes, keep = false }) => tf.sum(x, [...axes], keep),
    sumSquares: (x, { axes, keep = false }) => tf.sum(tf.square(x), [...axes], keep),
    meanLast: (x) => unlessEmpty(x, rowShape(x), () => tf.mean(x, -1, true)),
    softmax: (x) => unlessEmpty(x, x.shape, () => tf.softmax(x)),
    logSumExp: (x) => unlessEmpty(x, rowShape(x), () => tf.logSumExp(x, -1, true)),
    reshape: (x, shape) => {
      const copied = shape.map((length, axis) => (length === 0 ? x.shape[axis] : length))
      const known = copied.reduce((size, length) => (length === -1 ? size : size * length), 1)
      return tf.reshape(x, copied.map((length) => (length === -1 ? (known === 0 ? 0 : x.size / known) : length)))
    },
    reshapeLike: (x, like) => tf.reshape(x, like.shape),
    transpose: (x, permutation) => tf.transpose(x, [...permutation]),
    part: (x, { axis, from, to, of }) => {
      const length = x.shape[axisOf(x, axis)]
      return cut(x, axis, Math.floor((length * from) / of), Math.floor((length * to) / of))
    },
    slice: (x, { axis, from, to }) => {
      const length = x.shape[axisOf(x, axis)]
      const place = (bound: number): number => (bound < 0 ? bound + length : Math.min(bound, length))
      return cut(x, axis, place(from), place(to))
    },
    concat: (xs, axis) => tf.concat([...xs], axisOf(xs[0], axis)),
    cutLike: (x, before, like, axis) => {
      const at = axisOf(like, axis)
      const from = before.reduce((sum, { shape }) => sum + shape[at], 0)
      return cut(x, at, from, from + like.shape[at])
    },
    zerosLike: (x) => zeros(x.shape),
    appendOne: (x) => tf.concat([x, tf.ones([...rowShape(x)], 'float32')], x.rank - 1),
    gather: (table, ids) => {
      const [rows, ...rest] = table.shape
      return ids.size === 0 || rows === 0 ? zeros([...ids.shape, ...rest]) : tf.gather(table, ids as TF.Tensor1D, 0)
    },
    scatterRows: (x, rows, like) => unlessEmpty(x, like.shape, () => tf.scatterND(tf.expandDims(rows, -1), x, [...like.shape])),
    causalBias: (like, window) => causalBias(tokensOf(like), window),
    positions: (like) => tf.tensor1d(Int32Array.from({ length: tokensOf(like) }, (_, i) => i), 'int32'),
    sampleRows: (probabilities, u) => sampleRows(tf, probabilities, u),
    topMask: (x, count) => {
      if (count === 0 || x.size === 0) return zeros(x.shape)
      const { indices } = tf.topk(x, count) // of equals the first
      return tf.cast(tf.sum(tf.oneHot(tf.cast(indices, 'int32'), x.shape[x.rank - 1]), -2), 'float32')
    },
  }
  return {
    ops,
    dispose: () => {
      for (const bias of biases.values()) bias.dispose()
      biases.clear()
    },
  }
}

/**
 * The JavaScript backend takes the leading axes of one operand modulo those of the other, which is not how numpy
 * broadcasts, so unequal ones are broadcast before. A matrix on the right is one product with all rows on the left.
 */
const matmul = (tf: typeof TF, x: Tensor, y: Tensor, { transA = false, transB = false }: MatmulOptions): Tensor => {
  const columns = y.shape[y.rank - (transB ? 2 : 1)]
  const [rowsX, columnsX] = transA ? [x.shape[x.rank - 1], x.shape[x.rank - 2]] : [x.shape[x.rank - 2], x.shape[x.rank - 1]]
  if (y.rank === 2 && x.rank > 2 && !transA && x.size > 0) {
    const flat = tf.matMul(tf.reshape(x, [-1, columnsX]), y, false, transB)
    return tf.reshape(flat, [...x.shape.slice(0, -1), columns])
  }
  const [batchX, batchY] = [x.shape.slice(0, -2), y.shape.slice(0, -2)]
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(batchX, batchY)
  if (x.size === 0 || y.size === 0) return tf.zeros([...batch, rowsX, columns], 'float32')
  const whole = (z: Tensor, own: readonly number[]): Tensor => (own.join() === batch.join() ? z : tf.broadcastTo(z, [...batch, ...z.shape.slice(-2)]))
  const left = whole(x, batchX)
  const right = whole(y, batchY)
  if (batch.length <= 1) return tf.matMul(left, right, transA, transB)
  const flat = (z: Tensor): Tensor => tf.reshape(z, [-1, ...z.shape.slice(-2)])
  return tf.reshape(tf.matMul(flat(left), flat(right), transA, transB), [...batch, rowsX, columns])
}

/** Summed here in float64, for a cumulative sum over a vocabulary in float32 is inexact. */
const sampleRows = (tf: typeof TF, probabilities: Tensor, u: Tensor): Tensor => {
  const [N, V] = probabilities.shape
  const p = probabilities.dataSync<'float32'>()
  const at = u.dataSync<'float32'>()
  const drawn = new Int32Array(N)
  for (let n = 0; n < N; n++) {
    let cumulative = 0
    let last = 0 // that has a chance: what is drawn where rounding left the sum below u
    let v = 0
    for (; v < V; v++) {
      const chance = p[n * V + v]
      if (chance > 0) last = v
      if ((cumulative += chance) > at[n]) break
    }
    drawn[n] = v < V ? v : last
  }
  return tf.tensor1d(drawn, 'int32')
}
