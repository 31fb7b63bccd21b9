/**
 * @file `Ops<Shaped>`: operations that compute nothing but shapes, with the lengths that only a run knows under their names
 * (`B`, `T`). A program that is built with them before it is compiled is refused where it stands for what no graph would tell
 * before it runs: a watched variable that is broadcast (tape.ts). What cannot be known is left open and not judged.
 */
import { composites } from './composites.js'
import type { ProgramSpec } from './engine.js'
import type { Ops, Primitives } from './ops.js'

/** A length: a number, or a name such as `T`, `B·T`, `T[0-1/4]`. */
export type Dim = number | string

/** A tensor that is only its shape; undefined where it is not known. */
export interface Shaped {
  readonly shape: readonly Dim[] | undefined
}

/** @throws RangeError for a watched variable that is broadcast; whatever else is wrong with a program is its engine's to say */
export const checkShapes = (spec: ProgramSpec): void => {
  spec.build<Shaped>(shapeOps, (name) => ({ shape: spec.inputs[name]?.shape }), (name) => ({ shape: spec.weights.get(name)?.shape }))
}

const unknown: Shaped = { shape: undefined }
/** What `f` makes of the shapes, if all are known and there is something to be made of them. */
const from = (xs: readonly Shaped[], f: (...shapes: readonly (readonly Dim[])[]) => readonly (Dim | undefined)[]): Shaped => {
  const shapes = xs.flatMap(({ shape }) => (shape === undefined ? [] : [shape]))
  if (shapes.length < xs.length) return unknown
  const made = f(...shapes)
  return made.includes(undefined) ? unknown : { shape: made.flatMap((dim) => dim ?? []) }
}
const same = (x: Shaped): Shaped => x
const at = (shape: readonly Dim[], axis: number): Dim | undefined => shape.at(axis)
const withAxis = (shape: readonly Dim[], axis: number, change: (dim: Dim) => Dim): readonly Dim[] =>
  shape.map((dim, i) => (i === (axis < 0 ? axis + shape.length : axis) ? change(dim) : dim))

const broadcast = (x: readonly Dim[], y: readonly Dim[]): readonly Dim[] =>
  Array.from({ length: Math.max(x.length, y.length) }, (_, i, n = Math.max(x.length, y.length)) => {
    const [a, b] = [x[i - n + x.length] ?? 1, y[i - n + y.length] ?? 1]
    return a === 1 ? b : b === 1 || typeof a === 'number' ? a : b
  })

/** Factors of a product of lengths: its number, and its names in order. */
const factorsOf = (dims: readonly Dim[]): { readonly number: number; readonly names: readonly string[] } => {
  const parts = dims.flatMap((dim) => (typeof dim === 'number' ? [dim] : dim.split('·').map((part) => (/^\d+$/.test(part) ? Number(part) : part))))
  return {
    number: parts.reduce<number>((product, part) => product * (typeof part === 'number' ? part : 1), 1),
    names: parts.filter((part) => typeof part === 'string').sort(),
  }
}

/** The length that makes `dims` and it hold as many numbers as `all`; undefined if it cannot be told. */
const rest = (all: readonly Dim[], dims: readonly Dim[]): Dim | undefined => {
  const [whole, known] = [factorsOf(all), factorsOf(dims)]
  const names = [...whole.names]
  for (const name of known.names) {
    const place = names.indexOf(name)
    if (place < 0) return undefined
    names.splice(place, 1)
  }
  const number = whole.number / known.number
  return Number.isInteger(number) ? productOf([number, ...names]) : undefined
}

const productOf = (dims: readonly Dim[]): Dim => {
  const { number, names } = factorsOf(dims)
  return names.length === 0 ? number : [...(number === 1 ? [] : [String(number)]), ...names].join('·')
}

const sum = (x: Shaped, { axes, keep = false }: { readonly axes: readonly number[]; readonly keep?: boolean }): Shaped =>
  from([x], (shape) => {
    const gone = new Set(axes.map((axis) => (axis < 0 ? axis + shape.length : axis)))
    return keep ? shape.map((dim, i) => (gone.has(i) ? 1 : dim)) : shape.filter((_, i) => !gone.has(i))
  })
const both = (x: Shaped, y: Shaped): Shaped => from([x, y], broadcast)
const lastIsOne = (x: Shaped): Shaped => from([x], (shape) => withAxis(shape, -1, () => 1))

const sliced = (dim: Dim, begin: number, to: number): Dim => {
  if (typeof dim === 'number') {
    const place = (i: number): number => Math.min(Math.max(i < 0 ? i + dim : i, 0), dim)
    return Math.max(place(to) - place(begin), 0)
  }
  if (begin === 0 && to === Infinity) return dim
  if (begin < 0 && to === Infinity) return -begin
  return Number.isFinite(to) && begin >= 0 === to >= 0 ? to - begin : `${dim}[${begin}:${to}]`
}

const primitives: Primitives<Shaped> = {
  blocks: { attention: 1, head: 1 },
  constant: (_values, shape) => ({ shape }),
  add: both, sub: both, mul: both, div: both,
  scale: same, shift: same, exp: same, tanh: same, sigmoid: same, erf: same, rsqrt: same,
  matmul: (x, y, { transA = false, transB = false } = {}) =>
    from([x, y], (left, right) => [
      ...broadcast(left.slice(0, -2), right.slice(0, -2)), at(left, transA ? -1 : -2), at(right, transB ? -2 : -1),
    ]),
  sum, sumSquares: sum,
  meanLast: lastIsOne, softmax: same, logSumExp: lastIsOne,
  reshape: (x, wanted) =>
    from([x], (shape) => {
      const dims = wanted.map((dim, i) => (dim === 0 ? shape.at(i) : dim))
      return dims.map((dim) => (dim === -1 ? rest(shape, dims.flatMap((other) => (other === -1 || other === undefined ? [] : other))) : dim))
    }),
  reshapeLike: (_x, like) => like,
  transpose: (x, permutation) => from([x], (shape) => permutation.map((axis) => at(shape, axis))),
  part: (x, { axis, from: begin, to, of }) =>
    from([x], (shape) => withAxis(shape, axis, (dim) => {
      if (begin === 0 && to === of) return dim
      return typeof dim === 'number' ? Math.floor((dim * to) / of) - Math.floor((dim * begin) / of) : `${dim}[${begin}-${to}/${of}]`
    })),
  slice: (x, { axis, from: begin, to }) => from([x], (shape) => withAxis(shape, axis, (dim) => sliced(dim, begin, to))),
  concat: (xs, axis) =>
    from(xs, (...shapes) => withAxis(shapes[0], axis, () => {
      const dims = shapes.map((shape) => at(shape, axis) ?? '?')
      if (dims.every((dim) => typeof dim === 'number')) return dims.reduce((all, dim) => all + dim, 0)
      return dims.every((dim) => dim === dims[0]) ? productOf([dims.length, ...dims.slice(0, 1)]) : dims.filter((dim) => dim !== 0).join('+')
    })),
  cutLike: (_x, _before, like) => like,
  zerosLike: same,
  after: same,
  appendOne: (x) => from([x], (shape) => withAxis(shape, -1, (dim) => (typeof dim === 'number' ? dim + 1 : `${dim}+1`))),
  gather: (table, ids) => from([table, ids], (rows, places) => [...places, ...rows.slice(1)]),
  scatterRows: (_x, _rows, like) => like,
  causalBias: (like) => from([like], (shape) => [at(shape, 1), at(shape, 1)]),
  positions: (like) => from([like], (shape) => [at(shape, 1)]),
  sampleRows: (probabilities) => from([probabilities], (shape) => [at(shape, 0)]),
  topMask: same,
}

export const shapeOps: Ops<Shaped> = { ...primitives, ...composites(primitives) }
