/**
 * @file Eigenvalues and eigenvectors of diag(d) + ρ z zᵀ: the inner problem of the divide and conquer.
 *
 * The eigenvalues are the roots of f(λ) = 1/ρ + Σ_j z_j²/(d_j − λ), one right of each d_j. A root is found as an offset
 * from its nearer pole, so that all differences d_j − λ have full relative accuracy (Li, LAPACK Working Note 89; "the
 * middle way", with a bracket around it). From those differences ẑ is computed for which the roots are exact (Gu,
 * Eisenstat 1995): that makes the eigenvectors orthogonal to rounding, however close the roots are.
 */

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

/**
 * Solves for all k roots. Row i of `u` (of `stride`, at `at`) becomes the eigenvector of the i-th root; its element j
 * is put to column `column[j]`.
 * @returns f64 [k], the roots, ascending
 */
export const solveSecular = (
  { d, z, rho }: Secular,
  u: Float64Array,
  { at, stride, column }: { at: number; stride: number; column: Int32Array },
): Float64Array => {
  const k = d.length
  const roots = new Float64Array(k)
  const z2 = z.map((x) => x * x)
  const delta = new Float64Array(k)
  for (let i = 0; i < k; i++) roots[i] = root(i, { d, z2, rho, delta, u, to: at + i * stride })

  // ẑ_j² = Π_i (λ_i − d_j) / Π_{i≠j} (d_i − d_j), in an order in which each factor is about 1.
  const zHat = new Float64Array(k)
  for (let j = 0; j < k; j++) zHat[j] = u[at + j * stride + j]
  for (let i = 0; i < k; i++) {
    const row = at + i * stride
    const di = d[i]
    for (let j = 0; j < i; j++) zHat[j] *= u[row + j] / (d[j] - di)
    for (let j = i + 1; j < k; j++) zHat[j] *= u[row + j] / (d[j] - di)
  }
  for (let j = 0; j < k; j++) zHat[j] = z[j] < 0 ? -Math.sqrt(Math.abs(zHat[j])) : Math.sqrt(Math.abs(zHat[j]))

  for (let i = 0; i < k; i++) {
    const row = at + i * stride
    let square = 0
    for (let j = 0; j < k; j++) {
      const x = zHat[j] / u[row + j]
      delta[j] = x
      square += x * x
    }
    const scale = 1 / Math.sqrt(square)
    for (let j = 0; j < k; j++) {
      const x = delta[j] * scale
      u[row + column[j]] = Math.abs(x) < tiny ? 0 : x
    }
  }
  return roots
}

interface Search {
  readonly d: Float64Array
  readonly z2: Float64Array
  readonly rho: number
  /** Work space [k]. */
  readonly delta: Float64Array
  /** Gets d_j − λ from `to` on. */
  readonly u: Float64Array
  readonly to: number
}

/** The i-th root λ, and the differences d_j − λ. */
const root = (i: number, { d, z2, rho, delta, u, to }: Search): number => {
  const k = d.length
  const last = i === k - 1
  const constant = 1 / rho
  let origin = i
  let lo = 0
  let hi: number
  let tau: number
  if (last) {
    let total = 0
    for (let j = 0; j < k; j++) total += z2[j]
    hi = rho * total
    for (let j = 0; j < k; j++) delta[j] = d[j] - d[i]
    tau = k === 1 ? hi : startLast(delta, z2, constant, hi)
  } else {
    // The sign of f halfway tells the nearer pole.
    const gap = d[i + 1] - d[i]
    const half = gap / 2
    let rest = constant
    for (let j = 0; j < i; j++) rest += z2[j] / (d[j] - d[i] - half)
    for (let j = i + 2; j < k; j++) rest += z2[j] / (d[j] - d[i] - half)
    if (rest + (z2[i + 1] - z2[i]) / half >= 0) {
      hi = half
      tau = start(rest, { a: rest * gap + z2[i] + z2[i + 1], b: z2[i] * gap })
    } else {
      origin = i + 1
      lo = -half
      hi = 0
      tau = start(rest, { a: -rest * gap + z2[i] + z2[i + 1], b: -z2[i + 1] * gap })
    }
    const from = d[origin]
    for (let j = 0; j < k; j++) delta[j] = d[j] - from
  }
  if (!(tau > lo && tau < hi)) tau = (lo + hi) / 2

  const left = last ? Math.max(i - 1, 0) : i // ψ is the sum over j ≤ left, φ over the others
  for (let step = 0; ; step++) {
    if (step === stepsMax) throw new Error(`secular equation: root ${i} of ${k} not found in ${stepsMax} steps`)
    let psi = 0
    let dPsi = 0
    for (let j = 0; j <= left; j++) {
      const difference = delta[j] - tau
      const term = z2[j] / difference
      psi += term
      dPsi += term / difference
    }
    let phi = 0
    let dPhi = 0
    for (let j = left + 1; j < k; j++) {
      const difference = delta[j] - tau
      const term = z2[j] / difference
      phi += term
      dPhi += term / difference
    }
    const f = constant + psi + phi
    const slope = dPsi + dPhi
    if (f < 0) lo = tau
    else hi = tau
    const rounding = (Number.EPSILON / 2) * (8 * (Math.abs(psi) + Math.abs(phi)) + 2 * constant + Math.abs(tau) * slope)
    if (Math.abs(f) <= rounding) break
    const middle = (lo + hi) / 2
    if (middle <= lo || middle >= hi) break
    const d1 = delta[left] - tau
    const d2 = k === 1 ? d1 : delta[left + 1] - tau
    let next = middle
    if (step < patience) {
      const b = d1 * d2 * f
      const a = (d1 + d2) * f - d1 * d2 * slope
      if (last) next = tau + stepLast(Math.abs(f - d1 * dPsi - d2 * dPhi), a, b)
      else next = tau + start(f - d1 * dPsi - d2 * dPhi, { a, b })
      if (!(next > lo && next < hi)) next = middle
    }
    const moved = Math.abs(next - tau)
    tau = next
    if (moved <= (Number.EPSILON / 2) * Math.abs(tau)) break
  }
  for (let j = 0; j < k; j++) u[to + j] = delta[j] - tau
  return d[origin] + tau
}

/** The root of c η² − a η + b nearer to 0 (for a > 0), without cancellation. */
const start = (c: number, { a, b }: { a: number; b: number }): number => {
  const square = Math.sqrt(Math.max(0, a * a - 4 * b * c))
  return a > 0 ? (2 * b) / (a + square) : (a - square) / (2 * c)
}

/** For the last root, right of all poles: the greater root. */
const stepLast = (c: number, a: number, b: number): number => {
  const square = Math.sqrt(Math.max(0, a * a - 4 * b * c))
  return a >= 0 ? (a + square) / (2 * c) : (2 * b) / (a - square)
}

/** Where to look for the last root in (0, hi): exact if only the last two poles were near. */
const startLast = (delta: Float64Array, z2: Float64Array, constant: number, hi: number): number => {
  const k = delta.length
  const gap = -delta[k - 2]
  let rest = constant
  for (let j = 0; j < k - 2; j++) rest += z2[j] / (delta[j] - hi / 2)
  if (rest <= 0) return hi
  const a = -rest * gap + z2[k - 2] + z2[k - 1]
  return stepLast(rest, a, -z2[k - 1] * gap)
}
