/**
 * @file What the stream itself costs: `node dist/bench/stream.js [documents]` (default 100,000 of 16 token ids; 10
 * queries, k = 100; the folder is on TMPDIR's disk). The engine is a null one: its scores are there at once. What remains
 * is reading and decoding, cutting into pieces and batches, tables, exact moments, encoding and committing.
 *
 * | figure | limit beside it, measured in the same run |
 * |---|---|
 * | documents a second through `scorePartitions` | the log alone: the same records read, and the same records committed |
 * | | bare LMDB: the same bytes copied out of, and put into, 1 MiB entries |
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open } from 'lmdb'
import { runId } from '../src/base/index.js'
import { embeddedLog, keyOf, type Assignment, type Log, type NewRecord } from '../src/log/index.js'
import { fill, nullRun, queries, tokens } from './null-run.js'

const documents = Number(process.argv[2] ?? 100_000)
const commitEach = 10_000

const folder = mkdtempSync(join(tmpdir(), 'tributary-bench-stream-'))
const seconds = async (action: () => Promise<void>): Promise<number> => {
  const from = performance.now()
  await action()
  return (performance.now() - from) / 1000
}

const assignmentsOf = async (log: Log, run: string, release: AbortController): Promise<readonly Assignment[]> => {
  const assignments: Assignment[] = []
  for await (const assignment of log.assignments(runId(run), { signal: release.signal })) assignments.push(assignment)
  return assignments
}

const stream = async (log: Log): Promise<void> => {
  const done = await nullRun(log, { run: 'stream', commitEveryMs: 1000 })
  if (done !== documents) throw new Error(`${done} of ${documents} documents were scored`)
}

/** The same reads, and commits of the same records, with nothing between. */
const logAlone = async (log: Log): Promise<void> => {
  const release = new AbortController()
  const influence = Array.from({ length: queries }, (_, q) => q / 3)
  for (const assignment of await assignmentsOf(log, 'alone', release)) {
    let pending: NewRecord[] = []
    let offset = 0
    const commit = async (): Promise<void> => {
      await assignment.commit({ append: pending, position: { offset } })
      pending = []
    }
    for (;;) {
      const records = await assignment.read(offset, { recordsMax: 512, bytesMax: 4 << 20 })
      if (records.length === 0) break
      offset = records[records.length - 1].offset + 1
      for (const { key, value, partition, offset: at } of records) {
        if (value === undefined) throw new Error('a document was damaged')
        const { id: document, source } = value
        pending.push({
          topic: 'influence', key: keyOf('alone', key),
          value: { run: 'alone', document, source, partition, offset: at, piece: 0, pieces: 1, tokens, tokensTotal: tokens, loss: 3, gradientNorm: 1, influence },
        })
      }
      if (pending.length >= commitEach) await commit()
    }
    await commit()
  }
  release.abort()
}

const bareLmdb = async (bytesRead: number, bytesWritten: number): Promise<number> => {
  const root = open({ path: join(folder, 'bare'), noSubdir: false, encoding: 'binary', overlappingSync: false })
  const entry = Buffer.alloc((1 << 20) - 4096, 'tributary')
  const entries = (bytes: number): number => Math.ceil(bytes / entry.length)
  for (let i = 0; i < entries(bytesRead); i++) await root.put(i, entry)
  const took = await seconds(async () => {
    for (let i = 0; i < entries(bytesRead); i++) root.getBinary(i)
    for (let i = 0; i < entries(bytesWritten); i++) await root.childTransaction(() => void root.put(1_000_000 + i, entry))
  })
  await root.close()
  return took
}

try {
  await using log = await embeddedLog(join(folder, 'log'))
  await log.ensureTopics()
  await fill(log, documents)
  const size = (): number => statSync(join(folder, 'log', 'data.mdb')).size
  const filled = size()
  const streamed = await seconds(() => stream(log))
  const grown = size() - filled
  const alone = await seconds(() => logAlone(log))
  const bare = await bareLmdb(filled, grown)
  const rate = documents / streamed
  const beside = (name: string, took: number): string => `${(took / streamed).toFixed(2)} of ${name} (${Math.round(documents / took)}/s)`
  console.log(`stream ${Math.round(rate)} documents/s   ${beside('the log alone', alone)}, ${beside('bare LMDB', bare)}`)
  console.log(`heap ${Math.round(process.memoryUsage().heapUsed / 2 ** 20)} MiB, resident ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
