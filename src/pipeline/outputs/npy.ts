/**
 * @file Scores as NumPy matrices, f32 [Q, N], written in bounded memory although documents come one by one: N is
 * counted first, then blocks of documents are turned and every query's part is written at its place.
 *
 *     OUT/influence.npy, influence_per_nat.npy, influence_normed.npy   f32 [Q, N]
 *     OUT/queries.json      the rows: [{id, group, informationNats, ...}]
 *     OUT/documents.jsonl   the columns: {document, source, piece, ...} a line
 *
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunRecord } from '../../settings/index.js'
import { textFile } from './files.js'
import type { ScoreRow } from './scores.js'

/** The matrices' files. */
const matrices = {
  influence: 'influence.npy',
  influencePerNat: 'influence_per_nat.npy',
  influenceNormed: 'influence_normed.npy',
} as const
type Kind = keyof typeof matrices
const kinds = Object.keys(matrices) as Kind[]

export const npyNames: readonly string[] = [...Object.values(matrices), 'queries.json', 'documents.jsonl']

/** A block of one matrix in memory, bytes at most. */
const BLOCK_BYTES_MAX = 8 * 1024 ** 2

/** The head of an .npy file: magic, version 1.0, and the shape; its length a multiple of 64. */
export const npyHeader = (shape: readonly number[]): Buffer => {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const about = `{'descr': '<f4', 'fortran_order': False, 'shape': (${sizes}), }`
  const length = Math.ceil((10 + about.length + 1) / 64) * 64
  const header = Buffer.alloc(length, ' ')
  header.write('\u0093NUMPY', 0, 'latin1')
  header.writeUInt8(1, 6)
  header.writeUInt8(0, 7)
  header.writeUInt16LE(length - 10, 8)
  header.write(about, 10, 'latin1')
  header.write('\n', length - 1, 'latin1')
  return header
}

/** f32 values as the bytes of the file: little-endian whatever the machine. */
const littleEndian = (values: Float32Array): Buffer => {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
  return new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? bytes : Buffer.from(bytes).swap32()
}

/**
 * Writes the folder.
 * @param documents  N, the rows that `rows` will give
 * @param onRow      called with the number of rows done
 */
export const writeNpy = async (
  folder: string,
  run: RunRecord,
  documents: number,
  rows: AsyncIterable<ScoreRow>,
  onRow: (done: number) => void,
): Promise<void> => {
  const queries = run.queries.length
  await writeFile(join(folder, 'queries.json'), `${JSON.stringify(run.queries, null, 1)}\n`)
  const about = textFile(join(folder, 'documents.jsonl'))
  const header = npyHeader([queries, documents])
  const width = Math.max(1, Math.min(documents, Math.floor(BLOCK_BYTES_MAX / 4 / Math.max(1, queries))))
  const files = new Map<Kind, { readonly file: number; readonly block: Float32Array }>()
  try {
    for (const kind of kinds) {
      const file = openSync(join(folder, matrices[kind]), 'w')
      files.set(kind, { file, block: new Float32Array(queries * width) }) // [Q, width]
      writeFully(file, header, 0)
      ftruncateSync(file, header.length + 4 * queries * documents)
    }
    let done = 0
    let filled = 0
    const flush = (): void => {
      const first = done - filled
      for (const { file, block } of files.values())
        for (let q = 0; q < queries; q++) {
          const part = block.subarray(q * width, q * width + filled)
          writeFully(file, littleEndian(part), header.length + 4 * (q * documents + first))
        }
      filled = 0
    }
    for await (const row of rows) {
      if (done === documents) throw new Error(`more than the ${documents} documents that were counted`)
      const { influence: _i, influencePerNat: _p, influenceNormed: _n, run: _run, ...rest } = row
      await about.write(`${JSON.stringify(rest)}\n`)
      for (const [kind, { block }] of files)
        for (let q = 0; q < queries; q++) block[q * width + filled] = row[kind][q]
      filled++
      done++
      onRow(done)
      if (filled === width) flush()
    }
    if (filled > 0) flush()
    if (done !== documents) throw new Error(`${done} documents came, ${documents} were counted`)
  } finally {
    for (const { file } of files.values()) closeSync(file)
    await about.close()
  }
}

/** Synchronous: a block is some thousand short writes, and a promise for each costs ten times the write. */
const writeFully = (file: number, bytes: Buffer, position: number): void => {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, position + at)
}
