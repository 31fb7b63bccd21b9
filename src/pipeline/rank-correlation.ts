/** @file How alike two rankings are: Spearman's ρ and Kendall's τ_b, ties included. Pure. */

/** Ranks from 1, the greatest first; equal values share the mean of their ranks. */
export const ranksOf = (values: readonly number[]): readonly number[] => {
  const order = values.map((_, i) => i).sort((a, b) => values[b] - values[a])
  const ranks = new Array<number>(values.length)
  for (let from = 0; from < order.length; ) {
    let to = from + 1
    while (to < order.length && values[order[to]] === values[order[from]]) to++
    for (let i = from; i < to; i++) ranks[order[i]] = (from + 1 + to) / 2
    from = to
  }
  return ranks
}

/** Pearson's r of the ranks; null below two values, or where all are equal. */
export const spearman = (x: readonly number[], y: readonly number[]): number | null => {
  const [a, b] = [ranksOf(x), ranksOf(y)]
  const mean = (a.length + 1) / 2
  let [xy, xx, yy] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    xy += (a[i] - mean) * (b[i] - mean)
    xx += (a[i] - mean) ** 2
    yy += (b[i] - mean) ** 2
  }
  return xx === 0 || yy === 0 ? null : xy / Math.sqrt(xx * yy)
}

/** (concordant − discordant) / √((n₀ − n₁)(n₀ − n₂)), in n log n steps (Knight 1966, JASA 61). Null where all are equal. */
export const kendall = (x: readonly number[], y: readonly number[]): number | null => {
  const n = x.length
  const order = x.map((_, i) => i).sort((a, b) => x[a] - x[b] || y[a] - y[b])
  const pairs = (count: number): number => (count * (count - 1)) / 2
  /** Pairs of neighbours that are tied. */
  const tied = (same: (a: number, b: number) => boolean, sorted: readonly number[]): number => {
    let [sum, run] = [0, 1]
    for (let i = 1; i <= sorted.length; i++) {
      if (i < sorted.length && same(sorted[i - 1], sorted[i])) run++
      else {
        sum += pairs(run)
        run = 1
      }
    }
    return sum
  }
  const inX = tied((a, b) => x[a] === x[b], order)
  const inBoth = tied((a, b) => x[a] === x[b] && y[a] === y[b], order)
  const values = order.map((i) => y[i])
  const swaps = inversions(values, new Array<number>(n), 0, n)
  const inY = tied((a, b) => a === b, values) // sorted by now
  const all = pairs(n)
  const scale = Math.sqrt((all - inX) * (all - inY))
  return scale === 0 ? null : (all - inX - inY + inBoth - 2 * swaps) / scale
}

/** Sorts values[from, to) in place and counts how many pairs stood the wrong way round. */
const inversions = (values: number[], spare: number[], from: number, to: number): number => {
  if (to - from < 2) return 0
  const middle = (from + to) >> 1
  let count = inversions(values, spare, from, middle) + inversions(values, spare, middle, to)
  for (let left = from, right = middle, at = from; at < to; at++) {
    if (right >= to || (left < middle && values[left] <= values[right])) spare[at] = values[left++]
    else {
      count += middle - left
      spare[at] = values[right++]
    }
  }
  for (let at = from; at < to; at++) values[at] = spare[at]
  return count
}
