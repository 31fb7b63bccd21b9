/**
 * @file Eigenvalues and eigenvectors of diag(d) + ρ z zᵀ: the inner problem of the divide and conquer.
 *
 * The eigenvalues are the roots of f(λ) = 1/ρ + Σ_j z_j²/(d_j − λ), one right of each d_j. A root is found as an offset
 * from its nearer pole, so that all differences d_j − λ have full relative accuracy (Li, LAPACK Working Note 89; "the
 * middle way", with a bracket around it). From those differences ẑ is computed for which the roots are exact (Gu,
 * Eisenstat 1995): that makes the eigenvectors orthogonal to rounding, however close the roots are.
 */
import type { Kernels, Operand } from './kernels.js'

/** A root takes 3 to 6 steps; far above it is a bug. */
const stepsMax = 200
/** From here on the bracket is halved instead. */
const patience = 40

/** Below this, in a vector of norm 1, is zero: lest products of eigenvectors be denormal. */
const tiny = 2 ** -100

export interface Secular {
  /** f64 [k], strictly ascending. */
  readonly d: Float64Array
  /** f64 [k], no zeros; norm about 1. */
  readonly z: Float64Array
  /** Greater than 0. */
  readonly rho: number
}

/** Where vectors lie in the kernels' memory: indices of their first numbers. */
interface Room {
  readonly d: number
  readonly z2: number
  readonly delta: number
  readonly zHat: number
  readonly sums: number
}

/** Numbers of work space for k. */
export const secularRoom = (k: number): number => 4 * (k + 16) + 16

/**
 * Solves for all k roots. Row i of U [k, k] becomes the eigenvector of the i-th root; its element j is put to column
 * `column[j]`.
 * @param room index of `secularRoom(k)` numbers
 * @returns f64 [k], the roots, ascending
 */
export const solveSecular = (
  kernels: Kernels,
  { d, z, rho }: Secular,
  { u, column, room }: { u: Operand; column: Int32Array; room: number },
): Float64Array => {
  const k = d.length
  const x = kernels.numbers
  const size = Math.ceil(k / 8) * 8 + 8
  const at: Room = { d: room, z2: room + size, delta: room + 2 * size, zHat: room + 3 * size, sums: room + 4 * size }
  const rowAt = (i: number): number => u.at + i * u.stride
  x.fill(0, room, room + 4 * size + 8)
  x.set(d, at.d)
  for (let j = 0; j < k; j++) x[at.z2 + j] = z[j] * z[j]
  const roots = new Float64Array(k)
  for (let i = 0; i < k; i++) roots[i] = root(kernels, i, { k, at, rho, to: rowAt(i) })

  // ẑ_j² = Π_i (λ_i − d_j) / Π_{i≠j} (d_i − d_j), in an order in which each factor is about 1.
  for (let j = 0; j < k; j++) x[at.zHat + j] = x[rowAt(j) + j]
  for (let i = 0; i < k; i++) {
    const vectors = { to: at.zHat, u: rowAt(i), d: at.d }
    kernels.timesRatios({ from: 0, end: i, ...vectors }, d[i])
    kernels.timesRatios({ from: i + 1, end: k, ...vectors }, d[i])
  }
  for (let j = 0; j < k; j++) x[at.zHat + j] = Math.sign(z[j]) * Math.sqrt(Math.abs(x[at.zHat + j]))

  for (let i = 0; i < k; i++) {
    const row = rowAt(i)
    kernels.quotients(k, { to: at.delta, z: at.zHat, u: row })
    let square = 0
    for (let j = at.delta; j < at.delta + k; j++) square += x[j] * x[j]
    const scale = 1 / Math.sqrt(square)
    for (let j = 0; j < k; j++) {
      const value = x[at.delta + j] * scale
      x[row + column[j]] = Math.abs(value) < tiny ? 0 : value
    }
  }
  return roots
}

interface Search {
  readonly k: number
  readonly at: Room
  readonly rho: number
  /** Gets the differences d_j − λ. */
  readonly to: number
}

/** The i-th root λ, and the differences d_j − λ. */
const root = (kernels: Kernels, i: number, { k, at, rho, to }: Search): number => {
  const x = kernels.numbers
  const last = i === k - 1
  const constant = 1 / rho
  const z2 = (j: number): number => x[at.z2 + j]
  const delta = (j: number): number => x[at.delta + j]
  const sums = (from: number, end: number, t: number) =>
    kernels.poleSums({ from, end, d: at.delta, z: at.z2, to: at.sums }, t)
  const moveOrigin = (j: number): void => kernels.shift(k, { from: at.d, amount: x[at.d + j], to: at.delta })

  let origin = i
  let lo = 0
  let hi: number
  let tau: number
  moveOrigin(i)
  if (last) {
    let total = 0
    for (let j = 0; j < k; j++) total += z2(j)
    hi = rho * total
    tau = hi
    if (k > 1) {
      const rest = constant + sums(0, k - 2, hi / 2).sum
      const gap = -delta(k - 2)
      if (rest > 0) tau = greaterRoot(rest, -rest * gap + z2(k - 2) + z2(k - 1), -z2(k - 1) * gap)
    }
  } else {
    // The sign of f halfway tells the nearer pole; without the terms of the two poles f is nearly constant.
    const gap = delta(i + 1)
    const half = gap / 2
    const rest = constant + sums(0, i, half).sum + sums(i + 2, k, half).sum
    if (rest + (z2(i + 1) - z2(i)) / half >= 0) {
      hi = half
      tau = nearerRoot(rest, rest * gap + z2(i) + z2(i + 1), z2(i) * gap)
    } else {
      origin = i + 1
      lo = -half
      hi = 0
      tau = nearerRoot(rest, -rest * gap + z2(i) + z2(i + 1), -z2(i + 1) * gap)
      moveOrigin(i + 1)
    }
  }
  if (!(tau > lo && tau < hi)) tau = (lo + hi) / 2

  const left = last ? Math.max(i - 1, 0) : i // ψ is the sum over j ≤ left, φ over the others
  for (let step = 0; ; step++) {
    if (step === stepsMax) throw new Error(`secular equation: root ${i} of ${k} not found in ${stepsMax} steps`)
    const psi = sums(0, left + 1, tau)
    const phi = sums(left + 1, k, tau)
    const f = constant + psi.sum + phi.sum
    const slope = psi.slope + phi.slope
    if (f < 0) lo = tau
    else hi = tau
    const terms = 8 * (Math.abs(psi.sum) + Math.abs(phi.sum)) + 2 * constant + Math.abs(tau) * slope
    if (Math.abs(f) <= (Number.EPSILON / 2) * terms) break
    const middle = (lo + hi) / 2
    if (middle <= lo || middle >= hi) break
    let next = middle
    if (step < patience) {
      // f is replaced by c + s/(d1 − η) + S/(d2 − η) with the values and slopes of ψ and φ.
      const d1 = delta(left) - tau
      const d2 = k === 1 ? d1 : delta(left + 1) - tau
      const c = f - d1 * psi.slope - d2 * phi.slope
      const a = (d1 + d2) * f - d1 * d2 * slope
      const b = d1 * d2 * f
      next = tau + (last ? greaterRoot(Math.abs(c), a, b) : nearerRoot(c, a, b))
      if (!(next > lo && next < hi)) next = middle
    }
    const moved = Math.abs(next - tau)
    tau = next
    if (moved <= (Number.EPSILON / 2) * Math.abs(tau)) break
  }
  kernels.shift(k, { from: at.delta, amount: tau, to })
  return x[at.d + origin] + tau
}

/** The root of c η² − a η + b that continues from η = b/a at c = 0, without cancellation. */
const nearerRoot = (c: number, a: number, b: number): number => {
  const square = Math.sqrt(Math.max(0, a * a - 4 * b * c))
  return a > 0 ? (2 * b) / (a + square) : (a - square) / (2 * c)
}

/** The other root: right of both poles if they are the last. */
const greaterRoot = (c: number, a: number, b: number): number => {
  const square = Math.sqrt(Math.max(0, a * a - 4 * b * c))
  return a >= 0 ? (a + square) / (2 * c) : (2 * b) / (a - square)
}
