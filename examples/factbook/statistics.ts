/**
 * @file The exact tests of the example. Under the null a document's rank among N is uniform on 0..N-1 (scores say
 * nothing of which document is whose), and the ranks of different queries are independent.
 *
 * The median: of n ranks, at least h = ⌊n/2⌋ + 1 are ≤ m, the h-th smallest, which is the median of an odd number and
 * the upper one of an even number (so an even number is judged a little more severely). One rank is ≤ m with
 * p = (m + 1)/N, so the number of those that are is Binomial(n, p), and the tail from h on is the exact probability
 * of a median this good by chance.
 */

/** The h-th smallest, h = ⌊n/2⌋ + 1: the median; of an even number, the upper one. @throws RangeError if empty */
export const upperMedian = (values: readonly number[]): number => {
  if (values.length === 0) throw new RangeError('no values: there is no median')
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]
}

/** P(Binomial(n, p) ≥ h), summed from its smallest terms in logarithms: exact to float rounding. */
export const binomialTail = (n: number, p: number, h: number): number => {
  if (h <= 0 || p >= 1) return 1
  if (h > n || p <= 0) return 0
  let logChoose = 0 // log C(n, j), by C(n, j) = C(n, j-1)·(n-j+1)/j
  const terms: number[] = []
  for (let j = 0; j <= n; j++) {
    if (j > 0) logChoose += Math.log(n - j + 1) - Math.log(j)
    if (j >= h) terms.push(Math.exp(logChoose + j * Math.log(p) + (n - j) * Math.log1p(-p)))
  }
  return Math.min(1, terms.sort((a, b) => a - b).reduce((sum, term) => sum + term, 0))
}

/**
 * The probability that the median of ranks is this low by chance.
 * @param ranks of n queries, each in 0..documents - 1
 */
export const medianByChance = (ranks: readonly number[], documents: number): number =>
  binomialTail(ranks.length, (upperMedian(ranks) + 1) / documents, Math.floor(ranks.length / 2) + 1)

/**
 * The exact sign test of pairs: the probability that so many of the pairs that differ have a < b, or more, if either
 * order is as likely. 1 where no pair differs.
 */
export const signTest = (pairs: readonly (readonly [a: number, b: number])[]): number => {
  const differing = pairs.filter(([a, b]) => a !== b)
  return binomialTail(differing.length, 0.5, differing.filter(([a, b]) => a < b).length)
}
