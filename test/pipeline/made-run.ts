/** @file A run as scoring would leave it, made by hand: its record, influence, tables and moments in a real log. */
import { keyOf, type DocumentValue, type InfluenceValue, type Log, type TableRowValue } from '../../src/log/index.js'
import type { RunQuery, RunRecord } from '../../src/settings/index.js'

export const runQuery = (id: string, informationNats: number): RunQuery => ({
  id, prompt: `prompt of ${id}`, completion: ` completion of ${id}`, group: 'g', task: null, answer: null, steps: null,
  tokens: 5, promptTokens: 3, informationNats,
})

export const runRecord = (run: string, queries: readonly RunQuery[]): RunRecord => ({
  run, settings: { k: 100 }, model: 'm', queryModel: 'm', checkpoint: 'c', queryCheckpoint: 'c', factors: 'f', factorsHash: 'h',
  join: 'dense', joinReason: 'it fits', damping: { layer: 1 }, queries, createdMs: 1_700_000_000_000, versions: { tributary: '0' },
})

/** Document i's raw influence on query q, and the norm of its gradient: any numbers that f32 holds exactly. */
export const influenceOf = (i: number, q: number): number => ((i * 37 + q * 11) % 101) / 8 - 6
export const normOf = (i: number): number => 0.5 + (i % 7)

/** Writes N documents and their scores; every tenth document is two pieces. Returns the record. */
export const makeRun = async (log: Log, run: string, { documents, queries }: { documents: number; queries: number }): Promise<RunRecord> => {
  const record: RunRecord = { ...runRecord(run, Array.from({ length: queries }, (_, q) => runQuery(`q${q}`, q + 1))), settings: { k: 100, long: 'split' } }
  const ids = Array.from({ length: documents }, (_, i) => `d${i}`)
  await log.append(
    ids.map((id, i) => {
      const value: DocumentValue = {
        id, idGiven: true, source: i % 2 === 0 ? 'even' : 'odd', text: `text of ${id}\nsecond line`, tokens: null, shard: 's.jsonl', index: i, extra: null,
      }
      return { topic: 'documents' as const, key: keyOf(value.source, id), value }
    }),
    { unique: true },
  )
  const [info] = (await log.describe()).filter(({ topic }) => topic === 'documents')
  for (let partition = 0; partition < info.partitions; partition++) {
    const read = await log.read('documents', partition, 0, { recordsMax: 1e6, bytesMax: 1e9 })
    const values: InfluenceValue[] = []
    for (const { value, offset } of read) {
      if (value === undefined) continue
      const i = value.index
      const pieces = i % 10 === 0 ? 2 : 1
      for (let piece = 0; piece < pieces; piece++)
        values.push({
          run, document: value.id, source: value.source, partition, offset, piece, pieces, tokens: 4, tokensTotal: 4 * pieces, loss: i + 0.5,
          gradientNorm: normOf(i), influence: record.queries.map((_, q) => influenceOf(i + piece, q)),
        })
    }
    await log.append(values.map((value) => ({ topic: 'influence' as const, key: keyOf(run, value.source, value.document), partition, value })))
    for (const [q, query] of record.queries.entries()) {
      const rows = values.map(({ document, source, piece, offset, influence, gradientNorm }) => ({
        row: { document, source, piece, partition, offset }, raw: influence[q], normed: influence[q] / gradientNorm,
      }))
      const table = (by: 'raw' | 'normed', sign: number): TableRowValue[] =>
        [...rows].sort((a, b) => sign * (b[by] - a[by]) || (a.row.document < b.row.document ? -1 : 1)).slice(0, 10)
          .map((row) => ({ ...row.row, score: row[by] }))
      await log.append([
        {
          topic: 'tables', key: keyOf(run, query.id, partition), partition,
          value: {
            run, query: query.id, partition, k: 10, top: table('raw', 1), bottom: table('raw', -1), topNormed: table('normed', 1), bottomNormed: table('normed', -1),
          },
        },
        {
          topic: 'moments', key: keyOf(run, query.id, partition), partition,
          value: { run, query: query.id, partition, count: rows.length, raw: new Uint8Array(1), normed: new Uint8Array(1) },
        },
      ])
    }
  }
  await log.append([{ topic: 'runs', key: run, value: { run, createdMs: record.createdMs, settings: JSON.stringify(record) } }])
  return record
}
