/**
 * @file Do queries draw on the same documents? Pearson's r between their scores over all documents, the means of blocks
 * of queries, the share of top documents in common; and whether queries of one task agree more than chance would have it.
 */
import { seedOf, uniforms } from '../base/index.js'
import type { AnalysisState } from './state.js'
import { holm, mean, permutationP, shuffle } from './statistics.js'
import { cellOf, groupedBy, isControl, type AnalysedQuery, type ScoreKind } from './types.js'

/** Mean over all pairs of queries of two cells (of one: its own pairs). */
export interface Block {
  readonly a: string
  readonly b: string
  readonly pairs: number
  /** Mean Pearson's r; pairs where it is not defined are left out. */
  readonly mean: number
  /** Mean share of the top documents that two queries have in common. */
  readonly overlap: number
}

/** Whether the queries of a cell agree more with each other than with other queries. */
export interface CellTest {
  readonly cell: string
  readonly queries: number
  readonly within: number
  readonly others: number
  /** One-sided, by exchanging queries at random; as it is, and corrected for the number of cells (Holm). */
  readonly p: number
  readonly pCorrected: number
}

export interface Correlations {
  readonly kind: ScoreKind
  readonly documents: number
  /** Queries by cell, as a heatmap shows them; indices of the run's. */
  readonly order: readonly number[]
  /** r [Q][Q] in the run's order; NaN where it is not defined. */
  readonly matrix: readonly (readonly number[])[]
  readonly blocks: readonly Block[]
  readonly cells: readonly CellTest[]
  /** Within the tasks of reasoning against between them: task labels exchanged among reasoning queries. Null with fewer than two tasks. */
  readonly reasoning: { readonly within: number; readonly between: number; readonly p: number } | null
  /** Means of r over the pairs of some kinds, as the paper states them. */
  readonly summary: readonly { readonly name: string; readonly pairs: number; readonly mean: number }[]
  /** k of the overlap, and the share that chance would give. */
  readonly overlapK: number
  readonly overlapByChance: number
  /** The pair of greatest r. */
  readonly highest: { readonly a: string; readonly b: string; readonly r: number } | null
}

/** Exchanges drawn for a p-value: the least one is 1 / 5000. */
const draws = 4999

const isFactual = ({ group }: AnalysedQuery): boolean => group === 'factual'
const isReasoning = ({ group }: AnalysedQuery): boolean => group === 'reasoning'

/** Reads the correlations off a state. Deterministic: chance is seeded by what is tested. */
export const correlations = (state: AnalysisState, kind: ScoreKind): Correlations => {
  const { queries } = state
  const matrix = queries.map(() => new Array<number>(queries.length).fill(1))
  queries.forEach((_, i) => {
    for (let j = i; j < queries.length; j++) matrix[i][j] = matrix[j][i] = state.correlation(kind, i, j)
  })
  const members = groupedBy(queries.map((_, q) => q), (q) => cellOf(queries[q]))
  const cells = [...members.keys()].sort((a, b) => compareCells(queries[members.get(a)?.[0] ?? 0], queries[members.get(b)?.[0] ?? 0]))
  const overlapK = Math.max(1, Math.min(100, Math.floor(state.count / 10)))
  const overlaps = overlapsOf(state, kind, overlapK)
  const blocks: Block[] = []
  cells.forEach((a, at) => {
    for (const b of cells.slice(at)) {
      const pairs = pairsOf(members.get(a) ?? [], a === b ? undefined : (members.get(b) ?? []))
      if (pairs.length === 0) continue
      blocks.push({ a, b, pairs: pairs.length, mean: definedMean(pairs.map(([i, j]) => matrix[i][j])), overlap: mean(pairs.map(([i, j]) => overlaps[i][j])) })
    }
  })
  return {
    kind, documents: state.count, order: cells.flatMap((cell) => members.get(cell) ?? []), matrix, blocks,
    cells: testCells(queries, members, matrix, kind),
    reasoning: testReasoning(queries, matrix, kind),
    summary: summaryOf(queries, matrix),
    overlapK, overlapByChance: state.count === 0 ? NaN : Math.min(1, overlapK / state.count),
    highest: highestOf(queries, matrix),
  }
}

/** Reasoning, then factual, then other groups, then controls; tasks by name. */
const compareCells = (a: AnalysedQuery, b: AnalysedQuery): number => {
  const place = (query: AnalysedQuery): number => (isReasoning(query) ? 0 : isFactual(query) ? 1 : isControl(query) ? 3 : 2)
  const names = (x: string, y: string): number => (x < y ? -1 : x > y ? 1 : 0)
  return place(a) - place(b) || names(a.group, b.group) || names(a.task, b.task)
}

const definedMean = (values: readonly number[]): number => mean(values.filter((value) => !Number.isNaN(value)))

/** Pairs within a list, or between two. */
const pairsOf = (a: readonly number[], b?: readonly number[]): [number, number][] =>
  b === undefined ? a.flatMap((i, at) => a.slice(at + 1).map((j): [number, number] => [i, j])) : a.flatMap((i) => b.map((j): [number, number] => [i, j]))

const overlapsOf = (state: AnalysisState, kind: ScoreKind, k: number): number[][] => {
  const tops = state.queries.map((_, q) => {
    const { places, pieces, size } = state.rows(q, kind, 'top')
    return new Set(Array.from({ length: Math.min(k, size) }, (_row, i) => `${places[i]} ${pieces[i]}`))
  })
  return tops.map((a) => tops.map((b) => [...a].filter((place) => b.has(place)).length / k))
}

const testCells = (queries: readonly AnalysedQuery[], members: ReadonlyMap<string, readonly number[]>, matrix: readonly (readonly number[])[], kind: ScoreKind): CellTest[] => {
  const pool = queries.flatMap((query, q) => (isControl(query) ? [] : [q]))
  const tests = [...members].flatMap(([cell, own]) => {
    const others = pool.filter((q) => !own.includes(q))
    if (own.length < 2 || others.length < 2 || isControl(queries[own[0]])) return []
    const order = Int32Array.from([...own, ...others])
    const uniform = uniforms(seedOf(`correlation ${kind} ${cell}`))
    const within = definedMean(pairsOf(own).map(([i, j]) => matrix[i][j]))
    const between = definedMean(pairsOf(own, others).map(([i, j]) => matrix[i][j]))
    const p = Number.isNaN(within - between)
      ? NaN
      : permutationP(contrast(order, own.length, matrix), drawsFor(own.length * order.length), () => {
          shuffle(order, uniform)
          return contrast(order, own.length, matrix)
        })
    return [{ cell, queries: own.length, within, others: between, p }]
  })
  const corrected = holm(tests.map(({ p }) => p))
  return tests.map((test, at) => ({ ...test, pCorrected: corrected[at] }))
}

/** Fewer draws where one is dear, so that a test stays below some 10^9 steps. */
const drawsFor = (steps: number): number => Math.max(199, Math.min(draws, Math.floor(5e8 / Math.max(1, steps))))

/** Mean r among the first `size` of some queries, less their mean r with the rest. */
const contrast = (order: Int32Array, size: number, matrix: readonly (readonly number[])[]): number => {
  let [within, withinPairs, between, betweenPairs] = [0, 0, 0, 0]
  for (let a = 0; a < size; a++)
    for (let b = a + 1; b < order.length; b++) {
      const r = matrix[order[a]][order[b]]
      if (Number.isNaN(r)) continue
      if (b < size) {
        within += r
        withinPairs++
      } else {
        between += r
        betweenPairs++
      }
    }
  return within / withinPairs - between / betweenPairs
}

const testReasoning = (queries: readonly AnalysedQuery[], matrix: readonly (readonly number[])[], kind: ScoreKind): Correlations['reasoning'] => {
  const own = queries.flatMap((query, q) => (isReasoning(query) ? [q] : []))
  const tasks = [...new Set(own.map((q) => queries[q].task))]
  const labels = Int32Array.from(own, (q) => tasks.indexOf(queries[q].task))
  const statistic = (): { within: number; between: number } => {
    const sums = { within: 0, between: 0, withinPairs: 0, betweenPairs: 0 }
    own.forEach((i, a) => {
      for (let b = a + 1; b < own.length; b++) {
        const r = matrix[i][own[b]]
        if (Number.isNaN(r)) continue
        const same = labels[a] === labels[b]
        sums[same ? 'within' : 'between'] += r
        sums[same ? 'withinPairs' : 'betweenPairs']++
      }
    })
    return { within: sums.within / sums.withinPairs, between: sums.between / sums.betweenPairs }
  }
  const { within, between } = statistic()
  if (tasks.length < 2 || Number.isNaN(within - between)) return null
  const uniform = uniforms(seedOf(`correlation ${kind} of reasoning`))
  const p = permutationP(within - between, drawsFor(own.length ** 2), () => {
    shuffle(labels, uniform)
    const drawn = statistic()
    return drawn.within - drawn.between
  })
  return { within, between, p }
}

const summaryOf = (queries: readonly AnalysedQuery[], matrix: readonly (readonly number[])[]): Correlations['summary'] => {
  const kinds: readonly { name: string; of: (a: AnalysedQuery, b: AnalysedQuery) => boolean }[] = [
    { name: 'reasoning, same task', of: (a, b) => isReasoning(a) && isReasoning(b) && a.task === b.task },
    { name: 'reasoning, different tasks', of: (a, b) => isReasoning(a) && isReasoning(b) && a.task !== b.task },
    { name: 'factual with factual', of: (a, b) => isFactual(a) && isFactual(b) },
    { name: 'reasoning with factual', of: (a, b) => (isReasoning(a) && isFactual(b)) || (isFactual(a) && isReasoning(b)) },
    { name: 'reasoning with its own controls', of: (a, b) => a.task === b.task && ((isReasoning(a) && isControl(b)) || (isControl(a) && isReasoning(b))) },
    { name: 'controls with all others', of: (a, b) => isControl(a) !== isControl(b) },
    { name: 'controls with controls', of: (a, b) => isControl(a) && isControl(b) },
  ]
  const pairs = pairsOf(queries.map((_, q) => q))
  return kinds.flatMap(({ name, of }) => {
    const values = pairs.filter(([i, j]) => of(queries[i], queries[j])).map(([i, j]) => matrix[i][j]).filter((r) => !Number.isNaN(r))
    return values.length === 0 ? [] : [{ name, pairs: values.length, mean: mean(values) }]
  })
}

const highestOf = (queries: readonly AnalysedQuery[], matrix: readonly (readonly number[])[]): Correlations['highest'] => {
  let highest: Correlations['highest'] = null
  for (const [i, j] of pairsOf(queries.map((_, q) => q)))
    if (matrix[i][j] > (highest?.r ?? -Infinity)) highest = { a: queries[i].id, b: queries[j].id, r: matrix[i][j] }
  return highest
}
