/** @file What a run's tables and moments have to be, from all its scores at once; and what they are. */
import assert from 'node:assert/strict'
import { documentId } from '../../src/base/index.js'
import { keyOf, type InfluenceValue, type MomentsValue, type TableRowValue, type TablesValue } from '../../src/log/index.js'
import { RunningMoments } from '../../src/table/index.js'

/** The first k rows by a score, best first; ties go by document, source, piece. No document comes twice. */
const best = (values: readonly InfluenceValue[], k: number, sign: 1 | -1, scoreOf: (value: InfluenceValue) => number): TableRowValue[] =>
  values
    .map((value) => ({ document: value.document, source: value.source, piece: value.piece, score: scoreOf(value) + 0, partition: value.partition, offset: value.offset }))
    .sort((a, b) => sign * (b.score - a.score) || order(a.document, b.document) || order(a.source, b.source) || a.piece - b.piece)
    .slice(0, k)
const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

export interface Found {
  readonly run: string
  readonly queries: readonly string[]
  readonly k: number
  /** The run's records of `influence`. */
  readonly influence: readonly InfluenceValue[]
  /** The newest values, by key. */
  readonly tables: ReadonlyMap<string, TablesValue>
  readonly moments: ReadonlyMap<string, MomentsValue>
}

/** @throws AssertionError for the first difference */
export const assertRecomputed = ({ run, queries, k, influence, tables, moments }: Found, about: string): void => {
  for (const partition of new Set(influence.map((value) => value.partition))) {
    const own = influence.filter((value) => value.partition === partition)
    const sums = new RunningMoments(queries.length)
    sums.insert(own.map(({ document, gradientNorm, influence: scores, source, piece, offset }) => ({
      document: documentId(document), source, piece, partition, offset, gradientNorm, influence: Float32Array.from(scores),
    })))
    for (const [q, query] of queries.entries()) {
      const at = `${about}, query ${query}, partition ${partition}`
      const raw = (value: InfluenceValue): number => value.influence[q]
      const normed = (value: InfluenceValue): number => value.influence[q] / value.gradientNorm
      assert.deepEqual(tables.get(keyOf(run, query, partition)), {
        run, query, partition, k,
        top: best(own, k, 1, raw), bottom: best(own, k, -1, raw), topNormed: best(own, k, 1, normed), bottomNormed: best(own, k, -1, normed),
      }, `tables: ${at}`)
      const { count, raw: rawSums, normed: normedSums } = moments.get(keyOf(run, query, partition)) ?? assert.fail(`no moments: ${at}`)
      const wanted = sums.serializeRow(q)
      assert.deepEqual([count, Buffer.from(rawSums), Buffer.from(normedSums)], [wanted.count, Buffer.from(wanted.raw), Buffer.from(wanted.normed)], `moments: ${at}`)
    }
  }
}
