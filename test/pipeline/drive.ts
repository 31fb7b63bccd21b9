/** @file Pipelines on a temporary home, in this process: what the tests of this folder start from. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { runId, seedOf, uniformAt } from '../../src/base/index.js'
import { keyOf, type DeadLetterValue, type DocumentValue, type InfluenceValue, type Log, type LogRecord, type TopicName } from '../../src/log/index.js'
import { silentProgress, type PipelineContext, type Progress, type WorkResult } from '../../src/pipeline/context.js'
import { fit } from '../../src/pipeline/fit.js'
import { openLog } from '../../src/pipeline/home.js'
import { score } from '../../src/pipeline/score.js'
import { resolveSettings } from '../../src/settings/index.js'
import { RunningMoments, RunningTables, type QueryTables } from '../../src/table/index.js'
import { rowOf } from '../../src/pipeline/partition-state.js'

/** What is closed and removed after the tests of the file; a hook in a hook would do so too soon. */
const logs: Log[] = []
const folders: string[] = []
after(async () => {
  for (const log of logs) await log[Symbol.asyncDispose]()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A folder that is gone after the tests of the file. */
export const temporary = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-pipeline-'))
  folders.push(folder)
  return folder
}

/** Sentences of unequal length, from a seed. */
export const textOf = (i: number, seed = 1): string => {
  const words = ['the', 'river', 'of', 'and', 'stone', 'is', 'singing', 'water', 'a', 'tributary', 'that', 'runs', 'down', '42', 'then', 'slowly.']
  const own = seedOf(`${seed} document ${i}`)
  const length = 2 + Math.floor(14 * uniformAt(own, 0))
  return Array.from({ length }, (_, t) => words[Math.floor(words.length * uniformAt(own, 1 + t))]).join(' ')
}

/** A document as the ingest would write it. */
export const documentOf = (i: number, part: Partial<DocumentValue> = {}): DocumentValue => ({
  id: `d${i}`, idGiven: true, source: i % 3 === 0 ? 'third' : 'others', text: textOf(i), tokens: null, shard: 's.jsonl', index: i, extra: null, ...part,
})

export const append = async (log: Log, documents: readonly DocumentValue[]): Promise<void> => {
  await log.append(documents.map((value) => ({ topic: 'documents' as const, key: keyOf(value.source, value.id), value })), { unique: true })
}

export const queries = [
  { id: 'water', prompt: 'the river of', completion: ' water', group: 'wet' },
  { id: 'stone', prompt: 'a stone is', completion: ' singing slowly.', group: 'dry' },
  { id: 'short', prompt: '', completion: 'then 42', group: 'dry' },
] as const

export const addQueries = async (log: Log, added: readonly { id: string; prompt: string; completion: string; group: string }[] = queries): Promise<void> => {
  await log.append(added.map((query) => ({ topic: 'queries' as const, key: query.id, value: { ...query, task: null, answer: null, steps: null, extra: null } })))
}

/** A log with documents and queries in a home of its own. */
export const homeWith = async (documents: readonly DocumentValue[], { partitions = 2 } = {}): Promise<{ home: string; log: Log }> => {
  const home = temporary()
  const log = await openLog({ home }, { partitions })
  logs.push(log)
  await append(log, documents)
  await addQueries(log)
  return { home, log }
}

export interface DriveOptions {
  readonly signal?: AbortSignal
  readonly progress?: Partial<Progress>
  readonly now?: () => number
}

const contextWith = (log: Log, { signal = new AbortController().signal, progress, now = Date.now }: DriveOptions): PipelineContext => ({
  log, signal, now, progress: { ...silentProgress, ...progress },
})

/** Settings as on the command line, in camel case. */
export type Given = Readonly<Record<string, unknown>>
const own = { factors: 'f', threads: 1, batchTokens: 128 }

export const driveFit = (log: Log, home: string, model: string, given: Given = {}, options: DriveOptions = {}): Promise<WorkResult> =>
  fit(resolveSettings('fit', { flags: { ...own, documents: 1000, home, model, ...given }, env: {} }), contextWith(log, options))

export const driveScore = (log: Log, home: string, model: string, given: Given = {}, options: DriveOptions = {}): Promise<WorkResult> =>
  score(resolveSettings('score', { flags: { ...own, run: 'r', k: 5, home, model, ...given }, env: {} }), contextWith(log, options))

/** All records of a topic, by partition and offset. */
export const readAll = async <Name extends TopicName>(log: Log, topic: Name): Promise<readonly LogRecord<Name>[]> => {
  const info = (await log.describe()).find((known) => known.topic === topic)
  const records: LogRecord<Name>[] = []
  for (let partition = 0; partition < (info?.partitions ?? 0); partition++) {
    for (let offset = info?.starts[partition] ?? 0; ; ) {
      const read = await log.read(topic, partition, offset, { recordsMax: 1000, bytesMax: 1 << 24 })
      if (read.length === 0) break
      records.push(...read)
      offset = read[read.length - 1].offset + 1
    }
  }
  return records
}

const byName = (a: InfluenceValue, b: InfluenceValue): number =>
  a.partition - b.partition || a.offset - b.offset || a.piece - b.piece

/** A run's influence values, by where their documents lie. */
export const influenceOf = async (log: Log, run = 'r'): Promise<readonly InfluenceValue[]> =>
  (await readAll(log, 'influence')).flatMap(({ value }) => (value?.run === run ? [value] : [])).sort(byName)

export const deadLettersOf = async (log: Log, run: string): Promise<readonly DeadLetterValue[]> =>
  (await readAll(log, 'dead-letters')).flatMap(({ value }) => (value?.run === run ? [value] : []))

/** A run's tables over all partitions, a query each. */
export const tablesOf = async (log: Log, ids: readonly string[], { run = 'r', k = 5 } = {}): Promise<readonly QueryTables[]> => {
  const tables = new RunningTables({ queries: ids.length, k })
  for (const [q, id] of ids.entries()) {
    for (const { value } of await log.latest('tables', keyOf(run, id, ''))) {
      if (value === undefined) continue
      tables.mergeRows(q, { top: value.top.map(rowOf), bottom: value.bottom.map(rowOf), topNormed: value.topNormed.map(rowOf), bottomNormed: value.bottomNormed.map(rowOf) })
    }
  }
  return ids.map((_, q) => tables.tables(q))
}

/** A run's moments over all partitions. */
export const momentsOf = async (log: Log, ids: readonly string[], run = 'r'): Promise<RunningMoments> => {
  const merged = new RunningMoments(ids.length)
  const all = (await Promise.all(ids.map((id) => log.latest('moments', keyOf(run, id, '')))))
  for (let p = 0; p < all[0].length; p++)
    merged.merge(RunningMoments.deserialize(all.map((rows) => rows[p].value ?? { count: NaN, raw: new Uint8Array(), normed: new Uint8Array() })))
  return merged
}

/** The whole state of a run, without its name, as text that two equal runs have alike, whatever order they were made in. */
export const stateOf = async (log: Log, run = 'r'): Promise<string> => {
  const ofRun = async (topic: 'tables' | 'moments'): Promise<unknown> =>
    (await log.latest(topic, keyOf(run, ''))).map(({ key, partition, value }) => [
      key.slice(run.length), partition,
      value !== undefined && 'raw' in value ? [value.count, Buffer.from(value.raw).toString('base64'), Buffer.from(value.normed).toString('base64')] : { ...value, run: '' },
    ])
  return JSON.stringify([(await influenceOf(log, run)).map((value) => ({ ...value, run: '' })), await ofRun('tables'), await ofRun('moments'), await log.positions(runId(run))])
}
