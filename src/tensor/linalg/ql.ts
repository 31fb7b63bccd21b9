/**
 * @file The implicit QL iteration for a symmetric tridiagonal matrix (Bowdler, Martin, Reinsch, Wilkinson 1968;
 * Parlett, The Symmetric Eigenvalue Problem, ch. 8). The leaves of the divide and conquer.
 */

/** QL needs less than two iterations per eigenvalue on average; far above it is a bug. */
const iterationsMax = 80

/** ε/8: in a matrix of norm ½ or more an off-diagonal element below this is rounding, whatever stands beside it. */
const floor = 2 ** -55

/**
 * Diagonalises the tridiagonal matrix T with diagonal `d[at .. at+n)` and off-diagonal `e[at .. at+n−1)` in place, to
 * an absolute error of ε times the larger of ½ and ‖T‖.
 * Rows `at + j` of z, columns `[at, at+n)`, are rotated with it: if they were those of the identity, row `at + j` ends
 * as the eigenvector of `d[at + j]`. Not sorted; `e[at .. at+n)` is destroyed.
 * @param z f64, row-major with `stride`
 */
export const implicitQl = (
  d: Float64Array,
  e: Float64Array,
  z: Float64Array,
  { at, n, stride, zAt = 0 }: { at: number; n: number; stride: number; zAt?: number },
): void => {
  const last = at + n - 1
  for (let l = at; l < last; l++)
    for (let iteration = 0; ; iteration++) {
      const m = blockEnd(d, e, l, last)
      if (m === l) break
      if (iteration === iterationsMax) throw new Error(`QL did not converge in ${iterationsMax} iterations of n = ${n}`)
      // Wilkinson's shift: the eigenvalue of the leading 2 × 2 that is nearer to d[l].
      const half = (d[l + 1] - d[l]) / (2 * e[l])
      const root = Math.sqrt(1 + half * half)
      const shift = d[l] - e[l] / (half + (half < 0 ? -root : root))
      // One QL sweep: the bulge (f) is chased from the bottom of the block to its top.
      let c = 1
      let s = 1
      let p = 0 // what the rotation below has added to the diagonal
      let g = d[m] - shift
      let i = m - 1
      for (; i >= l; i--) {
        const f = s * e[i]
        const b = c * e[i]
        const r = Math.sqrt(f * f + g * g)
        e[i + 1] = r
        if (r < 2 ** -480) break // underflow: the block has split here
        s = f / r
        c = g / r
        const upper = d[i + 1] - p
        const cross = (d[i] - upper) * s + 2 * c * b
        p = s * cross
        d[i + 1] = upper + p
        g = c * cross - b
        rotateRows(z, { i: zAt + (i + 1) * stride + at, j: zAt + i * stride + at, n, c, s })
      }
      if (i >= l) {
        d[i + 1] -= p
        e[i + 1] = 0
        e[m] = 0
      } else {
        d[l] -= p
        e[l] = g
        if (m < last) e[m] = 0
      }
    }
}

/** The end of the unreduced block that starts at l: the first m with e[m] negligible, or the last row. */
const blockEnd = (d: Float64Array, e: Float64Array, l: number, last: number): number => {
  let m = l
  while (m < last && Math.abs(e[m]) > (Number.EPSILON / 2) * (Math.abs(d[m]) + Math.abs(d[m + 1])) + floor) m++
  return m
}

/** (x, y) ← (c x + s y, c y − s x) for the rows at i and j. */
export const rotateRows = (
  z: Float64Array,
  { i, j, n, c, s }: { i: number; j: number; n: number; c: number; s: number },
): void => {
  for (let k = 0; k < n; k++) {
    const x = z[i + k]
    const y = z[j + k]
    z[i + k] = c * x + s * y
    z[j + k] = c * y - s * x
  }
}
