/**
 * @file Reverse-mode differentiation around any `Ops<T>`: `tape(ops)` gives the same operations on `Variable<T>`,
 * records those that a watched variable flows through, and `gradients` walks them backwards.
 *
 * Only what is asked for is computed. A tensor that no watched variable flows into is a constant, so nothing below
 * the lowest tracked layer is recorded; weights are never watched, so no weight gradient exists anywhere.
 *
 * A variable that is watched (or computed from one) may not be broadcast by add, sub, mul or div: its gradient would
 * need a sum over axes whose length a traced graph does not know. Models broadcast only constants. Handles that know their
 * shape (engines/plain.ts, and shapes.ts, through which every program goes before an engine compiles it) are held to it.
 */
import { attentionBackward } from './attention.js'
import { tokenLossesBackward } from './head.js'
import type { Ops } from './ops.js'

/** A value on the tape. */
export interface Variable<T> {
  readonly value: T
  /** The operation that made it, if a watched variable flows into it. */
  readonly record: TapeRecord<T> | undefined
}

export interface Tape<T> {
  readonly ops: Ops<Variable<T>>
  /** A value that gradients do not flow to. */
  constant(value: T): Variable<T>
  /** The same value as a variable of its own, whose gradient can be asked for; gradients flow on to `x`. */
  watch(x: Variable<T>): Variable<T>
  /**
   * ∂/∂x of every x in `of`, given `seed` = ∂/∂output.
   * @param use called with each gradient as soon as it is whole; what it returns is computed before the backward pass
   *   goes on below that variable, so that the gradient need not be kept (`Ops.after`)
   * @throws RangeError if the output does not depend on one of them
   */
  gradients(output: Variable<T>, seed: T, of: readonly Variable<T>[], use?: (index: number, gradient: T) => readonly T[]): readonly T[]
}

interface TapeRecord<T> {
  /** Inputs that gradients flow to, each with how its gradient comes from that of the output. */
  readonly edges: readonly { readonly to: Variable<T>; readonly gradient: (g: T) => T }[]
}

/** How the gradient of each argument comes from g = ∂/∂out; null where none flows. A list for `concat`'s list. */
type Pull<T> = (g: T) => T
type Pulls<T> = readonly (Pull<T> | readonly Pull<T>[] | null)[]
type Operations = Omit<Ops<unknown>, 'blocks'>
type Name = keyof Operations
/**
 * `constant`: the result does not depend on the values, or is cut off on purpose. `refused`: it does, and no gradient
 * is written; a watched variable that flows into one is an error.
 */
type Rule<Op extends Name> = 'constant' | 'refused' | (<T>(ops: Ops<T>, out: T, args: Parameters<Ops<T>[Op]>) => Pulls<T>)
type Rules = { readonly [Op in Name]: Rule<Op> }

const rules: Rules = {
  constant: 'constant',
  causalBias: 'constant',
  positions: 'constant',
  after: () => [(g) => g, null],
  zerosLike: 'constant',
  sampleRows: 'constant',
  topMask: 'constant',
  gather: 'refused', // embeddings are not attributed
  cutLike: 'refused',
  add: () => [(g) => g, (g) => g],
  sub: (ops) => [(g) => g, (g) => ops.scale(g, -1)],
  mul: (ops, _out, [x, y]) => [(g) => ops.mul(g, y), (g) => ops.mul(g, x)],
  div: (ops, out, [, y]) => [(g) => ops.div(g, y), (g) => ops.scale(ops.mul(g, ops.div(out, y)), -1)],
  scale: (ops, _out, [, factor]) => [(g) => ops.scale(g, factor)],
  shift: () => [(g) => g],
  exp: (ops, out) => [(g) => ops.mul(g, out)],
  tanh: (ops, out) => [(g) => ops.mul(g, ops.shift(ops.scale(ops.mul(out, out), -1), 1))],
  sigmoid: (ops, out) => [(g) => ops.mul(g, ops.mul(out, ops.shift(ops.scale(out, -1), 1)))],
  erf: (ops, _out, [x]) => [(g) => ops.mul(g, ops.scale(ops.exp(ops.scale(ops.mul(x, x), -1)), 2 / Math.sqrt(Math.PI)))],
  rsqrt: (ops, out) => [(g) => ops.mul(g, ops.scale(ops.mul(out, ops.mul(out, out)), -0.5))],
  matmul: (ops, _out, [x, y, { transA = false, transB = false, alpha = 1 } = {}]) => [
    (g) => (transA ? ops.matmul(y, g, { transA: transB, transB: true, alpha }) : ops.matmul(g, y, { transB: !transB, alpha })),
    (g) => (transB ? ops.matmul(g, x, { transA: true, transB: transA, alpha }) : ops.matmul(x, g, { transA: !transA, alpha })),
  ],
  // g spreads over the summed axes by broadcasting.
  sum: (ops, _out, [x, { axes, keep = false }]) => [
    (g) => ops.add(ops.zerosLike(x), keep ? g : ops.reshapeLike(g, ops.sum(x, { axes, keep: true }))),
  ],
  sumSquares: (ops, _out, [x, { axes, keep = false }]) => [
    (g) => ops.mul(ops.scale(x, 2), keep ? g : ops.reshapeLike(g, ops.sum(x, { axes, keep: true }))),
  ],
  // The softmax of zeros is 1/D everywhere, whatever D is.
  meanLast: (ops, _out, [x]) => [(g) => ops.mul(ops.softmax(ops.zerosLike(x)), g)],
  logSumExp: (ops, _out, [x]) => [(g) => ops.mul(ops.softmax(x), g)],
  softmax: (ops, out) => [
    (g) => {
      const weighted = ops.mul(g, out)
      return ops.sub(weighted, ops.mul(out, ops.sum(weighted, { axes: [-1], keep: true })))
    },
  ],
  reshape: (ops, _out, [x]) => [(g) => ops.reshapeLike(g, x)],
  reshapeLike: (ops, _out, [x]) => [(g) => ops.reshapeLike(g, x), null],
  transpose: (ops, _out, [, permutation]) => [(g) => ops.transpose(g, permutation.map((_, axis) => permutation.indexOf(axis)))],
  part: (ops, _out, [x, { axis, from, to, of }]) => [
    (g) => {
      const zeros = (a: number, b: number) => (a < b ? [ops.zerosLike(ops.part(x, { axis, from: a, to: b, of }))] : [])
      return ops.concat([...zeros(0, from), g, ...zeros(to, of)], axis)
    },
  ],
  slice: (ops, _out, [x, { axis, from, to }]) => [
    (g) => {
      const zeros = (a: number, b: number) => (a === b ? [] : [ops.slice(ops.zerosLike(x), { axis, from: a, to: b })])
      return ops.concat([...zeros(0, from), g, ...zeros(to, Infinity)], axis)
    },
  ],
  concat: (ops, _out, [xs, axis]) => [xs.map((x, i) => (g) => ops.cutLike(g, xs.slice(0, i), x, axis))],
  appendOne: (ops) => [(g) => ops.slice(g, { axis: -1, from: 0, to: -1 })],
  scatterRows: (ops, _out, [, rows]) => [(g) => ops.takeRows(g, rows), null, null],
  takeRows: (ops, _out, [x, rows]) => [(g) => ops.scatterRows(g, rows, x), null],
  linear: (ops, _out, [, weight, , { transposed }]) => [
    (g) => ops.matmul(g, weight, { transB: transposed }), null, null,
  ],
  layerNorm: (ops, _out, [x, gamma, , { epsilon }]) => [
    (g) => {
      const centred = ops.sub(x, ops.meanLast(x))
      return normGradient(ops, ops.mul(g, gamma), centred, ops.rsqrt(ops.shift(ops.meanLast(ops.mul(centred, centred)), epsilon)), true)
    },
    null, null,
  ],
  rmsNorm: (ops, _out, [x, gamma, { epsilon }]) => [
    (g) => normGradient(ops, ops.mul(g, gamma), x, ops.rsqrt(ops.shift(ops.meanLast(ops.mul(x, x)), epsilon)), false), null,
  ],
  // silu' = s + y(1 − s) with s = sigmoid(x), y = x s
  silu: (ops, out, [x]) => [
    (g) => {
      const s = ops.sigmoid(x)
      return ops.mul(g, ops.add(s, ops.sub(out, ops.mul(out, s))))
    },
  ],
  // gelu' = Φ(x) + x φ(x)
  gelu: (ops, _out, [x]) => [
    (g) => {
      const distribution = ops.scale(ops.shift(ops.erf(ops.scale(x, Math.SQRT1_2)), 1), 0.5)
      const density = ops.scale(ops.exp(ops.scale(ops.mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI))
      return ops.mul(g, ops.add(distribution, ops.mul(x, density)))
    },
  ],
  // y = x (1 + t) / 2, t = tanh(c (x + 0.044715 x³)): y' = (1 + t)/2 + x (1 − t²) c (1 + 0.134145 x²) / 2
  geluTanh: (ops, _out, [x]) => [
    (g) => {
      const c = Math.sqrt(2 / Math.PI)
      const square = ops.mul(x, x)
      const t = ops.tanh(ops.mul(x, ops.shift(ops.scale(square, 0.044715 * c), c)))
      const slope = ops.mul(x, ops.shift(ops.scale(square, (3 * 0.044715 * c) / 2), c / 2))
      const bend = ops.mul(slope, ops.shift(ops.scale(ops.mul(t, t), -1), 1))
      return ops.mul(g, ops.add(ops.shift(ops.scale(t, 0.5), 0.5), bend))
    },
  ],
  // A rotation: its transpose turns back.
  rotary: (ops, _out, [, cos, sin]) => [(g) => ops.rotary(g, cos, ops.scale(sin, -1)), null, null],
  attention: (ops, _out, [q, k, v, options]) => {
    let known: { readonly g: unknown; readonly all: ReturnType<typeof attentionBackward> } | undefined
    const all = <T>(g: T, qkv: readonly [T, T, T], over: Ops<T>) => {
      if (known?.g !== g) known = { g, all: attentionBackward(over, over.blocks.attention, g, ...qkv, options) }
      return known.all as { readonly q: T; readonly k: T; readonly v: T }
    }
    return [(g) => all(g, [q, k, v], ops).q, (g) => all(g, [q, k, v], ops).k, (g) => all(g, [q, k, v], ops).v]
  },
  tokenLosses: (ops, _out, [x, head, labels, options]) => [(g) => tokenLossesBackward(ops, g, x, head, labels, options), null, null],
}

/** Operations that broadcast. */
const broadcasting: ReadonlySet<Name> = new Set<Name>(['add', 'sub', 'mul', 'div'])

/** @throws RangeError if `watched` has another shape than what it went into, as far as handles know their shapes */
const mustNotBroadcast = (name: Name, watched: unknown, out: unknown): void => {
  const [from, to] = [shapeOf(watched), shapeOf(out)]
  if (from === undefined || to === undefined) return
  const isSpread = from.length !== to.length || from.some((dim, i) => dim !== to[i] && typeof dim === 'number' && (dim === 1 || typeof to[i] === 'number'))
  if (!isSpread) return
  throw new RangeError(`"${name}" broadcasts a watched variable of [${from.join(', ')}] to [${to.join(', ')}], and no gradient is written for that: spread it first, by a product with ones`)
}

const shapeOf = (handle: unknown): readonly unknown[] | undefined =>
  typeof handle === 'object' && handle !== null && 'shape' in handle && Array.isArray(handle.shape) ? handle.shape : undefined

/** The gradient through x̂ = centred · r, r the inverse deviation, from the gradient of x̂; a mean was removed or not. */
const normGradient = <T>(ops: Ops<T>, g: T, centred: T, r: T, meanRemoved: boolean): T => {
  const normed = ops.mul(centred, r)
  const inner = ops.sub(g, ops.mul(normed, ops.meanLast(ops.mul(g, normed))))
  return ops.mul(r, meanRemoved ? ops.sub(inner, ops.meanLast(g)) : inner)
}

export const tape = <T>(over: Ops<T>): Tape<T> => {
  const constant = (value: T): Variable<T> => ({ value, record: undefined })
  const isVariable = (arg: unknown): arg is Variable<T> => typeof arg === 'object' && arg !== null && 'record' in arg && 'value' in arg

  const recorded =
    (name: Name) =>
    (...args: readonly unknown[]): Variable<T> => {
      const values = args.map((arg) => (isVariable(arg) ? arg.value : Array.isArray(arg) && arg.every(isVariable) ? arg.map((a) => a.value) : arg))
      const out = (over[name] as (...args: readonly unknown[]) => T)(...values)
      const watched = args.flat().filter((arg): arg is Variable<T> => isVariable(arg) && arg.record !== undefined)
      const rule = rules[name] as Rule<'add'>
      if (watched.length === 0 || rule === 'constant') return constant(out)
      if (rule === 'refused') throw new RangeError(`no gradient is written for "${name}", but a watched variable flows into it`)
      if (broadcasting.has(name)) for (const { value } of watched) mustNotBroadcast(name, value, out)
      const pulls = rule(over, out, values as unknown as Parameters<Ops<T>['add']>)
      const edges = args.flatMap((arg, i) => {
        const pull = pulls[i] ?? null
        const pairs: readonly (readonly [unknown, Pull<T> | null])[] = Array.isArray(arg)
          ? arg.map((a: unknown, j) => [a, Array.isArray(pull) ? (pull as readonly Pull<T>[])[j] : null] as const)
          : [[arg, pull as Pull<T> | null]]
        return pairs.flatMap(([a, gradient]) => {
          if (!isVariable(a) || a.record === undefined) return []
          if (gradient === null) throw new RangeError(`no gradient flows to argument ${i} of "${name}", but a watched variable does`)
          return [{ to: a, gradient }]
        })
      })
      return { value: out, record: { edges } }
    }

  const names = Object.keys(rules) as readonly Name[]
  const ops = Object.assign(Object.fromEntries(names.map((name) => [name, recorded(name)])), { blocks: over.blocks }) as unknown as Ops<Variable<T>>

  const gradients = (
    output: Variable<T>, seed: T, of: readonly Variable<T>[], use: (index: number, gradient: T) => readonly T[] = () => [],
  ): readonly T[] => {
    const wanted = reaching(output, new Set(of))
    const places = new Map(of.map((variable, index) => [variable, index]))
    const sums = new Map<Variable<T>, T>([[output, seed]])
    for (const variable of backwards(output, wanted)) {
      const whole = sums.get(variable)
      if (whole === undefined) continue
      const index = places.get(variable)
      const g = (index === undefined ? [] : use(index, whole)).reduce((x, done) => over.after(x, done), whole)
      for (const { to, gradient } of variable.record?.edges ?? []) {
        if (!wanted.has(to)) continue
        const term = gradient(g)
        const sum = sums.get(to)
        sums.set(to, sum === undefined ? term : over.add(sum, term))
      }
    }
    return of.map((x) => {
      const g = sums.get(x)
      if (g === undefined) throw new RangeError('the output does not depend on a variable whose gradient is asked for')
      return g
    })
  }

  return { ops, constant, watch: (x) => ({ value: x.value, record: { edges: x.record === undefined ? [] : [{ to: x, gradient: (g) => g }] } }), gradients }
}

/** Variables at or above the output's inputs from which one of `of` can be reached, `of` included. */
const reaching = <T>(output: Variable<T>, of: ReadonlySet<Variable<T>>): ReadonlySet<Variable<T>> => {
  const reached = new Set<Variable<T>>()
  for (const variable of postorder(output)) {
    if (of.has(variable) || variable.record?.edges.some(({ to }) => reached.has(to))) reached.add(variable)
  }
  return reached
}

/** The wanted variables in an order in which every variable comes before its inputs. */
const backwards = <T>(output: Variable<T>, wanted: ReadonlySet<Variable<T>>): readonly Variable<T>[] =>
  postorder(output).filter((variable) => wanted.has(variable)).reverse()

/** Inputs before outputs; iterative, for a deep model's chain is long. */
const postorder = <T>(output: Variable<T>): readonly Variable<T>[] => {
  const order: Variable<T>[] = []
  const seen = new Set<Variable<T>>([output])
  const stack: { readonly variable: Variable<T>; next: number }[] = [{ variable: output, next: 0 }]
  while (stack.length > 0) {
    const top = stack[stack.length - 1]
    const edges = top.variable.record?.edges ?? []
    if (top.next === edges.length) {
      order.push(top.variable)
      stack.pop()
      continue
    }
    const { to } = edges[top.next++]
    if (!seen.has(to)) {
      seen.add(to)
      stack.push({ variable: to, next: 0 })
    }
  }
  return order
}
