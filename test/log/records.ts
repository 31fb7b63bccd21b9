/** @file Records that the tests of a log write. */
import { runId } from '../../src/base/index.js'
import { keyOf, type NewRecord, type TablesValue } from '../../src/log/index.js'

export const BOUNDS = { recordsMax: 1000, bytesMax: 1 << 24 }
export const RUN = runId('run-1')

export const document = (id: string, text: string | null = `text of ${id}`): NewRecord<'documents'> => ({
  topic: 'documents',
  key: keyOf('web', id),
  value: { id, idGiven: true, source: 'web', text, tokens: null, shard: 'a.jsonl', index: 0, extra: null },
})

export const tables = (partition: number, score: number, query = 'q', run: string = RUN): NewRecord<'tables'> => {
  const top = [{ document: 'd', source: 'web', piece: 0, score, partition, offset: 0 }]
  const value: TablesValue = { run, query, partition, k: 1, top, bottom: [], topNormed: [], bottomNormed: [] }
  return { topic: 'tables', key: keyOf(run, query, partition), value }
}
