/**
 * @file Tables and moments alone, one thread: documents and (query, document) pairs a second.
 * `npm run --silent build && node dist/bench/table.js`
 */
import { documentId, normals } from '../src/base/index.js'
import { RunningMoments, RunningTables, type Scored } from '../src/table/index.js'

const seconds = (work: () => void): number => {
  const startMs = performance.now()
  work()
  return (performance.now() - startMs) / 1000
}

/** Scores as they come from a model: normal, with tails of e^|z|, correlated through the document's own size. */
const documents = (count: number, queries: number): Scored[] => {
  const next = normals(1)
  return Array.from({ length: count }, (_, offset) => {
    const size = Math.exp(next())
    return {
      document: documentId(`document-${offset}`),
      source: 'bench',
      piece: 0,
      partition: 0,
      offset,
      gradientNorm: 100 * size,
      influence: Float32Array.from({ length: queries }, () => size * next() * Math.exp(Math.abs(next()))),
    }
  })
}

/** Hands the documents on in batches of `size`. */
const inBatches = (scored: readonly Scored[], size: number, take: (batch: readonly Scored[]) => void): void => {
  for (let from = 0; from < scored.length; from += size) take(scored.slice(from, from + size))
}

console.log(`k = 100, batches of 256; ${process.version}`)
for (const [queries, count] of [[10, 100_000], [50, 40_000], [100, 20_000]]) {
  const scored = documents(count, queries)
  inBatches(scored.slice(0, 2000), 256, (batch) => new RunningTables({ queries, k: 100 }).insert(batch))
  const tables = new RunningTables({ queries, k: 100 })
  const moments = new RunningMoments(queries)
  const tablesS = seconds(() => inBatches(scored, 256, (batch) => tables.insert(batch)))
  const momentsS = seconds(() => inBatches(scored, 256, (batch) => moments.insert(batch)))
  let bytes = 0
  const serializeS = seconds(() => {
    for (let q = 0; q < queries; q++) {
      const { raw, normed } = moments.serializeRow(q)
      bytes += raw.length + normed.length
    }
  })
  const readS = seconds(() => {
    for (let q = 0; q < queries; q++) tables.tables(q)
  })
  const correlationS = seconds(() => {
    for (let i = 0; i < queries; i++) for (let j = i; j < queries; j++) moments.raw.correlation(i, j)
  })
  const sums = queries * (queries + 3)
  const rate = (perSecond: number): string => Math.round(perSecond).toLocaleString('en-US')
  console.log(
    [
      `Q = ${queries}, ${rate(count)} documents`,
      `tables ${rate(count / tablesS)} documents/s, ${rate((count * queries) / tablesS)} pairs/s`,
      `moments ${rate(count / momentsS)} documents/s, ${((momentsS / count / sums) * 1e9).toFixed(2)} ns a product`,
      `together ${rate(count / (tablesS + momentsS))} documents/s`,
      `a commit: ${bytes} bytes of moments in ${(serializeS * 1000).toFixed(1)} ms, tables read in ${(readS * 1000).toFixed(1)} ms`,
      `correlations: ${((correlationS / ((queries * (queries + 1)) / 2)) * 1e6).toFixed(1)} µs each`,
    ].join('\n  '),
  )
}
