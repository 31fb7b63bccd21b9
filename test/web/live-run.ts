/** @file A run that goes on: documents are appended and scored by a formula, committed as a worker commits them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { documentId, runId } from '../../src/base/index.js'
import { embeddedLog, keyOf, type Assignment, type DocumentValue, type InfluenceValue, type Log, type NewRecord } from '../../src/log/index.js'
import { restoreState, type PartitionState } from '../../src/pipeline/partition-state.js'
import type { RunQuery, RunRecord } from '../../src/settings/index.js'
import type { Scored } from '../../src/table/index.js'
import { runRecord } from '../pipeline/made-run.js'

export const PARTITIONS = 2

export interface GivenDocument {
  readonly id: string
  readonly text: string
  readonly source?: string
  /** Raw influence on each query. */
  readonly influence: readonly number[]
  readonly gradientNorm?: number
}

export interface LiveRun extends AsyncDisposable {
  readonly home: string
  /** The log that is written. */
  readonly log: Log
  readonly record: RunRecord
  /** Appends documents; they are lag until they are scored. */
  append(documents: readonly GivenDocument[]): Promise<void>
  /** Scores and commits what is there. */
  score(): Promise<void>
}

export const liveQuery = (id: string, more: Partial<RunQuery> = {}): RunQuery => ({
  id, prompt: `The capital of ${id} is`, completion: ` ${id}ville.`, group: 'factual', task: 'capitals', answer: `${id}ville`, steps: null,
  tokens: 8, promptTokens: 5, informationNats: 2, ...more,
})

/** A run over a log in a folder of its own; all is gone when it is disposed. */
export const liveRun = async (queries: readonly RunQuery[], run = 'live'): Promise<LiveRun> => {
  const home = mkdtempSync(join(tmpdir(), 'tributary-web-'))
  const log = await embeddedLog(join(home, 'log'))
  await log.ensureTopics({ partitions: PARTITIONS })
  const record = runRecord(run, queries)
  await log.append([{ topic: 'runs', key: run, value: { run, createdMs: record.createdMs, settings: JSON.stringify(record) } }])
  const ending = new AbortController()
  const assigned = log.assignments(runId(run), { signal: ending.signal })[Symbol.asyncIterator]()
  const workers: { assignment: Assignment; state: PartitionState; offset: number }[] = []
  for (let i = 0; i < PARTITIONS; i++) {
    const { value: assignment } = (await assigned.next()) as { value: Assignment }
    const { state } = await assignment.restore()
    workers.push({ assignment, offset: 0, state: restoreState({ run: runId(run), partition: assignment.partition, queries: queries.map(({ id }) => id), k: 50 }, state) })
  }
  const given = new Map<string, GivenDocument>()
  let index = 0
  return {
    home, log, record,
    append: async (documents) => {
      for (const document of documents) given.set(document.id, document)
      await log.append(documents.map(({ id, text, source = 'web' }) => {
        const value: DocumentValue = { id, idGiven: true, source, text, tokens: null, shard: 'made.jsonl', index: index++, extra: null }
        return { topic: 'documents' as const, key: keyOf(source, id), value }
      }), { unique: true })
    },
    score: async () => {
      for (const worker of workers) {
        const { assignment, state } = worker
        const read = await assignment.read(worker.offset, { recordsMax: 10_000, bytesMax: 1 << 28 })
        if (read.length === 0) continue
        const records: NewRecord[] = []
        const scored: Scored[] = []
        for (const { value, offset, key } of read) {
          const about = value === undefined ? undefined : given.get(value.id)
          if (value === undefined || about === undefined) continue
          const { influence, gradientNorm = 2 } = about
          const { partition } = assignment
          const common = { source: value.source, partition, offset, piece: 0, gradientNorm }
          const row: InfluenceValue = { ...common, run, document: value.id, pieces: 1, tokens: 7, tokensTotal: 7, loss: 3, influence }
          records.push({ topic: 'influence', key: keyOf(run, key), value: row })
          scored.push({ ...common, document: documentId(value.id), influence: Float32Array.from(influence) })
        }
        state.insert(scored)
        worker.offset = read[read.length - 1].offset + 1
        await assignment.commit({ append: [...records, ...state.takeChanges()], position: { offset: worker.offset } })
      }
    },
    [Symbol.asyncDispose]: async () => {
      ending.abort()
      await log[Symbol.asyncDispose]()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

/** The log of a live run as another process opens it. */
export const readingLog = (home: string): Promise<Log> => embeddedLog(join(home, 'log'), { readonly: true })

/** N documents whose influence on query q is any number of its own. */
export const someDocuments = (count: number, queries: number, from = 0): GivenDocument[] =>
  Array.from({ length: count }, (_, i) => ({
    id: `d${from + i}`, text: `document number ${from + i} about rivers`, source: (from + i) % 2 === 0 ? 'web' : 'books',
    influence: Array.from({ length: queries }, (_, q) => (((from + i) * 37 + q * 11) % 101) / 8 - 6),
  }))

/** For servers of a test: an error that nobody meant ends the test. */
export const noBugs = (bug: unknown): void =>
  queueMicrotask(() => {
    throw bug
  })
