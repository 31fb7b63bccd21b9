/**
 * @file The plain engine: eager, float64, one loop per operation, written to be read. It is the oracle of every other
 * engine, so it checks each shape, index and option that it is given. Use it for tests and tiny models: a product
 * runs at some hundred MFLOP/s.
 */
import { composites } from '../composites.js'
import type { Ops, Primitives, SumOptions } from '../ops.js'

/** Row-major; integers are held exactly, as float64. */
export interface PlainTensor {
  readonly shape: readonly number[]
  readonly data: Float64Array
}

/** A tensor of `values`, which are copied. */
export const plainTensor = (values: ArrayLike<number>, shape: readonly number[]): PlainTensor => {
  if (values.length !== sizeOf(shape)) throw new RangeError(`${values.length} values for shape ${show(shape)}`)
  return { shape: [...shape], data: Float64Array.from(values) }
}

/** All operations in float64, on arrays. */
export const plainOps = (): Ops<PlainTensor> => ({ ...primitives, ...composites(primitives) })

const primitives: Primitives<PlainTensor> = {
  blocks: { attention: 1, head: 1 },

  constant: (values, shape, kind = 'float') => {
    const x = plainTensor(values, shape)
    if (kind === 'int' && !x.data.every(Number.isSafeInteger)) throw new RangeError('constant: not all are integers')
    return x
  },

  add: (x, y) => binary('add', x, y, (a, b) => a + b),
  sub: (x, y) => binary('sub', x, y, (a, b) => a - b),
  mul: (x, y) => binary('mul', x, y, (a, b) => a * b),
  div: (x, y) => binary('div', x, y, (a, b) => a / b),
  scale: (x, factor) => unary(x, (a) => a * factor),
  shift: (x, term) => unary(x, (a) => a + term),
  exp: (x) => unary(x, Math.exp),
  tanh: (x) => unary(x, Math.tanh),
  sigmoid: (x) => unary(x, (a) => 1 / (1 + Math.exp(-a))),
  erf: (x) => unary(x, erf),
  rsqrt: (x) => unary(x, (a) => 1 / Math.sqrt(a)),

  matmul: (x, y, { transA = false, transB = false, alpha = 1 } = {}) => {
    const left = matrices('matmul', x, transA)
    const right = matrices('matmul', y, transB)
    if (left.columns !== right.rows)
      throw new RangeError(`matmul: ${show(x.shape)}${transA ? 'ᵀ' : ''} × ${show(y.shape)}${transB ? 'ᵀ' : ''}`)
    const batch = broadcastShape('matmul', left.batch, right.batch, x.shape, y.shape)
    const [M, K, N] = [left.rows, left.columns, right.columns]
    const out = zeros([...batch, M, N])
    const offsetsX = broadcastOffsets(left.batch, batch)
    const offsetsY = broadcastOffsets(right.batch, batch)
    for (let b = 0; b < offsetsX.length; b++) {
      const x0 = offsetsX[b] * M * K
      const y0 = offsetsY[b] * K * N
      for (let m = 0; m < M; m++)
        for (let n = 0; n < N; n++) {
          let sum = 0
          let i = x0 + m * left.rowStride
          let j = y0 + n * right.columnStride
          for (let k = 0; k < K; k++) {
            sum += x.data[i] * y.data[j]
            i += left.columnStride
            j += right.rowStride
          }
          out.data[(b * M + m) * N + n] = alpha * sum
        }
    }
    return out
  },

  sum: (x, options) => reduce('sum', x, options, (a) => a),
  sumSquares: (x, options) => reduce('sumSquares', x, options, (a) => a * a),

  meanLast: (x) => alongLast('meanLast', x, 1, (row, out) => {
    out[0] = row.reduce((sum, a) => sum + a, 0) / row.length
  }),

  softmax: (x) => alongLast('softmax', x, lastOf('softmax', x), (row, out) => {
    const max = maximum(row)
    let sum = 0
    for (let i = 0; i < row.length; i++) sum += out[i] = Math.exp(row[i] - max)
    for (let i = 0; i < row.length; i++) out[i] /= sum
  }),

  logSumExp: (x) => alongLast('logSumExp', x, 1, (row, out) => {
    const max = maximum(row)
    let sum = 0
    for (const a of row) sum += Math.exp(a - max)
    out[0] = max + Math.log(sum)
  }),

  reshape: (x, shape) => {
    const wrong = (why: string): RangeError => new RangeError(`reshape: ${show(x.shape)} to ${show(shape)}: ${why}`)
    if (shape.filter((length) => length === -1).length > 1) throw wrong('more than one -1')
    const copied = shape.map((length, axis) => {
      if (length !== 0) return length
      if (axis >= x.shape.length) throw wrong(`no dimension ${axis} to copy`)
      return x.shape[axis]
    })
    const known = sizeOf(copied.filter((length) => length !== -1))
    const to = copied.map((length) => (length === -1 ? x.data.length / known : length))
    if (!to.every((length) => Number.isInteger(length) && length >= 0) || sizeOf(to) !== x.data.length)
      throw wrong('the sizes differ')
    return { shape: to, data: x.data }
  },

  reshapeLike: (x, like) => {
    if (sizeOf(like.shape) !== x.data.length) throw new RangeError(`reshapeLike: ${show(x.shape)} as ${show(like.shape)}`)
    return { shape: like.shape, data: x.data }
  },

  transpose: (x, permutation) => {
    const rank = x.shape.length
    if (permutation.length !== rank || new Set(permutation).size !== rank || permutation.some((a) => !(a >= 0 && a < rank)))
      throw new RangeError(`transpose: ${show(x.shape)} by ${show(permutation)}`)
    const strides = stridesOf(x.shape)
    return gatherStrided(x, permutation.map((a) => x.shape[a]), permutation.map((a) => strides[a]), 0)
  },

  part: (x, { axis, from, to, of }) => {
    if (!(Number.isInteger(of) && from >= 0 && from <= to && to <= of))
      throw new RangeError(`part: [${from}, ${to}) of ${of} of ${show(x.shape)}`)
    const length = x.shape[axisOf('part', x, axis)]
    return cut('part', x, axis, Math.floor((length * from) / of), Math.floor((length * to) / of))
  },

  slice: (x, { axis, from, to }) => {
    const length = x.shape[axisOf('slice', x, axis)]
    const place = (bound: number): number => (bound < 0 ? bound + length : Math.min(bound, length))
    return cut('slice', x, axis, place(from), place(to))
  },

  concat: (xs, axis) => {
    if (xs.length === 0) throw new RangeError('concat: nothing to join')
    const [first] = xs
    const at = axisOf('concat', first, axis)
    for (const x of xs)
      if (x.shape.length !== first.shape.length || x.shape.some((length, a) => a !== at && length !== first.shape[a]))
        throw new RangeError(`concat on axis ${axis}: ${show(first.shape)} and ${show(x.shape)}`)
    const out = zeros(first.shape.with(at, xs.reduce((sum, x) => sum + x.shape[at], 0)))
    const inner = sizeOf(first.shape.slice(at + 1))
    const rowOut = out.shape[at] * inner
    let start = 0
    for (const x of xs) {
      const row = x.shape[at] * inner
      for (let i = 0; i * row < x.data.length; i++) out.data.set(x.data.subarray(i * row, (i + 1) * row), i * rowOut + start)
      start += row
    }
    return out
  },

  cutLike: (x, before, like, axis) => {
    const at = axisOf('cutLike', like, axis)
    const from = before.reduce((sum, part) => sum + part.shape[at], 0)
    if (!sameShape(x.shape.with(at, like.shape[at]), like.shape))
      throw new RangeError(`cutLike: ${show(like.shape)} out of ${show(x.shape)} on axis ${axis}`)
    return cut('cutLike', x, axis, from, from + like.shape[at])
  },

  after: (x) => x,

  zerosLike: (x) => zeros(x.shape),

  appendOne: (x) => alongLast('appendOne', x, lastOf('appendOne', x) + 1, (row, out) => {
    out.set(row)
    out[row.length] = 1
  }),

  gather: (table, ids) => {
    const [N, ...rest] = table.shape
    if (N === undefined) throw new RangeError('gather: the table is a scalar')
    const width = sizeOf(rest)
    const out = zeros([...ids.shape, ...rest])
    ids.data.forEach((id, i) => {
      checkIndex('gather', id, N, table, ids)
      out.data.set(table.data.subarray(id * width, (id + 1) * width), i * width)
    })
    return out
  },

  scatterRows: (x, rows, like) => {
    const [N, D] = like.shape
    if (like.shape.length !== 2 || x.shape.length !== 2 || x.shape[1] !== D || !sameShape(rows.shape, [x.shape[0]]))
      throw new RangeError(`scatterRows: ${show(x.shape)} by rows ${show(rows.shape)} into ${show(like.shape)}`)
    if (new Set(rows.data).size !== rows.data.length) throw new RangeError('scatterRows: the rows are not distinct')
    const out = zeros([N, D])
    rows.data.forEach((row, i) => {
      checkIndex('scatterRows', row, N, like, rows)
      out.data.set(x.data.subarray(i * D, (i + 1) * D), row * D)
    })
    return out
  },

  causalBias: (like, window = Infinity) => {
    if (!(window >= 1)) throw new RangeError(`causalBias: window ${window}`)
    const T = lengthOf('causalBias', like)
    const out = zeros([T, T])
    for (let i = 0; i < T; i++)
      for (let j = 0; j < T; j++) out.data[i * T + j] = j <= i && i - j < window ? 0 : -Infinity
    return out
  },

  positions: (like) => {
    const T = lengthOf('positions', like)
    return { shape: [T], data: Float64Array.from({ length: T }, (_, i) => i) }
  },

  sampleRows: (probabilities, u) => {
    const [N, V] = probabilities.shape
    if (probabilities.shape.length !== 2 || !sameShape(u.shape, [N, 1]) || V === 0)
      throw new RangeError(`sampleRows: probabilities ${show(probabilities.shape)} by u ${show(u.shape)}`)
    const data = Float64Array.from({ length: N }, (_, n) => {
      const row = probabilities.data.subarray(n * V, (n + 1) * V)
      let cumulative = 0
      for (let v = 0; v < V; v++) if ((cumulative += row[v]) > u.data[n]) return v
      const last = row.findLastIndex((p) => p > 0) // rounding: the sum stayed below u
      if (last < 0) throw new RangeError(`sampleRows: row ${n} is no distribution`)
      return last
    })
    return { shape: [N], data }
  },

  topMask: (x, count) => {
    const width = x.shape.at(-1) ?? 0
    if (!(count >= 0 && count <= width)) throw new RangeError(`topMask: the ${count} largest of ${show(x.shape)}`)
    const data = new Float64Array(x.data.length)
    for (let from = 0; from < data.length; from += width) {
      const row = x.data.subarray(from, from + width)
      // A stable sort: of equals the first comes first.
      for (const place of [...row.keys()].sort((i, j) => row[j] - row[i]).slice(0, count)) data[from + place] = 1
    }
    return { shape: x.shape, data }
  },
}

const show = (shape: readonly number[]): string => `[${shape.join(', ')}]`
const sizeOf = (shape: readonly number[]): number => shape.reduce((size, length) => size * length, 1)
const zeros = (shape: readonly number[]): PlainTensor => ({ shape, data: new Float64Array(sizeOf(shape)) })
const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((length, axis) => length === b[axis])

const stridesOf = (shape: readonly number[]): number[] => {
  const strides = new Array<number>(shape.length)
  let stride = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride
    stride *= shape[axis]
  }
  return strides
}

const axisOf = (op: string, x: PlainTensor, axis: number): number => {
  const positive = axis < 0 ? axis + x.shape.length : axis
  if (!(Number.isInteger(axis) && positive >= 0 && positive < x.shape.length))
    throw new RangeError(`${op}: no axis ${axis} in ${show(x.shape)}`)
  return positive
}

const lastOf = (op: string, x: PlainTensor): number => x.shape[axisOf(op, x, -1)]

/** T, the length of axis 1. */
const lengthOf = (op: string, like: PlainTensor): number => like.shape[axisOf(op, like, 1)]

const checkIndex = (op: string, index: number, N: number, table: PlainTensor, ids: PlainTensor): void => {
  if (!(Number.isInteger(index) && index >= 0 && index < N))
    throw new RangeError(`${op}: index ${index} in a table of ${N} rows, ${show(table.shape)} by ${show(ids.shape)}`)
}

const maximum = (row: Float64Array): number => {
  let max = -Infinity
  for (const a of row) if (a > max || Number.isNaN(a)) max = a
  return max
}

const unary = (x: PlainTensor, f: (a: number) => number): PlainTensor => {
  const out = zeros(x.shape)
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i])
  return out
}

const binary = (op: string, x: PlainTensor, y: PlainTensor, f: (a: number, b: number) => number): PlainTensor => {
  const out = zeros(broadcastShape(op, x.shape, y.shape))
  const offsetsX = broadcastOffsets(x.shape, out.shape)
  const offsetsY = broadcastOffsets(y.shape, out.shape)
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[offsetsX[i]], y.data[offsetsY[i]])
  return out
}

/** The shape of two operands together, as numpy broadcasts. */
const broadcastShape = (
  op: string, a: readonly number[], b: readonly number[], shownA = a, shownB = b,
): readonly number[] => {
  const rank = Math.max(a.length, b.length)
  return Array.from({ length: rank }, (_, axis) => {
    const lengthA = a[axis - rank + a.length] ?? 1
    const lengthB = b[axis - rank + b.length] ?? 1
    if (lengthA !== lengthB && lengthA !== 1 && lengthB !== 1)
      throw new RangeError(`${op}: ${show(shownA)} and ${show(shownB)} do not broadcast`)
    return lengthA === 1 ? lengthB : lengthA
  })
}

/** For each element of shape `to`, in order, which element of `shape` it reads when that is broadcast. */
const broadcastOffsets = (shape: readonly number[], to: readonly number[]): Int32Array => {
  const own = stridesOf(shape)
  const missing = to.length - shape.length
  const strides = to.map((_, axis) => (axis < missing || shape[axis - missing] === 1 ? 0 : own[axis - missing]))
  return stridedOffsets(to, strides, 0)
}

/** start + Σ index · stride, for every index of a shape in row-major order. */
const stridedOffsets = (shape: readonly number[], strides: readonly number[], start: number): Int32Array => {
  const offsets = new Int32Array(sizeOf(shape))
  const index = new Array<number>(shape.length).fill(0)
  let offset = start
  for (let i = 0; i < offsets.length; i++) {
    offsets[i] = offset
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      offset += strides[axis]
      if (++index[axis] < shape[axis]) break
      offset -= strides[axis] * shape[axis]
      index[axis] = 0
    }
  }
  return offsets
}

const gatherStrided = (x: PlainTensor, shape: readonly number[], strides: readonly number[], start: number): PlainTensor => {
  const offsets = stridedOffsets(shape, strides, start)
  const out = zeros(shape)
  for (let i = 0; i < offsets.length; i++) out.data[i] = x.data[offsets[i]]
  return out
}

/** Elements `[from, to)` of an axis. */
const cut = (op: string, x: PlainTensor, axis: number, from: number, to: number): PlainTensor => {
  const at = axisOf(op, x, axis)
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= x.shape[at]))
    throw new RangeError(`${op}: [${from}, ${to}) of axis ${axis} of ${show(x.shape)}`)
  const strides = stridesOf(x.shape)
  return gatherStrided(x, x.shape.with(at, to - from), strides, from * strides[at])
}

/** Σ f(x) over some axes. */
const reduce = (op: string, x: PlainTensor, { axes, keep = false }: SumOptions, f: (a: number) => number): PlainTensor => {
  const summed = new Set(axes.map((axis) => axisOf(op, x, axis)))
  const kept = zeros(x.shape.map((length, axis) => (summed.has(axis) ? 1 : length)))
  const places = broadcastOffsets(kept.shape, x.shape) // where each element of x is added
  for (let i = 0; i < x.data.length; i++) kept.data[places[i]] += f(x.data[i])
  return keep ? kept : { shape: x.shape.filter((_, axis) => !summed.has(axis)), data: kept.data }
}

/** One row of the last axis to `width` numbers, for every row. */
const alongLast = (
  op: string, x: PlainTensor, width: number, f: (row: Float64Array, out: Float64Array) => void,
): PlainTensor => {
  const length = lastOf(op, x)
  const out = zeros([...x.shape.slice(0, -1), width])
  const rows = sizeOf(x.shape.slice(0, -1))
  for (let r = 0; r < rows; r++)
    f(x.data.subarray(r * length, (r + 1) * length), out.data.subarray(r * width, (r + 1) * width))
  return out
}

/** The last two axes as a matrix, perhaps transposed, and the axes before them. */
const matrices = (op: string, x: PlainTensor, transposed: boolean) => {
  if (x.shape.length < 2) throw new RangeError(`${op}: ${show(x.shape)} is not a matrix`)
  const [stored, width] = x.shape.slice(-2)
  const batch = x.shape.slice(0, -2)
  return transposed
    ? { batch, rows: width, columns: stored, rowStride: 1, columnStride: width }
    : { batch, rows: stored, columns: width, rowStride: width, columnStride: 1 }
}

/**
 * The error function, right to a few roundings of float64: below 3 its series of positive terms,
 * 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!, above it the continued fraction of 1 − erf (Abramowitz and Stegun, 7.1.6
 * and 7.1.14).
 */
const erf = (x: number): number => {
  const a = Math.abs(x)
  if (Number.isNaN(x) || a > 6) return Number.isNaN(x) ? x : Math.sign(x)
  if (a < 3) {
    let term = x
    let sum = x
    for (let n = 1; Math.abs(term) > Number.EPSILON * 1e-2 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1)
      sum += term
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
  }
  let fraction = a
  for (let n = 60; n >= 1; n--) fraction = a + n / 2 / fraction
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * fraction))
}
