import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { UserError } from '../../src/base/index.js'
import type { Log } from '../../src/log/index.js'
import { silentProgress } from '../../src/pipeline/context.js'
import { openLog } from '../../src/pipeline/home.js'
import { Interrupted, npyHeader, writeScores } from '../../src/pipeline/outputs/index.js'
import { readTopK } from '../../src/pipeline/top-k.js'
import type { RunRecord, ScoresFormat } from '../../src/settings/index.js'
import { influenceOf, makeRun, normOf } from './made-run.js'

const QUERIES = 3
const DOCUMENTS = 257
const folder = mkdtempSync(join(tmpdir(), 'tributary-outputs-'))
let log: Log
let run: RunRecord
before(async () => {
  log = await openLog({ home: join(folder, 'home') }, { partitions: 3 })
  await makeRun(log, 'another', { documents: 5, queries: 1 })
  run = await makeRun(log, 'made', { documents: DOCUMENTS, queries: QUERIES })
})
after(async () => {
  await log[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

/** Rows of the run: every tenth document is two pieces. */
const ROWS = DOCUMENTS + Math.ceil(DOCUMENTS / 10)

const write = (format: ScoresFormat, name: string, { force = false, signal = new AbortController().signal } = {}): ReturnType<typeof writeScores> =>
  writeScores(log, run, { format, out: join(folder, name), force, signal, write: async () => {}, progress: silentProgress })

interface Line {
  readonly query: string
  readonly document: string
  readonly source: string
  readonly piece: number
  readonly pieces: number
  readonly tokens: number
  readonly tokensTotal: number
  readonly influence: number
  readonly influencePerNat: number
  readonly influenceNormed: number
  readonly loss: number
}
const readLines = (name: string): Line[] =>
  readFileSync(join(folder, name), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Line)

/** What must stand in a row, from the functions that made the run. */
const checkLine = ({ query, document, source, piece, pieces, influence, influencePerNat, influenceNormed, loss, tokensTotal }: Line): void => {
  const [i, q] = [Number(document.slice(1)), Number(query.slice(1))]
  const raw = influenceOf(i + piece, q)
  assert.equal(influence, raw)
  assert.equal(influencePerNat, Math.fround(raw / (q + 1)))
  assert.equal(influenceNormed, Math.fround(raw / normOf(i)))
  assert.deepEqual([source, pieces, loss], [i % 2 === 0 ? 'even' : 'odd', i % 10 === 0 ? 2 : 1, i + 0.5])
  assert.equal(tokensTotal, 4 * pieces)
}

test('jsonl has every score of the run once, and none of other runs', async () => {
  assert.deepEqual(await write('jsonl', 'a.jsonl'), { documents: DOCUMENTS, pieces: ROWS, scores: ROWS * QUERIES })
  const lines = readLines('a.jsonl')
  lines.forEach(checkLine)
  assert.equal(new Set(lines.map(({ query, document, piece }) => `${query} ${document} ${piece}`)).size, ROWS * QUERIES)
})

test('parquet has the rows of jsonl, and the queries in its metadata', async () => {
  await write('parquet', 'a.parquet')
  const file = await asyncBufferFromFile(join(folder, 'a.parquet'))
  const rows = (await parquetReadObjects({ file })) as unknown as (Line & { offset: bigint })[]
  await write('jsonl', 'b.jsonl')
  assert.deepEqual(rows.map(({ offset, ...row }) => ({ ...row, offset: Number(offset) })), readLines('b.jsonl').map((line) => ({ ...line })))
  const metadata = await parquetMetadataAsync(file)
  const queries = metadata.key_value_metadata?.find(({ key }) => key === 'tributary.queries')?.value
  assert.deepEqual(JSON.parse(queries ?? ''), run.queries)
})

/** An .npy file as Python writes and reads it: header and f32 values. */
const readNpy = (path: string): { shape: number[]; values: Float32Array } => {
  const bytes = readFileSync(path)
  assert.equal(bytes.subarray(0, 8).toString('latin1'), '\u0093NUMPY\u0001\u0000')
  const end = 10 + bytes.readUInt16LE(8)
  assert.equal(end % 64, 0)
  const header = bytes.subarray(10, end).toString('latin1')
  const match = /^\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n$/.exec(header)
  assert.ok(match, header)
  return { shape: [Number(match[1]), Number(match[2])], values: new Float32Array(new Uint8Array(bytes.subarray(end)).buffer) }
}

test('npy has matrices [queries, documents] with the ids beside', async () => {
  await write('npy', 'matrices')
  const path = (name: string): string => join(folder, 'matrices', name)
  const documents = readFileSync(path('documents.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Line)
  const queries = JSON.parse(readFileSync(path('queries.json'), 'utf8')) as { id: string }[]
  assert.deepEqual(queries.map(({ id }) => id), ['q0', 'q1', 'q2'])
  assert.equal(documents.length, ROWS)
  const [raw, perNat, normed] = ['influence', 'influence_per_nat', 'influence_normed'].map((name) => readNpy(path(`${name}.npy`)))
  for (const { shape, values } of [raw, perNat, normed]) {
    assert.deepEqual(shape, [QUERIES, ROWS])
    assert.equal(values.length, QUERIES * ROWS)
  }
  queries.forEach(({ id }, q) =>
    documents.forEach((document, n) => {
      const at = q * ROWS + n
      checkLine({ ...document, query: id, influence: raw.values[at], influencePerNat: perNat.values[at], influenceNormed: normed.values[at] })
    }),
  )
})

test('npy of more documents than a block holds is turned block by block', async () => {
  // A block holds as many documents as its bytes allow: with so many queries 104, so there are two.
  await using wide = await openLog({ home: join(folder, 'wide') }, { partitions: 1 })
  const queries = 20_000
  const record = await makeRun(wide, 'wide', { documents: 0, queries: 0 })
  const many: RunRecord = { ...record, queries: Array.from({ length: queries }, (_, q) => ({ ...run.queries[0], id: `q${q}` })) }
  const values = Array.from({ length: 120 }, (_, i) => ({
    run: 'wide', document: `d${i}`, source: 's', partition: 0, offset: i, piece: 0, pieces: 1, tokens: 1, tokensTotal: 1, loss: 0, gradientNorm: 1,
    influence: new Float32Array(queries).map((_, q) => i * 1000 + (q % 997)) as unknown as number[],
  }))
  await wide.append(values.map((value) => ({ topic: 'influence' as const, key: value.document, partition: 0, value: { ...value, influence: [...value.influence] } })))
  await writeScores(wide, many, {
    format: 'npy', out: join(folder, 'wide-out'), force: false, signal: new AbortController().signal, write: async () => {}, progress: silentProgress,
  })
  const { shape, values: read } = readNpy(join(folder, 'wide-out', 'influence.npy'))
  assert.deepEqual(shape, [queries, 120])
  for (let q = 0; q < queries; q += 613) for (let n = 0; n < 120; n++) assert.equal(read[q * 120 + n], n * 1000 + (q % 997))
})

test('a head of an .npy file says its shape', () => {
  assert.match(npyHeader([3, 4]).toString('latin1'), /'shape': \(3, 4\)/)
  assert.match(npyHeader([3]).toString('latin1'), /'shape': \(3,\)/)
})

for (const format of ['jsonl', 'parquet', 'npy'] as const) {
  test(`${format}: what is there is overwritten only if that is said`, async () => {
    const name = `twice.${format}`
    await write(format, name)
    await assert.rejects(write(format, name), (error: unknown) => error instanceof UserError && /is there already/.test(error.message))
    await write(format, name, { force: true })
    assert.ok(!readdirSync(folder).some((other) => other.endsWith('.tmp')))
  })

  test(`${format}: an interrupted one leaves nothing, and leaves what was there`, async () => {
    const name = `kept.${format}`
    await write(format, name)
    const before = format === 'npy' ? readFileSync(join(folder, name, 'influence.npy')) : readFileSync(join(folder, name))
    const controller = new AbortController()
    controller.abort()
    await assert.rejects(write(format, name, { force: true, signal: controller.signal }), Interrupted)
    assert.deepEqual(format === 'npy' ? readFileSync(join(folder, name, 'influence.npy')) : readFileSync(join(folder, name)), before)
    await assert.rejects(write(format, `never.${format}`, { signal: controller.signal }), Interrupted)
    assert.ok(!readdirSync(folder).some((other) => other.endsWith('.tmp') || other.startsWith('never')))
  })

  test(`${format}: a folder that is not there is an error`, async () => {
    await assert.rejects(write(format, join('nowhere', 'x')), (error: unknown) => error instanceof UserError && /mkdir -p/.test(error.fix ?? ''))
  })
}

test("another's folder is never overwritten", async () => {
  mkdirSync(join(folder, 'mine'))
  writeFileSync(join(folder, 'mine', 'thesis.tex'), 'x')
  await assert.rejects(write('npy', 'mine', { force: true }), /holds other things \(thesis\.tex\)/)
  await assert.rejects(write('jsonl', 'mine', { force: true }), /is a folder/)
  assert.deepEqual(readdirSync(join(folder, 'mine')), ['thesis.tex'])
})

for (const [bottom, normed] of [[false, false], [true, false], [false, true], [true, true]] as const)
  test(`tables merge over partitions: ${bottom ? 'bottom' : 'top'}, ${normed ? 'normed' : 'raw'}`, async () => {
    const [table] = await readTopK(log, run, { query: ['q1'], rows: 7, bottom, normed })
    const all = Array.from({ length: DOCUMENTS }, (_, i) => i).flatMap((i) =>
      (i % 10 === 0 ? [0, 1] : [0]).map((piece) => ({
        document: `d${i}`, piece, score: influenceOf(i + piece, 1) / (normed ? normOf(i) : 1),
      })),
    )
    const sign = bottom ? -1 : 1
    all.sort((a, b) => sign * (b.score - a.score) || (a.document < b.document ? -1 : a.document > b.document ? 1 : a.piece - b.piece))
    assert.deepEqual(table.rows.map(({ document, piece, score }) => ({ document, piece, score })), all.slice(0, 7))
    assert.deepEqual(table.rows.map(({ rank }) => rank), [0, 1, 2, 3, 4, 5, 6])
    assert.equal(table.scored, ROWS)
    for (const { document, text, score, scorePerNat } of table.rows) {
      assert.equal(text, `text of ${document}\nsecond line`)
      assert.equal(scorePerNat, score / 2)
    }
  })

test('rows that were scored again come first, by their final scores, unless more documents came since', async () => {
  await using other = await openLog({ home: join(folder, 'rescored') }, { partitions: 2 })
  const record = await makeRun(other, 'r', { documents: 9, queries: 1 })
  const read = async (): Promise<[string, number, boolean][]> => {
    const [{ rows }] = await readTopK(other, record, { query: [], rows: 4, bottom: false, normed: false })
    return rows.map(({ document, score, rescored }) => [document, score, rescored])
  }
  const before = await read()
  const [{ rows }] = await readTopK(other, record, { query: [], rows: 2, bottom: false, normed: false })
  const again = rows.map(({ document, source, piece, partition, offset }, i) => ({ document, source, piece, partition, offset, score: i })).reverse()
  const value = { run: 'r', query: 'q0', scored: 10, rows: 2, top: again, bottom: [], topNormed: [], bottomNormed: [] }
  await other.append([{ topic: 'rescored', key: 'r\u001fq0', value }])
  assert.deepEqual(await read(), [[before[1][0], 1, true], [before[0][0], 0, true], before[2], before[3]])
  await other.append([{ topic: 'rescored', key: 'r\u001fq0', value: { ...value, scored: 9 } }])
  assert.deepEqual(await read(), before)
  const [{ isRescoreStale }] = await readTopK(other, record, { query: [], rows: 4, bottom: false, normed: false })
  assert.equal(isRescoreStale, true)
})
