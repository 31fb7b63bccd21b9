import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { documentId } from '../../src/base/index.js'
import {
  compareRows, empty, insert, merge, problemOf, RunningTables, type End, type QueryTables, type Row, type Scored, type TopK,
} from '../../src/table/index.js'

const queries = 2

/** Few ids and few scores, so that documents come twice and scores tie; ids whose order is not the locale's. */
const scored: fc.Arbitrary<Scored> = fc
  .record({
    document: fc.constantFrom('a', 'B', 'b', 'ä', '10', '9', '\u{1f600}', '\uffff', '').map(documentId),
    source: fc.constantFrom('x', 'y', ''),
    piece: fc.constantFrom(0, 1, 10),
    partition: fc.nat(2),
    offset: fc.nat(20),
    gradientNorm: fc.constantFrom(0.5, 1, 3),
    influence: fc
      .array(fc.oneof(fc.constantFrom(-2, -1, -0, 0, 1, 2), fc.float({ noNaN: true, min: -9, max: 9 })), {
        minLength: queries,
        maxLength: queries,
      })
      .map((scores) => Float32Array.from(scores)),
  })
const k = fc.constantFrom(1, 2, 3, 5, 1000)

/** What a table is, for clarity: of each name its best row, sorted, the first k. */
const bruteForce = (batch: readonly Scored[], k: number, query: number): QueryTables => {
  const table = (end: End, scoreOf: (z: Scored) => number): Row[] => {
    const rows = batch.map(({ document, source, piece, partition, offset, ...z }) => {
      const score = scoreOf({ document, source, piece, partition, offset, ...z })
      return { document, source, piece, partition, offset, score: score === 0 ? 0 : score }
    })
    rows.sort((a, b) => {
      const one = end === 'top' ? b.score - a.score : a.score - b.score
      if (one !== 0) return one
      if (a.document !== b.document) return a.document < b.document ? -1 : 1
      if (a.source !== b.source) return a.source < b.source ? -1 : 1
      return a.piece - b.piece || a.partition - b.partition || a.offset - b.offset
    })
    const name = (row: Row): string => JSON.stringify([row.document, row.source, row.piece])
    const best = new Map<string, Row>()
    for (const row of rows) if (!best.has(name(row))) best.set(name(row), row)
    return [...best.values()].slice(0, k)
  }
  return {
    top: table('top', (z) => z.influence[query]),
    bottom: table('bottom', (z) => z.influence[query]),
    topNormed: table('top', (z) => z.influence[query] / z.gradientNorm),
    bottomNormed: table('bottom', (z) => z.influence[query] / z.gradientNorm),
  }
}
const allTables = (tables: RunningTables): QueryTables[] =>
  Array.from({ length: tables.queries }, (_, query) => tables.tables(query))
const allBruteForce = (batch: readonly Scored[], k: number): QueryTables[] =>
  Array.from({ length: queries }, (_, query) => bruteForce(batch, k, query))

const shuffled = fc
  .array(scored, { maxLength: 60 })
  .chain((batch) => fc.tuple(fc.constant(batch), fc.shuffledSubarray(batch, { minLength: batch.length })))

test('running tables are those of brute force, in any order and any batches', () => {
  fc.assert(
    fc.property(shuffled, k, fc.integer({ min: 1, max: 20 }), ([batch, permuted], k, size) => {
      const tables = new RunningTables({ queries, k })
      for (let from = 0; from < permuted.length; from += size) tables.insert(permuted.slice(from, from + size))
      assert.deepEqual(allTables(tables), allBruteForce(batch, k))
    }),
  )
})

/** A tree of merges over parts of the documents: some leaves empty, parts that overlap. */
type Tree = readonly Scored[] | { readonly left: Tree; readonly right: Tree }
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof({ maxDepth: 5 }, fc.array(scored, { maxLength: 12 }), fc.record({ left: tie('tree'), right: tie('tree') })),
}))
const leaves = (tree: Tree): readonly Scored[] =>
  'left' in tree ? [...leaves(tree.left), ...leaves(tree.right)] : tree

test('any tree of merges ends in the tables of all its documents', () => {
  fc.assert(
    fc.property(tree, k, (tree, k) => {
      const grow = (tree: Tree): RunningTables => {
        if ('left' in tree) {
          const left = grow(tree.left)
          left.merge(grow(tree.right))
          return left
        }
        const leaf = new RunningTables({ queries, k })
        leaf.insert(tree)
        return leaf
      }
      assert.deepEqual(allTables(grow(tree)), allBruteForce(leaves(tree), k))
    }),
  )
})

const rows = fc.array(
  scored.map(({ influence, gradientNorm: _, ...place }): Row => ({ ...place, score: influence[0] })),
  { maxLength: 15 },
)
const topK = (end: End, k: number, rows: readonly Row[]): TopK => rows.reduce(insert, empty(end, k))

test('the plain merge is associative, commutative, idempotent and has the zero `empty`', () => {
  fc.assert(
    fc.property(fc.constantFrom<End>('top', 'bottom'), k, rows, rows, rows, (end, k, x, y, z) => {
      const [a, b, c] = [topK(end, k, x), topK(end, k, y), topK(end, k, z)]
      assert.deepEqual(merge(merge(a, b), c), merge(a, merge(b, c)))
      assert.deepEqual(merge(a, b), merge(b, a))
      assert.deepEqual(merge(a, a), a)
      assert.deepEqual(merge(a, empty(end, k)), a)
      assert.deepEqual(merge(a, b), topK(end, k, [...y, ...x]))
      assert.deepEqual([...a.rows].sort(compareRows(end)), a.rows)
    }),
  )
})

test('the fast tables agree with the plain ones', () => {
  fc.assert(
    fc.property(fc.array(scored, { maxLength: 40 }), k, (batch, k) => {
      const fast = new RunningTables({ queries: 1, k })
      const one = batch.map((z) => ({ ...z, influence: z.influence.subarray(0, 1) }))
      fast.insert(one)
      const plain = (end: End): readonly Row[] =>
        topK(end, k, one.map(({ influence, gradientNorm: _, ...place }) => ({ ...place, score: influence[0] }))).rows
      assert.deepEqual([fast.tables(0).top, fast.tables(0).bottom], [plain('top'), plain('bottom')])
    }),
  )
})

const place = { source: 's', piece: 0, partition: 0, offset: 0, gradientNorm: 1 }
const at = (document: string, ...influence: number[]): Scored => ({
  ...place,
  document: documentId(document),
  influence: Float32Array.from(influence),
})

test('only queries whose tables changed are taken', () => {
  const tables = new RunningTables({ queries: 2, k: 1 })
  assert.deepEqual(tables.takeChanged(), [])
  tables.insert([at('a', 1, 1), at('b', -1, -1)])
  assert.deepEqual(tables.takeChanged(), [0, 1])
  tables.insert([at('c', 0, 0.5), at('a', 1, 1)])
  assert.deepEqual(tables.takeChanged(), [])
  tables.insert([at('d', 0, 2)])
  assert.deepEqual(tables.takeChanged(), [1])
  assert.deepEqual(tables.takeChanged(), [])
})

test('a tie with the last row enters by its id, into each of the four tables', () => {
  for (const scores of [[1], [-1]]) {
    const tables = new RunningTables({ queries: 1, k: 1 })
    tables.insert([{ ...at('y', ...scores), gradientNorm: 2 }])
    tables.insert([{ ...at('x', ...scores), gradientNorm: 2 }, { ...at('z', ...scores), gradientNorm: 2 }])
    for (const table of Object.values(tables.tables(0))) assert.deepEqual(table.map((row: Row) => row.document), ['x'])
  }
  // Each table alone: only one of the four would let the tie in.
  const full = [at('t', 8), at('b', -8), { ...at('tn', 2), gradientNorm: 0.125 }, { ...at('bn', -2), gradientNorm: 0.125 }]
  const ties: [keyof QueryTables, Scored][] = [
    ['top', { ...at('a', 8), gradientNorm: 100 }],
    ['bottom', { ...at('a', -8), gradientNorm: 100 }],
    ['topNormed', { ...at('a', 1), gradientNorm: 0.0625 }],
    ['bottomNormed', { ...at('a', -1), gradientNorm: 0.0625 }],
  ]
  for (const [kind, tie] of ties) {
    const tables = new RunningTables({ queries: 1, k: 1 })
    tables.insert([...full, tie])
    assert.equal(tables.tables(0)[kind][0].document, 'a', kind)
  }
})

test('rows come back as they were read', () => {
  const tables = new RunningTables({ queries: 1, k: 2 })
  tables.insert([at('a', 1), at('b', -2), at('c', 3)])
  const restored = new RunningTables({ queries: 1, k: 2 })
  restored.mergeRows(0, tables.tables(0))
  assert.deepEqual(restored.tables(0), tables.tables(0))
  assert.deepEqual(restored.tables(0).top.map(({ document, score }) => [document, score]), [['c', 3], ['a', 1]])
})

test('ids that look alike when joined are told apart', () => {
  const tables = new RunningTables({ queries: 1, k: 5 })
  tables.insert([{ ...at('a', 1), source: 'b1' }, { ...at('ab', 1), source: '1' }, { ...at('a', 1), source: 'b', piece: 10 }])
  assert.equal(tables.tables(0).top.length, 3)
})

test('a batch with a score that is no number is refused whole', () => {
  const tables = new RunningTables({ queries: 1, k: 2 })
  for (const bad of [at('z', NaN), at('z', Infinity), { ...at('z', 1), gradientNorm: 0 }, { ...at('z', 1), gradientNorm: NaN }])
    assert.throws(() => tables.insert([at('a', 1), bad]), RangeError)
  assert.throws(() => tables.insert([at('a', 1), at('b', 1, 2)]), /has 2 scores for 1 queries/)
  assert.deepEqual(tables.tables(0).top, [])
  assert.match(problemOf({ ...at('z', 1e30), gradientNorm: 1e-30 }) ?? '', /divided by its gradient norm .* out of range/)
  assert.equal(problemOf(at('z', 3.4028234663852886e38)), undefined)
  assert.throws(() => insert(empty('top', 1), { ...place, document: documentId('z'), score: NaN }), RangeError)
  assert.throws(() => tables.mergeRows(0, { top: [{ ...place, document: documentId('z'), score: NaN }], bottom: [], topNormed: [], bottomNormed: [] }), RangeError)
  assert.throws(() => new RunningTables({ queries: 1, k: 0 }), RangeError)
})
