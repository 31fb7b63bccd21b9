/**
 * @file Factorisations of small dense matrices in float64, by plain loops on the calling thread.
 */

/** A = U diag(values) Vᵀ with r = min(m, n). */
export interface Svd {
  /** f64 [m, r], row-major; columns are orthonormal. */
  readonly u: Float64Array
  /** f64 [r], descending, not negative. */
  readonly values: Float64Array
  /** f64 [n, r], row-major; columns are orthonormal. */
  readonly v: Float64Array
}

/** A = Q R. */
export interface Qr {
  /** f64 [m, n], row-major; columns are orthonormal. */
  readonly q: Float64Array
  /** f64 [n, n], row-major, upper triangular with a diagonal that is not negative. */
  readonly r: Float64Array
}

/** Sweeps over all pairs of columns: convergence is quadratic, so a dozen is many. */
const sweepsMax = 60

/** The square of a column, beside a largest of about 1, whose products would underflow. */
const negligible = 2 ** -800

/**
 * The thin singular value decomposition by one-sided Jacobi rotations (Hestenes; Golub and Van Loan, §8.6): accurate
 * even for small singular values. About 10·m·n² multiplications per sweep, up to a dozen sweeps: for 512 × 128.
 * @param a f64 [m, n], row-major, any m and n. Not changed.
 * @throws  RangeError if the length isn't m·n or a number is not finite
 */
export const svdSmall = (a: Float64Array, m: number, n: number): Svd => {
  checkedShape('svdSmall', a, m, n)
  if (m < n) {
    const { u, values, v } = svdSmall(transposed(a, m, n), n, m)
    return { u: v, values, v: u }
  }
  // Rows of `columns` are the columns of A on their way to U diag(values); rows of `right` become those of V.
  const { columns, exponent } = scaled(transposed(a, m, n))
  const right = new Float64Array(n * n)
  for (let j = 0; j < n; j++) right[j * n + j] = 1
  orthogonalise(columns, right, m, n)

  const norms = Float64Array.from({ length: n }, (_, j) => norm(columns, j * m, m))
  const order = Array.from(norms.keys()).sort((i, j) => norms[j] - norms[i])
  const most = n > 0 ? norms[order[0]] : 0
  const u = new Float64Array(m * n) // rows are columns of U until the end
  const v = new Float64Array(n * n)
  for (let j = 0; j < n; j++) {
    const from = order[j]
    for (let i = 0; i < n; i++) v[i * n + j] = right[from * n + i]
    if (norms[from] > most * Number.EPSILON * 2 ** -60)
      for (let i = 0; i < m; i++) u[j * m + i] = columns[from * m + i] / norms[from]
    else complete(u, j, m) // a zero singular value: any direction that is orthogonal to the others
  }
  return { u: transposed(u, n, m), values: Float64Array.from(order, (j) => norms[j] * 2 ** exponent), v }
}

/**
 * The thin QR factorisation by Householder reflections: Q is orthonormal to ε even if A is rank-deficient.
 * @param a f64 [m, n], row-major, m ≥ n. Not changed.
 * @throws  RangeError if the length isn't m·n, m < n or a number is not finite
 */
export const qrThin = (a: Float64Array, m: number, n: number): Qr => {
  checkedShape('qrThin', a, m, n)
  if (m < n) throw new RangeError(`qrThin: ${m} × ${n} has more columns than rows`)
  const { columns: t, exponent } = scaled(transposed(a, m, n)) // rows are the columns of A
  const tau = new Float64Array(n)
  const r = new Float64Array(n * n)
  for (let j = 0; j < n; j++) {
    tau[j] = reflector(t, j * m + j, m - j)
    for (let k = j + 1; k < n; k++) reflect(t, { v: j * m + j, x: k * m + j, length: m - j, tau: tau[j] })
    for (let i = 0; i <= j; i++) r[i * n + j] = t[j * m + i] * 2 ** exponent
  }
  const q = new Float64Array(n * m)
  for (let j = 0; j < n; j++) q[j * m + j] = 1
  for (let j = n - 1; j >= 0; j--) {
    t[j * m + j] = 1 // the leading 1 of the reflector, where R's diagonal stood
    for (let k = j; k < n; k++) reflectWith(q, k * m + j, t, { v: j * m + j, length: m - j, tau: tau[j] })
  }
  for (let j = 0; j < n; j++) {
    if (r[j * n + j] >= 0) continue
    for (let k = j; k < n; k++) r[j * n + k] = -r[j * n + k]
    for (let i = 0; i < m; i++) q[j * m + i] = -q[j * m + i]
  }
  return { q: transposed(q, n, m), r }
}

/** Rotates pairs of rows until all are orthogonal. `columns` [n, m], `right` [n, n]. */
const orthogonalise = (columns: Float64Array, right: Float64Array, m: number, n: number): void => {
  const tolerance = Number.EPSILON * Math.sqrt(m)
  for (let sweep = 0, rotated = true; rotated; sweep++) {
    if (sweep === sweepsMax) throw new Error(`svdSmall did not converge in ${sweepsMax} sweeps of ${m} × ${n}`)
    rotated = false
    for (let i = 0; i < n; i++)
      for (let j = i + 1; j < n; j++) {
        const x = dot(columns, i * m, columns, i * m, m)
        const y = dot(columns, j * m, columns, j * m, m)
        const xy = dot(columns, i * m, columns, j * m, m)
        if (Math.abs(xy) <= tolerance * Math.sqrt(x) * Math.sqrt(y) || Math.min(x, y) < negligible) continue
        rotated = true
        const cot = (y - x) / (2 * xy)
        const t = (cot < 0 ? -1 : 1) / (Math.abs(cot) + Math.hypot(1, cot))
        const c = 1 / Math.hypot(1, t)
        rotate(columns, { i: i * m, j: j * m, length: m, c, s: c * t })
        rotate(right, { i: i * n, j: j * n, length: n, c, s: c * t })
      }
  }
}

/** (x, y) ← (c x − s y, s x + c y) */
const rotate = (
  rows: Float64Array,
  { i, j, length, c, s }: { i: number; j: number; length: number; c: number; s: number },
): void => {
  for (let k = 0; k < length; k++) {
    const x = rows[i + k]
    const y = rows[j + k]
    rows[i + k] = c * x - s * y
    rows[j + k] = s * x + c * y
  }
}

/** Sets row j of u [.., m] to a unit vector that is orthogonal to the rows before it. */
const complete = (u: Float64Array, j: number, m: number): void => {
  // Of the m unit vectors one has a part of at least √((m − j)/m) outside the span of j rows: take the first with half.
  for (let axis = 0; axis < m; axis++) {
    u.fill(0, j * m, (j + 1) * m)
    u[j * m + axis] = 1
    for (let pass = 0; pass < 2; pass++)
      for (let k = 0; k < j; k++) {
        const part = dot(u, k * m, u, j * m, m)
        for (let i = 0; i < m; i++) u[j * m + i] -= part * u[k * m + i]
      }
    const left = norm(u, j * m, m)
    if (left < 0.5 / Math.sqrt(m)) continue
    for (let i = 0; i < m; i++) u[j * m + i] /= left
    return
  }
  throw new Error(`svdSmall: no direction is orthogonal to ${j} rows of length ${m}`)
}

/** Turns x into (β, v₂, v₃, ..): H x = β e₁ with H = I − τ v vᵀ, v₁ = 1. Returns τ. */
const reflector = (t: Float64Array, at: number, length: number): number => {
  const tail = norm(t, at + 1, length - 1)
  if (tail < 2 ** -900) return 0 // beside a matrix of size 1; what is left of smaller numbers has no digits
  const alpha = t[at]
  const beta = alpha < 0 ? Math.hypot(alpha, tail) : -Math.hypot(alpha, tail)
  for (let i = 1; i < length; i++) t[at + i] /= alpha - beta
  t[at] = beta
  return (beta - alpha) / beta
}

/** x ← H x, with v₁ = 1 implied. */
const reflect = (
  t: Float64Array,
  { v, x, length, tau }: { v: number; x: number; length: number; tau: number },
): void => {
  let sum = t[x]
  for (let i = 1; i < length; i++) sum += t[v + i] * t[x + i]
  t[x] -= tau * sum
  for (let i = 1; i < length; i++) t[x + i] -= tau * sum * t[v + i]
}

/** x ← H x for x in q. */
const reflectWith = (
  q: Float64Array,
  x: number,
  t: Float64Array,
  { v, length, tau }: { v: number; length: number; tau: number },
): void => {
  const sum = tau * dot(t, v, q, x, length)
  for (let i = 0; i < length; i++) q[x + i] -= sum * t[v + i]
}

const dot = (x: Float64Array, xAt: number, y: Float64Array, yAt: number, length: number): number => {
  let sum = 0
  for (let i = 0; i < length; i++) sum += x[xAt + i] * y[yAt + i]
  return sum
}

/** √Σx², by way of the largest, so that no square is lost to underflow. */
const norm = (x: Float64Array, at: number, length: number): number => {
  let most = 0
  for (let i = at; i < at + length; i++) most = Math.max(most, Math.abs(x[i]))
  if (most === 0) return 0
  let sum = 0
  for (let i = at; i < at + length; i++) sum += (x[i] / most) ** 2
  return most * Math.sqrt(sum)
}

/** Scales in place by 2^−exponent to a largest entry near 1, so that squares neither overflow nor vanish. */
const scaled = (columns: Float64Array): { columns: Float64Array; exponent: number } => {
  let most = 0
  for (const x of columns) most = Math.max(most, Math.abs(x))
  const exponent = most === 0 ? 0 : Math.max(-1020, Math.min(1020, Math.floor(Math.log2(most))))
  for (let i = 0; i < columns.length; i++) columns[i] *= 2 ** -exponent
  return { columns, exponent }
}

/** f64 [m, n] → f64 [n, m] */
const transposed = (a: Float64Array, m: number, n: number): Float64Array => {
  const t = new Float64Array(a.length)
  for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) t[j * m + i] = a[i * n + j]
  return t
}

const checkedShape = (what: string, a: Float64Array, m: number, n: number): void => {
  if (!Number.isInteger(m) || !Number.isInteger(n) || m < 0 || n < 0 || a.length !== m * n)
    throw new RangeError(`${what}: ${a.length} numbers are not a matrix of ${m} × ${n}`)
  for (let i = 0; i < a.length; i++)
    if (!Number.isFinite(a[i]))
      throw new RangeError(`${what}: ${a[i]} in row ${Math.floor(i / n)}, column ${i % n} of ${m} × ${n}`)
}
