/**
 * @file The inner loops of the eigensolver in WebAssembly with two f64 per instruction, and the matrix product on top.
 *
 * All operands lie in one memory, which a `Kernels` owns; they are given by the index of their first f64 in `numbers`.
 * Nothing here masks edges. Instead operands have room behind them: a kernel may read finite junk there, where what it
 * is multiplied with is zero, and may add zeros there. So each matrix needs 4 rows more than it has, each row of
 * a vector operand 4 numbers more, and all memory must stay finite.
 */
import {
  advance,
  assemble,
  block,
  f64,
  f64x2,
  func,
  get,
  i32,
  set,
  v128,
  webAssembly,
  when,
  whilst,
  type Code,
  type Func,
  type Local,
  type Module,
  type ValueType,
} from './wasm.js'

const bytes = 8
/** So many local variables of one type. */
const locals = (local: (type: ValueType) => Local, type: ValueType, count: number): Local[] =>
  Array.from({ length: count }, () => local(type))

const add = f64x2.add
const mul = f64x2.mul

/** Rows and columns of the tile of C that the product keeps in registers: 8 of 16, the others hold operands. */
const tile = 4

/**
 * C += A B over packed panels: a [mPanels][k][4], b [nPanels][k][4], C rows of `stride` bytes.
 * With `triangle` ≥ 0, panel q of b meets only the first `triangle + q + 1` panels of a: the upper triangle of C.
 */
const multiply = func(
  ['i32', 'i32', 'i32', 'i32', 'i32', 'i32', 'i32', 'i32'],
  ([mPanels, nPanels, k, a, b, c, stride, triangle], local) => {
    const [ap, bp, aEnd, kEnd, row, panels, q] = locals(local, 'i32', 7)
    const [b0, b1, x] = locals(local, 'v128', 3)
    const sums = locals(local, 'v128', 8)
    const rowAt = (r: number): Code => block(set(row, r === 0 ? get(c) : i32.add(get(row), get(stride))))
    // Not unrolled: V8 unrolls by itself, and with more loads in sight it fetches them first and spills the sums.
    const step = block(
      set(b0, v128.load(get(bp))),
      set(b1, v128.load(get(bp), 2 * bytes)),
      ...[0, 1, 2, 3].map((r) =>
        block(
          set(x, v128.loadSplat(get(ap), r * bytes)),
          set(sums[2 * r], add(get(sums[2 * r]), mul(get(x), get(b0)))),
          set(sums[2 * r + 1], add(get(sums[2 * r + 1]), mul(get(x), get(b1)))),
        ),
      ),
      advance(ap, tile * bytes),
      advance(bp, tile * bytes),
    )
    const panelBytes = i32.shl(get(k), i32.const(5))
    const cNext = local('i32')
    return whilst(
      i32.lessSigned(get(q), get(nPanels)),
      set(panels, get(mPanels)),
      when(
        i32.lessSigned(i32.const(-1), get(triangle)),
        set(panels, i32.add(i32.add(get(triangle), get(q)), i32.const(1))),
        when(i32.lessSigned(get(mPanels), get(panels)), set(panels, get(mPanels))),
      ),
      set(ap, get(a)),
      set(aEnd, i32.add(get(a), i32.mul(get(panels), panelBytes))),
      set(cNext, i32.add(get(c), i32.const(4 * bytes))),
      whilst(
        i32.less(get(ap), get(aEnd)),
        ...[0, 1, 2, 3].map((r) =>
          block(
            rowAt(r),
            set(sums[2 * r], v128.load(get(row))),
            set(sums[2 * r + 1], v128.load(get(row), 2 * bytes)),
          ),
        ),
        set(bp, get(b)),
        set(kEnd, i32.add(get(b), panelBytes)),
        whilst(i32.less(get(bp), get(kEnd)), step),
        ...[0, 1, 2, 3].map((r) =>
          block(
            rowAt(r),
            v128.store(get(row), get(sums[2 * r])),
            v128.store(get(row), get(sums[2 * r + 1]), 2 * bytes),
          ),
        ),
        set(c, i32.add(get(row), get(stride))),
      ),
      set(b, i32.add(get(b), panelBytes)),
      set(c, get(cNext)),
      advance(q, 1),
    )
  },
)

/** Packs panels of 4 columns, times alpha: to[p][l][c] = alpha · from[l][4p + c] for l < k. `stride` in bytes. */
const packColumns = func(['i32', 'i32', 'i32', 'i32', 'f64', 'i32'], ([to, from, stride, k, alpha, panels], local) => {
  const [end, last, row] = locals(local, 'i32', 3)
  const factor = local('v128')
  return block(
    set(factor, f64x2.splat(get(alpha))),
    set(last, i32.add(get(to), i32.mul(get(panels), i32.shl(get(k), i32.const(5))))),
    whilst(
      i32.less(get(to), get(last)),
      set(end, i32.add(get(to), i32.shl(get(k), i32.const(5)))),
      set(row, get(from)),
      whilst(
        i32.less(get(to), get(end)),
        v128.store(get(to), mul(get(factor), v128.load(get(row)))),
        v128.store(get(to), mul(get(factor), v128.load(get(row), 2 * bytes)), 2 * bytes),
        advance(to, tile * bytes),
        advance(row, get(stride)),
      ),
      advance(from, tile * bytes),
    ),
  )
})

/**
 * Packs panels of 4 rows, times alpha: to[p][l][r] = alpha · from[4p + r][l] for l < k. If k is odd, 4 numbers more
 * are written behind the last panel.
 */
const packRows = func(['i32', 'i32', 'i32', 'i32', 'f64', 'i32'], ([to, from, stride, k, alpha, panels], local) => {
  const [next, last] = locals(local, 'i32', 2)
  const factor = local('v128')
  const rows = locals(local, 'i32', 4)
  const values = locals(local, 'v128', 4)
  const store = (index: number, i: number, lane: 0 | 1): Code =>
    v128.store(get(to), f64x2.shuffle(get(values[i]), get(values[i + 1]), lane, lane), index * bytes)
  return block(
    set(factor, f64x2.splat(get(alpha))),
    set(last, i32.add(get(to), i32.mul(get(panels), i32.shl(get(k), i32.const(5))))),
    whilst(
      i32.less(get(to), get(last)),
      set(next, i32.add(get(to), i32.shl(get(k), i32.const(5)))),
      ...rows.map((row, r) => set(row, r === 0 ? get(from) : i32.add(get(rows[r - 1]), get(stride)))),
      set(from, i32.add(get(rows[3]), get(stride))),
      whilst(
        i32.less(get(to), get(next)),
        ...rows.map((row, r) => block(set(values[r], mul(get(factor), v128.load(get(row)))), advance(row, 2 * bytes))),
        store(0, 0, 0),
        store(2, 2, 0),
        store(4, 0, 1),
        store(6, 2, 1),
        advance(to, 8 * bytes),
      ),
      set(to, get(next)),
    ),
  )
})

/**
 * y += S x for the symmetric S whose upper triangle stands at `s`, in 4 · `blocks` rows of `stride` bytes. Each number
 * of the triangle is read once and used twice, which halves the memory that the reduction to tridiagonal form moves.
 */
const symmetricTimes = func(['i32', 'i32', 'i32', 'i32', 'i32'], ([blocks, s, stride, x, y], local) => {
  const [xEnd, xp, yp, xNext] = locals(local, 'i32', 4)
  const rows = locals(local, 'i32', 4)
  const factors = locals(local, 'v128', 4)
  const sums = locals(local, 'v128', 4)
  const [xs, ys, value] = locals(local, 'v128', 3)
  const scalar = local('f64')
  const xAt = (i: number): Code => f64.load(get(x), i * bytes)
  const addToY = (i: number, value: Code): Code =>
    f64.store(get(y), f64.add(f64.load(get(y), i * bytes), value), i * bytes)
  return block(
    set(xEnd, i32.add(get(x), i32.shl(get(blocks), i32.const(5)))),
    whilst(
      i32.less(get(x), get(xEnd)),
      ...rows.map((row, r) => set(row, r === 0 ? get(s) : i32.add(get(rows[r - 1]), get(stride)))),
      // The 4 × 4 block on the diagonal.
      ...rows.flatMap((row, r) =>
        Array.from({ length: 4 - r }, (_, over) => {
          const column = r + over
          return block(
            set(scalar, f64.load(get(row), column * bytes)),
            addToY(r, f64.mul(get(scalar), xAt(column))),
            ...(column === r ? [] : [addToY(column, f64.mul(get(scalar), xAt(r)))]),
          )
        }),
      ),
      // The rows to its right, which are columns below it as well.
      ...factors.map((factor, r) => block(set(factor, v128.loadSplat(get(x), r * bytes)), set(sums[r], v128.zero))),
      set(xNext, i32.add(get(x), i32.const(4 * bytes))),
      set(xp, get(xNext)),
      set(yp, i32.add(get(y), i32.const(4 * bytes))),
      ...rows.map((row) => advance(row, 4 * bytes)),
      whilst(
        i32.less(get(xp), get(xEnd)),
        set(xs, v128.load(get(xp))),
        set(ys, v128.load(get(yp))),
        ...rows.map((row, r) =>
          block(
            set(value, v128.load(get(row))),
            set(sums[r], add(get(sums[r]), mul(get(value), get(xs)))),
            set(ys, add(get(ys), mul(get(value), get(factors[r])))),
          ),
        ),
        v128.store(get(yp), get(ys)),
        ...[xp, yp, ...rows].map((pointer) => advance(pointer, 2 * bytes)),
      ),
      ...sums.map((sum, r) => addToY(r, f64.add(f64x2.lane(get(sum), 0), f64x2.lane(get(sum), 1)))),
      set(s, i32.add(i32.add(get(s), i32.shl(get(stride), i32.const(2))), i32.const(4 * bytes))),
      set(x, get(xNext)),
      advance(y, 4 * bytes),
    ),
  )
})

/** y += Σ_i coefficients[i] · row i of `p`, over 4 · `blocks` rows of `length` numbers (made even). */
const addRows = func(['i32', 'i32', 'i32', 'i32', 'i32', 'i32'], (params, local) => {
  const [blocks, p, stride, coefficients, y, length] = params
  const [end, yp, yEnd] = locals(local, 'i32', 3)
  const rows = locals(local, 'i32', 4)
  const factors = locals(local, 'v128', 4)
  const ys = local('v128')
  return block(
    set(end, i32.add(get(coefficients), i32.shl(get(blocks), i32.const(5)))),
    set(yEnd, i32.add(get(y), i32.shl(get(length), i32.const(3)))),
    whilst(
      i32.less(get(coefficients), get(end)),
      ...rows.map((row, r) => set(row, r === 0 ? get(p) : i32.add(get(rows[r - 1]), get(stride)))),
      set(p, i32.add(get(rows[3]), get(stride))),
      ...factors.map((factor, r) => set(factor, v128.loadSplat(get(coefficients), r * bytes))),
      set(yp, get(y)),
      whilst(
        i32.less(get(yp), get(yEnd)),
        set(ys, v128.load(get(yp))),
        ...rows.map((row, r) => set(ys, add(get(ys), mul(get(factors[r]), v128.load(get(row)))))),
        v128.store(get(yp), get(ys)),
        ...[yp, ...rows].map((pointer) => advance(pointer, 2 * bytes)),
      ),
      advance(coefficients, 4 * bytes),
    ),
  )
})

/** to[i] = row i of `p` · x, over 4 · `blocks` rows of `length` numbers (made even: x ends with a zero). */
const dotRows = func(['i32', 'i32', 'i32', 'i32', 'i32', 'i32'], ([blocks, p, stride, x, to, length], local) => {
  const [end, xp, xEnd] = locals(local, 'i32', 3)
  const rows = locals(local, 'i32', 4)
  const sums = locals(local, 'v128', 4)
  const xs = local('v128')
  return block(
    set(end, i32.add(get(to), i32.shl(get(blocks), i32.const(5)))),
    set(xEnd, i32.add(get(x), i32.shl(get(length), i32.const(3)))),
    whilst(
      i32.less(get(to), get(end)),
      ...rows.map((row, r) => set(row, r === 0 ? get(p) : i32.add(get(rows[r - 1]), get(stride)))),
      set(p, i32.add(get(rows[3]), get(stride))),
      ...sums.map((sum) => set(sum, v128.zero)),
      set(xp, get(x)),
      whilst(
        i32.less(get(xp), get(xEnd)),
        set(xs, v128.load(get(xp))),
        ...rows.map((row, r) => set(sums[r], add(get(sums[r]), mul(get(xs), v128.load(get(row)))))),
        ...[xp, ...rows].map((pointer) => advance(pointer, 2 * bytes)),
      ),
      ...sums.map((sum, r) =>
        f64.store(get(to), f64.add(f64x2.lane(get(sum), 0), f64x2.lane(get(sum), 1)), r * bytes),
      ),
      advance(to, 4 * bytes),
    ),
  )
})

/** to[j] = from[j] − amount for j < length (made even). */
const shift = func(['i32', 'i32', 'f64', 'i32'], ([to, from, amount, length], local) => {
  const end = local('i32')
  const amounts = local('v128')
  return block(
    set(amounts, f64x2.splat(get(amount))),
    set(end, i32.add(get(to), i32.shl(get(length), i32.const(3)))),
    whilst(
      i32.less(get(to), get(end)),
      v128.store(get(to), f64x2.sub(v128.load(get(from)), get(amounts))),
      ...[to, from].map((pointer) => advance(pointer, 2 * bytes)),
    ),
  )
})

/** to[0] = Σ z_j / (d_j − t), to[1] = Σ z_j / (d_j − t)² over an even `length`. */
const poleSums = func(['i32', 'i32', 'i32', 'f64', 'i32'], ([to, d, z, t, length], local) => {
  const end = local('i32')
  const [ts, one, inverse, term, sum, slope] = locals(local, 'v128', 6)
  return block(
    set(ts, f64x2.splat(get(t))),
    set(one, f64x2.splat(f64.const(1))),
    set(end, i32.add(get(d), i32.shl(get(length), i32.const(3)))),
    whilst(
      i32.less(get(d), get(end)),
      set(inverse, f64x2.div(get(one), f64x2.sub(v128.load(get(d)), get(ts)))),
      set(term, mul(v128.load(get(z)), get(inverse))),
      set(sum, add(get(sum), get(term))),
      set(slope, add(get(slope), mul(get(term), get(inverse)))),
      ...[d, z].map((pointer) => advance(pointer, 2 * bytes)),
    ),
    f64.store(get(to), f64.add(f64x2.lane(get(sum), 0), f64x2.lane(get(sum), 1))),
    f64.store(get(to), f64.add(f64x2.lane(get(slope), 0), f64x2.lane(get(slope), 1)), bytes),
  )
})

/** to[j] *= u[j] / (d[j] − di) over an even `length`. */
const timesRatios = func(['i32', 'i32', 'i32', 'f64', 'i32'], ([to, u, d, di, length], local) => {
  const end = local('i32')
  const dis = local('v128')
  return block(
    set(dis, f64x2.splat(get(di))),
    set(end, i32.add(get(to), i32.shl(get(length), i32.const(3)))),
    whilst(
      i32.less(get(to), get(end)),
      v128.store(
        get(to),
        mul(v128.load(get(to)), f64x2.div(v128.load(get(u)), f64x2.sub(v128.load(get(d)), get(dis)))),
      ),
      ...[to, u, d].map((pointer) => advance(pointer, 2 * bytes)),
    ),
  )
})

/** to[j] = z[j] / u[j] over a `length` (made even). */
const quotients = func(['i32', 'i32', 'i32', 'i32'], ([to, z, u, length], local) => {
  const end = local('i32')
  return block(
    set(end, i32.add(get(to), i32.shl(get(length), i32.const(3)))),
    whilst(
      i32.less(get(to), get(end)),
      v128.store(get(to), f64x2.div(v128.load(get(z)), v128.load(get(u)))),
      ...[to, z, u].map((pointer) => advance(pointer, 2 * bytes)),
    ),
  )
})

const functions = {
  multiply,
  packColumns,
  packRows,
  symmetricTimes,
  addRows,
  dotRows,
  shift,
  poleSums,
  timesRatios,
  quotients,
} satisfies Record<string, Func>
type Exports = { readonly [Name in keyof typeof functions]: (...args: number[]) => void }

/** A matrix in the memory: element (i, j) is `numbers[at + i · stride + j]`, or (j, i) if transposed. */
export interface Operand {
  readonly at: number
  readonly stride: number
  readonly transposed?: boolean
}

/** Numbers that a k-strip of a panel of B (in L1), a block of A (in L2) and a block of B (in L3) are cut to. */
const kMax = 256
const mMax = 96
const nMax = 768

/** What `reserve` adds for the packed blocks. */
const packedA = (mMax + tile) * (kMax + 2)
const packedB = (nMax + tile) * (kMax + 2)

let compiled: Module | undefined

/**
 * The kernels' module, compiled once in a process: the threads share its machine code, optimised when one of them has
 * found it hot.
 */
export const kernelsModule = (): Module => (compiled ??= new webAssembly.Module(assemble(functions)))

/** In a thread: takes over the module of the thread that started it. */
export const adoptKernelsModule = (module: Module): void => {
  compiled = module
}

/** The kernels with a memory of their own. Not to be shared between threads. */
export class Kernels {
  readonly #memory = new webAssembly.Memory({ initial: 1 })
  readonly #run: Exports
  #top = 0
  #packedA = 0
  #packedB = 0
  /** The memory as numbers. Anew after each `reserve`. */
  numbers = new Float64Array(this.#memory.buffer)

  constructor() {
    this.#run = new webAssembly.Instance(kernelsModule(), { env: { memory: this.#memory } }).exports as unknown as Exports
  }

  /** Empties the memory and makes room for that many numbers. They are finite: zeros, or what was there before. */
  reserve(count: number): void {
    const need = (count + packedA + packedB + 64) * bytes
    const page = 65536
    const pages = Math.ceil(need / page) - this.#memory.buffer.byteLength / page
    if (pages > 0) this.#memory.grow(pages)
    this.numbers = new Float64Array(this.#memory.buffer)
    this.#top = 8 // address 0 stays unused
    this.#packedA = this.take(packedA)
    this.#packedB = this.take(packedB)
  }

  /** The index of so many numbers, aligned to a cache line. */
  take(count: number): number {
    const at = this.#top
    this.#top += Math.ceil(count / 8) * 8
    if (this.#top > this.numbers.length) throw new Error(`linalg: ${count} numbers more than were reserved`)
    return at
  }

  /** C += alpha A B. m × k times k × n; 2·m·n·k operations. */
  multiply(
    { m, n, k, alpha = 1 }: { m: number; n: number; k: number; alpha?: number },
    a: Operand,
    b: Operand,
    c: Operand,
  ): void {
    for (let j = 0; j < n; j += nMax)
      for (let l = 0; l < k; l += kMax) {
        const [columns, depth] = [Math.min(nMax, n - j), Math.min(kMax, k - l)]
        this.#pack(this.#packedB, b, { row: l, column: j, length: columns, depth, across: true, alpha: 1 })
        for (let i = 0; i < m; i += mMax) {
          const rows = Math.min(mMax, m - i)
          this.#pack(this.#packedA, a, { row: i, column: l, length: rows, depth, across: false, alpha })
          this.#run.multiply(
            Math.ceil(rows / tile),
            Math.ceil(columns / tile),
            depth,
            this.#packedA * bytes,
            this.#packedB * bytes,
            (c.at + i * c.stride + j) * bytes,
            c.stride * bytes,
            -1,
          )
        }
      }
  }

  /**
   * The upper triangle of C −= Vᵀ W + Wᵀ V, C [n, n]; V and W [k, n]. 2·n²·k operations. Numbers within 4 below the
   * diagonal are changed as well.
   */
  subtractSymmetric({ n, k }: { n: number; k: number }, v: Operand, w: Operand, c: Operand): void {
    if (2 * k > kMax) throw new RangeError(`linalg: ${k} rows at once`)
    const depth = 2 * k
    for (let j = 0; j < n; j += nMax) {
      const columns = Math.min(nMax, n - j)
      this.#packPair(this.#packedB, { first: w, second: v, from: j, length: columns, k, alpha: 1 })
      for (let i = 0; i < j + columns; i += mMax) {
        const rows = Math.min(mMax, j + columns - i)
        this.#packPair(this.#packedA, { first: v, second: w, from: i, length: rows, k, alpha: -1 })
        // Panels of columns left of this block of rows have nothing above the diagonal: start with the block.
        const from = Math.max(j, i)
        this.#run.multiply(
          Math.ceil(rows / tile),
          Math.ceil((j + columns - from) / tile),
          depth,
          this.#packedA * bytes,
          (this.#packedB + ((from - j) / tile) * depth * tile) * bytes,
          (c.at + i * c.stride + from) * bytes,
          c.stride * bytes,
          (from - i) / tile,
        )
      }
    }
  }

  /** y += S x, S [n, n] symmetric by its upper triangle, whose rows are `stride` apart. 2·n² operations. */
  symmetricTimes(n: number, s: Operand, x: number, y: number): void {
    this.#run.symmetricTimes(Math.ceil(n / 4), s.at * bytes, s.stride * bytes, x * bytes, y * bytes)
  }

  /** y += Σ_{i<rows} coefficients[i] P[i]; the coefficients up to the next multiple of 4 are zero. */
  addRows({ rows, length }: { rows: number; length: number }, p: Operand, coefficients: number, y: number): void {
    this.#run.addRows(Math.ceil(rows / 4), p.at * bytes, p.stride * bytes, coefficients * bytes, y * bytes, length)
  }

  /** to[i] = P[i] · x for i < rows, and junk up to the next multiple of 4. */
  dotRows({ rows, length }: { rows: number; length: number }, p: Operand, x: number, to: number): void {
    this.#run.dotRows(Math.ceil(rows / 4), p.at * bytes, p.stride * bytes, x * bytes, to * bytes, length)
  }

  /** to[j] = from[j] − amount for j < length, and junk in the place after an odd length. */
  shift(length: number, { from, amount, to }: { from: number; amount: number; to: number }): void {
    this.#run.shift(to * bytes, from * bytes, amount, length)
  }

  /** Σ z_j / (d_j − t) and its derivative Σ z_j / (d_j − t)² over from ≤ j < end. `to`: room for the 2 numbers. */
  poleSums(
    { from, end, d, z, to }: { from: number; end: number; d: number; z: number; to: number },
    t: number,
  ): { sum: number; slope: number } {
    const x = this.numbers
    const even = (end - from) & ~1
    this.#run.poleSums(to * bytes, (d + from) * bytes, (z + from) * bytes, t, even)
    if (even === end - from) return { sum: x[to], slope: x[to + 1] }
    const inverse = 1 / (x[d + end - 1] - t)
    const term = x[z + end - 1] * inverse
    return { sum: x[to] + term, slope: x[to + 1] + term * inverse }
  }

  /** to[j] *= u[j] / (d[j] − di) for from ≤ j < end. */
  timesRatios(
    { from, end, to, u, d }: { from: number; end: number; to: number; u: number; d: number },
    di: number,
  ): void {
    const even = (end - from) & ~1
    this.#run.timesRatios((to + from) * bytes, (u + from) * bytes, (d + from) * bytes, di, even)
    const x = this.numbers
    for (let j = from + even; j < end; j++) x[to + j] *= x[u + j] / (x[d + j] - di)
  }

  /** to[j] = z[j] / u[j] for j < length, and zero in the place after an odd length. */
  quotients(length: number, { to, z, u }: { to: number; z: number; u: number }): void {
    this.#run.quotients(to * bytes, z * bytes, u * bytes, length)
    if (length & 1) this.numbers[to + length] = 0
  }

  /** Panels of 4 columns (`across`) or rows of the block at (row, column), [depth] deep; the last is filled up with 0. */
  #pack(to: number, from: Operand, part: Part): void {
    const { row, column, length, depth, across, alpha } = part
    const contiguous = across !== (from.transposed ?? false)
    const start = from.transposed ? from.at + column * from.stride + row : from.at + row * from.stride + column
    const panelStep = contiguous ? tile : tile * from.stride
    const pack = contiguous ? this.#run.packColumns : this.#run.packRows
    const panels = Math.floor(length / tile)
    pack(to * bytes, start * bytes, from.stride * bytes, depth, alpha, panels)
    const left = length - panels * tile
    if (left === 0) return
    const x = this.numbers
    const [at, source] = [to + panels * depth * tile, start + panels * panelStep]
    const [along, deep] = contiguous ? [1, from.stride] : [from.stride, 1]
    for (let l = 0; l < depth; l++)
      for (let r = 0; r < tile; r++) x[at + l * tile + r] = r < left ? alpha * x[source + l * deep + r * along] : 0
  }

  /** Panels of 4 columns, each of `first` [k, ..] above `second` [k, ..]. Columns past the end must be zero. */
  #packPair(
    to: number,
    { first, second, from, length, k, alpha }: Pair,
  ): void {
    for (let j = 0; j < length; j += tile) {
      const at = to + j * 2 * k
      this.#run.packColumns(at * bytes, (first.at + from + j) * bytes, first.stride * bytes, k, alpha, 1)
      this.#run.packColumns((at + k * tile) * bytes, (second.at + from + j) * bytes, second.stride * bytes, k, alpha, 1)
    }
  }
}

interface Pair {
  readonly first: Operand
  readonly second: Operand
  readonly from: number
  readonly length: number
  readonly k: number
  readonly alpha: number
}

interface Part {
  readonly row: number
  readonly column: number
  readonly length: number
  readonly depth: number
  readonly across: boolean
  readonly alpha: number
}
