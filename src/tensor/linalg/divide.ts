/**
 * @file Eigenvalues and eigenvectors of a symmetric tridiagonal matrix by divide and conquer (Cuppen 1981; Gu,
 * Eisenstat 1995; the bookkeeping of deflation as in Rutter's and LAPACK's dstedc).
 *
 *   T = [T₁  0]  + |β| (e_m ± e_{m+1})(e_m ± e_{m+1})ᵀ     with β taken off the diagonal beside the cut
 *       [0  T₂]
 *
 * With T₁ = Q₁ D₁ Q₁ᵀ and T₂ = Q₂ D₂ Q₂ᵀ that is diag(D₁, D₂) plus a matrix of rank one. Where z is negligible or two
 * values agree, an eigenvector is final as it stands ("deflated"); for the others the secular equation is solved and
 * Q is multiplied with its vectors, which is nearly all the work. Covariances deflate a lot.
 *
 * Eigenvectors are rows here, so that moving one is a copy, and the product runs over contiguous numbers.
 */
import type { Kernels, Operand } from './kernels.js'
import { implicitQl, rotateRows } from './ql.js'
import { secularRoom, solveSecular } from './secular.js'

/** Up to here QL is as fast. */
const leafMax = 32

/** Below this, in a vector of norm 1, is zero: lest products of eigenvectors be denormal. */
const tiny = 2 ** -100

/** Numbers of work space for n. */
export const divideRoom = (n: number, stride: number): number => 2 * (n + 8) * stride + secularRoom(n) + 64

/**
 * Diagonalises T with the diagonal d [n] and the off-diagonal e [n], of norm ½ to n, in place: row i of Z [n, n] (zero
 * before) becomes the eigenvector of d[i]. e is destroyed.
 * @returns int [n], the rows by ascending value
 */
export const divideAndConquer = (
  kernels: Kernels,
  { d, e }: { d: Float64Array; e: Float64Array },
  z: Operand,
  goOn: () => void,
): Int32Array => {
  const n = d.length
  const square = (n + 8) * z.stride
  const room = { u: kernels.take(square), q: kernels.take(square), secular: kernels.take(secularRoom(n)) }
  const x = kernels.numbers
  const solve = (lo: number, hi: number): Int32Array => {
    if (hi - lo <= leafMax) return leaf(lo, hi)
    const mid = (lo + hi) >> 1
    const beta = e[mid - 1]
    d[mid - 1] -= Math.abs(beta)
    d[mid] -= Math.abs(beta)
    const first = solve(lo, mid)
    const second = solve(mid, hi)
    goOn()
    return merge(kernels, { d, z, room, lo, mid, hi, beta, first, second })
  }
  const leaf = (lo: number, hi: number): Int32Array => {
    for (let i = lo; i < hi; i++) x[z.at + i * z.stride + i] = 1
    implicitQl(d, e, x, { at: lo, n: hi - lo, stride: z.stride, zAt: z.at })
    for (let i = lo; i < hi; i++)
      for (let j = z.at + i * z.stride + lo; j < z.at + i * z.stride + hi; j++) if (Math.abs(x[j]) < tiny) x[j] = 0
    return ascending(d, lo, hi)
  }
  return solve(0, n)
}

/** The rows [lo, hi) by ascending value. */
const ascending = (d: Float64Array, lo: number, hi: number): Int32Array =>
  Int32Array.from({ length: hi - lo }, (_, i) => lo + i).sort((i, j) => d[i] - d[j])

interface Merge {
  readonly d: Float64Array
  readonly z: Operand
  /** Where [n + 8, stride] numbers may be left, twice, and those of the secular equation. */
  readonly room: { readonly u: number; readonly q: number; readonly secular: number }
  readonly lo: number
  readonly mid: number
  readonly hi: number
  readonly beta: number
  readonly first: Int32Array
  readonly second: Int32Array
}

/** In which columns an eigenvector is not zero; the order of the rows before the product. */
const Half = { first: 0, both: 1, second: 2 } as const

/** Joins the solved halves [lo, mid) and [mid, hi). Returns the rows by ascending value. */
const merge = (kernels: Kernels, { d, z, room, lo, mid, hi, beta, first, second }: Merge): Int32Array => {
  const x = kernels.numbers
  const n = hi - lo
  const rowAt = (i: number): number => z.at + i * z.stride + lo
  // The coupling: z = (last components of the first half, first of the second) / √2, ρ = 2 |β|.
  const rho = 2 * Math.abs(beta)
  const coupling = new Float64Array(n)
  for (let i = lo; i < mid; i++) coupling[i - lo] = x[z.at + i * z.stride + mid - 1] * Math.SQRT1_2
  for (let i = mid; i < hi; i++)
    coupling[i - lo] = (beta < 0 ? -Math.SQRT1_2 : Math.SQRT1_2) * x[z.at + i * z.stride + mid]
  const half = new Uint8Array(n)
  for (let i = lo; i < hi; i++) half[i - lo] = i < mid ? Half.first : Half.second

  const { active, deflated } = deflate({ x, d, rho, coupling, half, rowAt, lo, n, order: merged(d, first, second) })
  const k = active.length
  if (k === 0) return ascending(d, lo, hi)

  // Rows of the active vectors are set apart, those of the first half before the mixed before the second.
  const byHalf = [Half.first, Half.both, Half.second].map((kind) => active.filter((i) => half[i - lo] === kind))
  const [onlyFirst, mixed] = [byHalf[0].length, byHalf[1].length]
  const withFirst = onlyFirst + mixed
  const withSecond = k - onlyFirst
  const column = new Int32Array(n)
  byHalf.flat().forEach((i, place) => (column[i - lo] = place))
  const [n1, n2] = [mid - lo, hi - mid]
  const q1: Operand = { at: room.q, stride: z.stride } // [withFirst, n1]
  const q2: Operand = { at: room.q + (n1 + 4) * z.stride, stride: z.stride } // [withSecond, n2]
  for (const i of active) {
    const place = column[i - lo]
    const from = rowAt(i)
    if (place < withFirst) x.copyWithin(q1.at + place * z.stride, from, from + n1)
    if (place >= onlyFirst) x.copyWithin(q2.at + (place - onlyFirst) * z.stride, from + n1, from + n)
  }
  // Deflated rows go behind the k new ones.
  const kept = Float64Array.from(deflated, (i) => d[i])
  deflated.forEach((i, place) => x.copyWithin(room.u + place * z.stride, rowAt(i), rowAt(i) + n))
  const problem = {
    d: Float64Array.from(active, (i) => d[i]),
    z: Float64Array.from(active, (i) => coupling[i - lo]),
    rho,
  }
  for (let i = 0; i < n; i++) x.fill(0, rowAt(lo + i), rowAt(lo + i) + n)
  deflated.forEach((_, place) => {
    const from = room.u + place * z.stride
    x.copyWithin(rowAt(lo + k + place), from, from + n)
    d[lo + k + place] = kept[place]
  })

  const u: Operand = { at: room.u, stride: z.stride } // [k, k]
  const places = Int32Array.from(active, (i) => column[i - lo])
  d.set(solveSecular(kernels, problem, { u, column: places, room: room.secular }), lo)
  kernels.multiply({ m: k, n: n1, k: withFirst }, u, q1, { at: rowAt(lo), stride: z.stride })
  kernels.multiply({ m: k, n: n2, k: withSecond }, { ...u, at: u.at + onlyFirst }, q2, {
    at: rowAt(lo) + n1,
    stride: z.stride,
  })
  return ascending(d, lo, hi)
}

/** Two ascending lists of rows as one. */
const merged = (d: Float64Array, first: Int32Array, second: Int32Array): Int32Array => {
  const order = new Int32Array(first.length + second.length)
  for (let to = 0, i = 0, j = 0; to < order.length; to++)
    order[to] = j === second.length || (i < first.length && d[first[i]] <= d[second[j]]) ? first[i++] : second[j++]
  return order
}

interface Deflation {
  readonly x: Float64Array
  readonly d: Float64Array
  readonly rho: number
  readonly coupling: Float64Array
  readonly half: Uint8Array
  readonly rowAt: (i: number) => number
  readonly lo: number
  readonly n: number
  readonly order: Int32Array
}

/**
 * Parts the rows into those that are final and those that the secular equation is solved for, both by ascending value.
 * Where two values all but agree, a rotation of the two vectors makes one final.
 */
const deflate = ({ x, d, rho, coupling, half, rowAt, lo, n, order }: Deflation) => {
  const active: number[] = []
  const deflated: number[] = []
  let most = 0
  for (const i of order) most = Math.max(most, Math.abs(d[i]), Math.abs(coupling[i - lo]))
  const tolerance = 4 * Number.EPSILON * most
  let previous = -1
  for (const i of order) {
    if (rho * Math.abs(coupling[i - lo]) <= tolerance) {
      deflated.push(i)
      continue
    }
    if (previous >= 0) {
      const size = Math.hypot(coupling[i - lo], coupling[previous - lo])
      const c = coupling[i - lo] / size
      const s = -coupling[previous - lo] / size
      if (Math.abs((d[i] - d[previous]) * c * s) <= tolerance) {
        coupling[i - lo] = size
        coupling[previous - lo] = 0
        if (half[i - lo] !== half[previous - lo]) half[i - lo] = Half.both
        rotateRows(x, { i: rowAt(previous), j: rowAt(i), n, c, s })
        const [dp, di] = [d[previous], d[i]]
        d[previous] = dp * c * c + di * s * s
        d[i] = dp * s * s + di * c * c
        deflated.push(previous)
      } else active.push(previous)
    }
    previous = i
  }
  if (previous >= 0) active.push(previous)
  return { active, deflated }
}
