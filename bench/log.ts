/**
 * @file What the embedded log costs beside what it stands on, in one run on one machine:
 * `node dist/bench/log.js [documents]` (default 100,000 of about 1 KB; the folder is on TMPDIR's disk).
 *
 * | figure | limit beside it |
 * |---|---|
 * | durable append, unique, 1,000 documents a call | the same bytes as 1 MiB entries of a bare LMDB; as a file, fdatasync a call |
 * | read and decode, 256 documents a read | the same entries copied out of a bare LMDB |
 * | commits of a small state | a 4 KiB write and fdatasync, twice: LMDB flushes data, then its meta page |
 */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open } from 'lmdb'
import { runId } from '../src/base/index.js'
import { embeddedLog, keyOf, type NewRecord } from '../src/log/index.js'

const documents = Number(process.argv[2] ?? 100_000)
const EACH = 1000
const COMMITS = 200

const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-log-'))

/** Seconds that an action takes. */
const seconds = async (action: () => Promise<void> | void): Promise<number> => {
  const from = performance.now()
  await action()
  return (performance.now() - from) / 1000
}

const line = (name: string, rate: number, unit: string, beside: readonly (readonly [string, number])[]): void => {
  const ratios = beside.map(([limit, value]) => `${(rate / value).toFixed(2)} of ${limit} (${Math.round(value)}/s)`)
  console.log(`${name.padEnd(16)} ${String(Math.round(rate)).padStart(9)} ${unit}/s   ${ratios.join(', ')}`)
}

/** English-like text of about 1 KB that differs from document to document. */
const textOf = (i: number): string => `Document ${i} tells of place ${i % 977}. `.repeat(40).slice(0, 1000)

const record = (i: number): NewRecord<'documents'> => ({
  topic: 'documents',
  key: keyOf('bench', `document-${i}`),
  value: {
    id: `document-${i}`, idGiven: true, source: 'bench', text: textOf(i), tokens: null, shard: 'bench.jsonl', index: i, extra: null,
  },
})

const bareLmdb = async (bytes: number, entryBytes: number, perCommit: number): Promise<{ write: number; read: number }> => {
  const root = open({ path: join(folder, 'bare'), noSubdir: false, encoding: 'binary', overlappingSync: false })
  const entry = Buffer.alloc(entryBytes, 'tributary')
  const entries = Math.ceil(bytes / entryBytes)
  const write = await seconds(async () => {
    for (let i = 0; i < entries; i += perCommit)
      await root.childTransaction(() => {
        for (let j = i; j < Math.min(entries, i + perCommit); j++) root.putSync(j, entry)
      })
  })
  const read = await seconds(() => {
    for (let i = 0; i < entries; i++) root.getBinary(i)
  })
  await root.close()
  return { write, read }
}

const bareFile = (bytes: number, each: number): Promise<number> =>
  seconds(() => {
    const file = openSync(join(folder, 'bare-file'), 'w')
    const chunk = Buffer.alloc(each, 'tributary')
    for (let written = 0; written < bytes; written += each) {
      writeSync(file, chunk)
      fdatasyncSync(file)
    }
    closeSync(file)
  })

const flushesPerSecond = async (): Promise<number> => {
  const file = openSync(join(folder, 'flushes'), 'w')
  const page = Buffer.alloc(4096, 'tributary')
  const took = await seconds(() => {
    for (let i = 0; i < COMMITS; i++)
      for (const at of [4096 * (2 + i), 4096 * (i & 1)]) {
        writeSync(file, page, 0, page.length, at)
        fdatasyncSync(file)
      }
  })
  closeSync(file)
  return COMMITS / took
}

try {
  await using log = await embeddedLog(join(folder, 'log'))
  await log.ensureTopics()
  let bytes = 0
  const calls: NewRecord<'documents'>[][] = []
  for (let i = 0; i < documents; i += EACH) {
    const call = Array.from({ length: Math.min(EACH, documents - i) }, (_, j) => record(i + j))
    for (const { key, value } of call) bytes += key.length + (value?.text?.length ?? 0) + 60
    calls.push(call)
  }
  const append = await seconds(async () => {
    for (const call of calls) await log.append(call, { unique: true })
  })
  const again = await seconds(async () => {
    for (const call of calls) await log.append(call, { unique: true })
  })
  let read = 0
  const reading = await seconds(async () => {
    for (const partition of [0, 1, 2, 3])
      for (let offset = 0; ; ) {
        const records = await log.read('documents', partition, offset, { recordsMax: 256, bytesMax: 1 << 22 })
        if (records.length === 0) break
        offset += records.length
        for (const { value } of records) read += value?.text?.length === 1000 ? 1 : Number.NaN
      }
  })
  if (read !== documents) throw new Error(`${read} of ${documents} documents came back`)
  const perCall = Math.ceil(bytes / calls.length)
  const bare = await bareLmdb(bytes, 1 << 20, Math.max(1, Math.round(perCall / (1 << 20))))
  const file = await bareFile(bytes, perCall)
  line('append', documents / append, 'documents', [['bare LMDB', documents / bare.write], ['bare file', documents / file]])
  line('append again', documents / again, 'documents', [['append', documents / append]])
  line('read + decode', documents / reading, 'documents', [['bare LMDB', documents / bare.read]])

  const run = runId('bench')
  const stop = new AbortController()
  for await (const assignment of log.assignments(run, { signal: stop.signal })) {
    if (assignment.partition > 0) continue
    const row = { document: 'document-1', source: 'bench', piece: 0, score: 1, partition: 0, offset: 1 }
    const top = Array.from({ length: 20 }, () => row)
    const value = { run, query: 'q', partition: 0, k: 20, top, bottom: top, topNormed: top, bottomNormed: top }
    const commits = await seconds(async () => {
      for (let i = 0; i < COMMITS; i++)
        await assignment.commit({
          append: [{ topic: 'tables', key: keyOf(run, 'q', 0), value }],
          position: { offset: i },
        })
    })
    line('commit', COMMITS / commits, 'commits', [['two flushes', await flushesPerSecond()]])
  }
  stop.abort()
} finally {
  rmSync(folder, { recursive: true })
}
