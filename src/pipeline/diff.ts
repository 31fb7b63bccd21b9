/**
 * @file Two runs beside each other: how far their tables overlap, how alike they rank, and which documents moved most.
 *
 * Ranks are compared over the documents of either table that both runs have scored, by both runs' scores of them: what
 * stands in no table is noise to most questions, and would have to be held in memory.
 */
import type { Log } from '../log/index.js'
import { rankedOf, type RunRecord } from '../settings/index.js'
import type { Row } from '../table/index.js'
import { mergedTables } from './merged-tables.js'
import { scoreRows, snapshotOf } from './outputs/scores.js'
import { kendall, ranksOf, spearman } from './rank-correlation.js'

export interface DiffOptions {
  /** By influence over the norm of the document's gradient. */
  readonly normed: boolean
  /** The most negative documents in place of the most positive. */
  readonly bottom: boolean
  /** Documents that are listed as having moved, a query each. */
  readonly movers: number
}

export interface Mover {
  readonly document: string
  readonly source: string
  readonly piece: number
  /** From 0, among the documents that are compared. */
  readonly ranks: readonly [number, number]
  readonly scores: readonly [number, number]
}

export interface QueryDiff {
  readonly query: string
  /** The share of the first k rows that both tables have. */
  readonly overlap: readonly { readonly k: number; readonly share: number }[]
  /** Documents that are ranked: those in either table that both runs scored. */
  readonly compared: number
  /** Those of one table that the other run has not scored (another slice of the documents, a dead letter). */
  readonly onlyInOne: number
  /** Null where nothing is to be ranked. */
  readonly spearman: number | null
  readonly kendall: number | null
  /** The greatest changes of rank first. */
  readonly movers: readonly Mover[]
}

export interface RunDiff {
  readonly runs: readonly [string, string]
  readonly scored: readonly [number, number]
  /** What is counted in `scored`, and ranked. */
  readonly ranked: readonly [ReturnType<typeof rankedOf>, ReturnType<typeof rankedOf>]
  /** What the two were told differently, by name. */
  readonly settings: readonly { readonly name: string; readonly values: readonly [unknown, unknown] }[]
  readonly queries: readonly QueryDiff[]
  /** Queries that only one of them has. */
  readonly notCompared: readonly string[]
}

const overlapAt = [1, 5, 10, 20, 50, 100, 200, 500, 1000] as const

/** Documents are told apart by name, not by place: the runs may lie in logs with other partitions. */
const nameOf = ({ source, document, piece }: { readonly source: string; readonly document: string; readonly piece: number }): string =>
  JSON.stringify([source, document, piece])

/** @param logs where each of the runs lies; the same log twice as a rule */
export const diffRuns = async (logs: readonly [Log, Log], runs: readonly [RunRecord, RunRecord], options: DiffOptions): Promise<RunDiff> => {
  const [a, b] = runs
  const shared = a.queries.filter(({ id }) => b.queries.some((other) => other.id === id)).map(({ id }) => id)
  const end = options.bottom ? (options.normed ? 'bottomNormed' : 'bottom') : options.normed ? 'topNormed' : 'top'
  const tables = await Promise.all(([0, 1] as const).map((side) => Promise.all(shared.map((query) => mergedTables(logs[side], runs[side].run, query)))))
  const wanted = new Set(tables.flatMap((own) => own.flatMap(({ tables: all }) => all[end].map(nameOf))))
  const scores = await Promise.all(([0, 1] as const).map((side) => scoresOf(logs[side], runs[side], wanted, options.normed)))
  return {
    runs: [a.run, b.run],
    scored: [tables[0][0]?.scored ?? 0, tables[1][0]?.scored ?? 0],
    ranked: [rankedOf(a), rankedOf(b)],
    settings: differences(a, b),
    queries: shared.map((query, q) => {
      const at = runs.map(({ queries }) => queries.findIndex(({ id }) => id === query))
      const rows = tables.map((own) => own[q].tables[end])
      return queryDiff(query, [rows[0], rows[1]], (name, side) => scores[side].get(name)?.[at[side]], options)
    }),
    notCompared: [...a.queries, ...b.queries].map(({ id }) => id).filter((id) => !shared.includes(id)),
  }
}

/** The scores of some documents on all queries of a run. */
const scoresOf = async (log: Log, run: RunRecord, wanted: ReadonlySet<string>, normed: boolean): Promise<ReadonlyMap<string, Float32Array>> => {
  const found = new Map<string, Float32Array>()
  for await (const row of scoreRows(log, run, await snapshotOf(log))) {
    const name = nameOf(row)
    if (wanted.has(name)) found.set(name, normed ? row.influenceNormed : row.influence)
  }
  return found
}

const queryDiff = (
  query: string, [a, b]: readonly [readonly Row[], readonly Row[]], scoreOf: (name: string, side: 0 | 1) => number | undefined, { bottom, movers }: DiffOptions,
): QueryDiff => {
  const byName = new Map([...a, ...b].map((row) => [nameOf(row), row]))
  const k = Math.min(a.length, b.length)
  const depths = k === 0 ? [] : [...overlapAt.filter((depth) => depth < k), k]
  const pairs = [...byName].flatMap(([name, row]) => {
    const [x, y] = [scoreOf(name, 0), scoreOf(name, 1)]
    return x === undefined || y === undefined ? [] : [{ row, x, y }]
  })
  const sign = bottom ? -1 : 1
  const [x, y] = [pairs.map((pair) => sign * pair.x), pairs.map((pair) => sign * pair.y)]
  const [before, after] = [ranksOf(x), ranksOf(y)]
  const moved = pairs
    .map(({ row: { document, source, piece }, x: was, y: is }, i): Mover => ({ document, source, piece, ranks: [before[i] - 1, after[i] - 1], scores: [was, is] }))
    .filter(({ ranks: [was, is] }) => was !== is)
    .sort((m, n) => Math.abs(n.ranks[1] - n.ranks[0]) - Math.abs(m.ranks[1] - m.ranks[0]) || Math.min(...m.ranks) - Math.min(...n.ranks))
  return {
    query,
    overlap: depths.map((depth) => {
      const first = new Set(a.slice(0, depth).map(nameOf))
      return { k: depth, share: b.slice(0, depth).filter((row) => first.has(nameOf(row))).length / depth }
    }),
    compared: pairs.length,
    onlyInOne: byName.size - pairs.length,
    spearman: spearman(x, y),
    kendall: kendall(x, y),
    movers: moved.slice(0, movers),
  }
}

const differences = (a: RunRecord, b: RunRecord): RunDiff['settings'] => {
  const names = [...new Set([...Object.keys(a.settings), ...Object.keys(b.settings)])].filter((name) => name !== 'queries').sort()
  return names.flatMap((name) => {
    const values: readonly [unknown, unknown] = [a.settings[name] ?? null, b.settings[name] ?? null]
    return JSON.stringify(values[0]) === JSON.stringify(values[1]) ? [] : [{ name, values }]
  })
}
