/**
 * @file The few tests and distributions that the analyses need, plain: Welch's t-test, exact hypergeometric, binomial and
 * Poisson-binomial tails, permutation p-values, Holm's correction. Chance comes in as a seeded stream.
 * Formulas: Press et al., Numerical Recipes, §6.1-6.4; Clopper & Pearson 1934; Holm 1979.
 */

/** Mean; NaN of nothing. */
export const mean = (values: ArrayLike<number>): number => {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]
  return sum / values.length
}

/** Sample standard deviation (n − 1); NaN of fewer than two. */
export const deviation = (values: ArrayLike<number>): number => {
  if (values.length < 2) return NaN
  const center = mean(values)
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i] - center) ** 2
  return Math.sqrt(sum / (values.length - 1))
}

/** The quantile in [0, 1], linear between neighbours; NaN of nothing. */
export const quantile = (values: readonly number[], at: number): number => {
  if (values.length === 0) return NaN
  const sorted = [...values].sort((a, b) => a - b)
  const place = at * (sorted.length - 1)
  const low = Math.floor(place)
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low])
}

const lanczos = [
  676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905, -0.13857109526572012,
  9.9843695780195716e-6, 1.5056327351493116e-7,
]

/** ln Γ(x), x > 0, to some 1e-14 (Lanczos). */
export const logGamma = (x: number): number => {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x)
  const t = x + 6.5
  let sum = 0.99999999999980993
  lanczos.forEach((c, i) => (sum += c / (x + i)))
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum)
}

const logChoose = (n: number, k: number): number => logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1)

/** The regularised incomplete beta function I_x(a, b), by its continued fraction (modified Lentz). */
export const incompleteBeta = (x: number, a: number, b: number): number => {
  if (x <= 0) return 0
  if (x >= 1) return 1
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x))
  return x < (a + 1) / (a + b + 2) ? (front * betaFraction(x, a, b)) / a : 1 - (front * betaFraction(1 - x, b, a)) / b
}

const betaFraction = (x: number, a: number, b: number): number => {
  const away = (value: number): number => (Math.abs(value) < 1e-300 ? 1e-300 : value)
  let c = 1
  let d = 1 / away(1 - ((a + b) * x) / (a + 1))
  let result = d
  for (let m = 1; m <= 10_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    d = 1 / away(1 + even * d)
    c = away(1 + even / c)
    result *= d * c
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    d = 1 / away(1 + odd * d)
    c = away(1 + odd / c)
    result *= d * c
    if (Math.abs(d * c - 1) < 1e-15) break
  }
  return result
}

/** P(|t| ≥ value) of Student's t with `freedom` degrees of freedom. */
export const studentTwoSided = (value: number, freedom: number): number => incompleteBeta(freedom / (freedom + value * value), freedom / 2, 0.5)

/** P(|z| ≥ value) of a standard normal: t with a great many degrees of freedom differs by less than 1e-9. */
export const normalTwoSided = (value: number): number => studentTwoSided(value, 1e9)

/** Σ coefficients · x^i, the highest power first. */
const polynomial = (coefficients: readonly number[], x: number): number => coefficients.reduce((sum, c) => sum * x + c, 0)

const quantileMiddle = [
  [-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239],
  [-54.47609879822406, 161.5858368580409, -155.6989798598859, 66.80131188771972, -13.28068155288572, 1],
] as const
const quantileTail = [
  [-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783],
  [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661416, 1],
] as const

/** The standard normal quantile, p in (0, 1), to some 1e-9 of its size (Acklam's rational approximation). */
export const normalQuantile = (p: number): number => {
  if (p > 0.5) return -normalQuantile(1 - p)
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p))
    return polynomial(quantileTail[0], q) / polynomial(quantileTail[1], q)
  }
  const q = p - 0.5
  return (q * polynomial(quantileMiddle[0], q * q)) / polynomial(quantileMiddle[1], q * q)
}

/** The result of comparing two groups of numbers. */
export interface Comparison {
  readonly meanA: number
  readonly meanB: number
  readonly countA: number
  readonly countB: number
  /** Two-sided; NaN where a group has fewer than two numbers or nothing varies. */
  readonly p: number
}

/** Welch's t-test: whether two groups of unequal variance have unequal means. */
export const welch = (a: readonly number[], b: readonly number[]): Comparison => {
  const result = { meanA: mean(a), meanB: mean(b), countA: a.length, countB: b.length }
  const [errorA, errorB] = [deviation(a) ** 2 / a.length, deviation(b) ** 2 / b.length]
  const error = errorA + errorB
  if (!(error > 0)) return { ...result, p: NaN }
  const freedom = error ** 2 / (errorA ** 2 / (a.length - 1) + errorB ** 2 / (b.length - 1))
  return { ...result, p: studentTwoSided((result.meanA - result.meanB) / Math.sqrt(error), freedom) }
}

/**
 * Whether two groups spread unequally about their medians, relative to them: Welch's test of |x − median| / |median|
 * (Brown & Forsythe 1974). `meanA`, `meanB`: the mean relative distances.
 */
export const compareSpread = (a: readonly number[], b: readonly number[]): Comparison => {
  const distances = (values: readonly number[]): number[] => {
    const median = quantile(values, 0.5)
    return values.map((value) => Math.abs(value - median) / Math.abs(median))
  }
  return welch(distances(a), distances(b))
}

/** P(none of n drawn of `total` without replacement is one of `marked`). */
export const noneDrawn = ({ total, marked, drawn }: { readonly total: number; readonly marked: number; readonly drawn: number }): number =>
  drawn + marked > total ? 0 : Math.exp(logChoose(total - marked, drawn) - logChoose(total, drawn))

/** P(at least `hits` of independent events happen), by their probabilities: the Poisson-binomial tail, exact. */
export const atLeast = (probabilities: readonly number[], hits: number): number => {
  let chances = [1]
  for (const p of probabilities) {
    const next = new Array<number>(chances.length + 1).fill(0)
    chances.forEach((chance, n) => {
      next[n] += chance * (1 - p)
      next[n + 1] += chance * p
    })
    chances = next
  }
  return Math.min(1, chances.slice(hits).reduce((sum, chance) => sum + chance, 0))
}

/** The Clopper-Pearson interval of a share at 95 %: never too narrow. */
export const shareInterval = (hits: number, of: number, level = 0.95): readonly [number, number] => {
  const tail = (1 - level) / 2
  const solve = (target: number, a: number, b: number): number => {
    let [low, high] = [0, 1]
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2
      if (incompleteBeta(middle, a, b) < target) low = middle
      else high = middle
    }
    return (low + high) / 2
  }
  return [hits === 0 ? 0 : solve(tail, hits, of - hits + 1), hits === of ? 1 : solve(1 - tail, hits + 1, of - hits)]
}

/** Holm's correction: p-values that hold together. NaN stays NaN and counts for nothing. */
export const holm = (ps: readonly number[]): number[] => {
  const order = ps.map((p, at) => ({ p, at })).filter(({ p }) => !Number.isNaN(p)).sort((a, b) => a.p - b.p)
  const corrected = ps.map(() => NaN)
  let least = 0
  order.forEach(({ p, at }, rank) => {
    least = Math.max(least, Math.min(1, p * (order.length - rank)))
    corrected[at] = least
  })
  return corrected
}

/** Shuffles in place (Fisher and Yates). */
export const shuffle = (values: Int32Array, uniform: () => number): void => {
  for (let i = values.length - 1; i > 0; i--) {
    const j = Math.floor(uniform() * (i + 1))
    const kept = values[i]
    values[i] = values[j]
    values[j] = kept
  }
}

/** p of an observed value against drawn ones, one-sided: the share at least as great, the observed one counted in. */
export const permutationP = (observed: number, draws: number, draw: () => number): number => {
  let atLeastAsGreat = 1
  // What differs by rounding alone counts as equal.
  const bound = observed - 1e-12 * Math.max(1, Math.abs(observed))
  for (let i = 0; i < draws; i++) if (draw() >= bound) atLeastAsGreat++
  return atLeastAsGreat / (draws + 1)
}

/** P(h of n drawn without replacement are marked), for h = 0, 1, ... up to the most there can be. */
const drawnChances = ({ total, marked, drawn }: { readonly total: number; readonly marked: number; readonly drawn: number }): Float64Array => {
  const most = Math.min(marked, drawn)
  const all = logChoose(total, drawn)
  return Float64Array.from({ length: most + 1 }, (_, hits) =>
    drawn - hits > total - marked ? 0 : Math.exp(logChoose(marked, hits) + logChoose(total - marked, drawn - hits) - all),
  )
}

/** P(at least `hits` of n drawn without replacement are marked), exact. */
export const drawnAtLeast = (hits: number, urn: { readonly total: number; readonly marked: number; readonly drawn: number }): number =>
  hits <= 0 ? 1 : Math.min(1, drawnChances(urn).slice(hits).reduce((sum, chance) => sum + chance, 0))

/**
 * Whether marked documents weigh more or less in some lists than chance would have it: two-sided p for Σ of the weights of
 * the marked ones, when `marked` of `total` documents are marked at random. Weights: in how many lists each document
 * stands that stands in any; so lists that share documents do not count as independent.
 *
 * The sum's variance under chance is known: s(1 − s) N/(N − 1) (Σw² − (Σw)²/N), s = marked/N. Where enough documents
 * stand behind it the normal tail is taken; else marks are drawn `draws` times.
 */
export const weightedMarksP = (
  weights: Float64Array, observed: number,
  { total, marked }: { readonly total: number; readonly marked: number }, uniform: () => number, draws = 9999,
): number => {
  const share = marked / total
  let [sum, squares] = [0, 0]
  for (const weight of weights) {
    sum += weight
    squares += weight * weight
  }
  const variance = ((share * (1 - share) * total) / (total - 1)) * (squares - (sum * sum) / total)
  if (!(variance > 1e-9)) return NaN
  const independent = (sum * sum) / squares
  if (independent * Math.min(share, 1 - share) >= 20) return normalTwoSided((observed - share * sum) / Math.sqrt(variance))
  // Draw the rarer of marked and unmarked.
  const isFlipped = share > 0.5
  const seen = isFlipped ? sum - observed : observed
  const chances = drawnChances({ total, marked: isFlipped ? total - marked : marked, drawn: weights.length })
  let [below, above] = [1, 1]
  for (let i = 0; i < draws; i++) {
    let hits = 0
    for (let left = uniform(); hits < chances.length - 1 && (left -= chances[hits]) > 0; ) hits++
    const drawn = sumOfSome(weights, hits, uniform)
    if (drawn <= seen) below++
    if (drawn >= seen) above++
  }
  return Math.min(1, (2 * Math.min(below, above)) / (draws + 1))
}

/** The sum of `count` weights, chosen without replacement (Floyd's way). */
const sumOfSome = (weights: Float64Array, count: number, uniform: () => number): number => {
  const chosen = new Set<number>()
  let sum = 0
  for (let j = weights.length - count; j < weights.length; j++) {
    const t = Math.floor(uniform() * (j + 1))
    const at = chosen.has(t) ? j : t
    chosen.add(at)
    sum += weights[at]
  }
  return sum
}
