/** @file Parquet, a row group at a time. Page checksums are not looked at; what cannot be unpacked is torn. */
import { open, type FileHandle } from 'node:fs/promises'
import { decompress } from 'fzstd'
import { parquetMetadataAsync, parquetReadObjects, type AsyncBuffer, type Compressors, type FileMetaData } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { UserError } from '../../base/index.js'
import { bytesField, decodeUtf8, parseRecord, problem, Undecoded, type Fields } from './parse.js'
import { Torn, type ShardLine } from './types.js'

/** Rows of a group; more are not believed. */
const rowsMax = 2 ** 24

export async function* readParquet(
  path: string,
  fields: Fields,
  { textBytesMax, rowGroupBytesMax }: { readonly textBytesMax: number; readonly rowGroupBytesMax: number },
): AsyncGenerator<ShardLine, void, undefined> {
  await using handle = await open(path)
  const file = await bufferOf(handle, rowGroupBytesMax)
  const metadata = await readMetadata(file)
  let index = 0
  for (const [group, { num_rows, columns }] of metadata.row_groups.entries()) {
    const bytes = columns.reduce((sum, column) => sum + Number(column.meta_data?.total_uncompressed_size ?? 0), 0)
    if (bytes > rowGroupBytesMax)
      throw new UserError(`row group ${group} of "${path}" holds ${bytes} bytes, over the bound of ${rowGroupBytesMax}`, {
        fix: 'write the file again with smaller row groups (pyarrow: row_group_size=10000)',
      })
    const rowCount = Number(num_rows)
    if (!(rowCount >= 0 && rowCount <= rowsMax)) throw new Torn(`row group ${group} claims ${rowCount} rows`)
    if (rowCount === 0) continue
    const rows = await readGroup(file, metadata, index, rowCount, rowGroupBytesMax).catch((error: unknown) => {
      if (isSystemError(error)) throw error
      const reason = error instanceof Error ? error.message : String(error)
      throw new Torn(`row group ${group} of ${metadata.row_groups.length} (rows from ${index}) cannot be read (${reason})`, {
        cause: error,
      })
    })
    for (const row of rows) yield lineOf(row, fields, index++, textBytesMax)
  }
}

const readMetadata = async (file: AsyncBuffer): Promise<FileMetaData> => {
  try {
    return await parquetMetadataAsync(file)
  } catch (error) {
    if (isSystemError(error)) throw error
    throw new Torn(`its parquet footer cannot be read (${error instanceof Error ? error.message : error})`, { cause: error })
  }
}

const readGroup = async (
  file: AsyncBuffer,
  metadata: FileMetaData,
  rowStart: number,
  rowCount: number,
  bytesMax: number,
): Promise<readonly Record<string, unknown>[]> => {
  const rows: readonly Record<string, unknown>[] = await parquetReadObjects({
    file,
    metadata,
    rowStart,
    rowEnd: rowStart + rowCount,
    compressors: bounded(bytesMax),
    parsers: { stringFromBytes: (bytes: Uint8Array) => bytes && (decodeUtf8(bytes) ?? new Undecoded(bytes.slice())) },
  })
  if (rows.length !== rowCount) throw new Error(`${rows.length} rows where its metadata say ${rowCount}`)
  return rows
}

/** A row, with values that JSON has. */
const lineOf = (row: Record<string, unknown>, fields: Fields, index: number, textBytesMax: number): ShardLine => {
  const record = Object.fromEntries(Object.entries(row).map(([field, value]) => [field, toJson(value)]))
  const text = record[fields.text]
  const bytes = typeof text === 'string' ? Buffer.byteLength(text) : 0
  const original = (): Uint8Array => Buffer.from(JSON.stringify(marked(record)))
  if (bytes > textBytesMax) return problem(`its text has ${bytes} bytes, over the bound of ${textBytesMax}`, index, bytes, original())
  return parseRecord(record, fields, { index, bytes, original })
}

/** For dead letters: what is not UTF-8 marked, so that it can be told from text when it is read again. */
const marked = (value: unknown): unknown => {
  if (value instanceof Undecoded) return { [bytesField]: value.toJSON() }
  if (typeof value !== 'object' || value === null) return value
  return Array.isArray(value) ? value.map(marked) : Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, marked(inner)]))
}

/** 64-bit integers become numbers, or text beyond 2^53; times ISO text; bytes base64; NaN and infinities null. */
const toJson = (value: unknown): unknown => {
  if (value === undefined) return undefined
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (typeof value === 'number') return Number.isFinite(value) ? value : null
  if (typeof value !== 'object' || value === null || value instanceof Undecoded) return value
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (Array.isArray(value)) return value.map(toJson)
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toJson(inner)]))
}

/** Unpacks no page to more than the bound, whatever its header says. */
const bounded = (bytesMax: number): Compressors => {
  const all: Compressors = { ...compressors, ZSTD: (input, bytes) => decompress(input, new Uint8Array(bytes)) }
  return Object.fromEntries(
    Object.entries(all).map(([codec, unpack]) => [
      codec,
      (input: Uint8Array, bytes: number): Uint8Array => {
        if (!(bytes >= 0 && bytes <= bytesMax)) throw new Error(`a page of ${bytes} bytes`)
        return unpack(input, bytes)
      },
    ]),
  )
}

const bufferOf = async (handle: FileHandle, bytesMax: number): Promise<AsyncBuffer> => {
  const { size } = await handle.stat()
  return {
    byteLength: size,
    async slice(start, end = size) {
      const bytes = end - start
      if (!(start >= 0 && bytes >= 0 && end <= size && bytes <= bytesMax + (64 << 10)))
        throw new Error(`bytes ${start} to ${end} of a file of ${size}`)
      const buffer = new Uint8Array(bytes)
      for (let at = 0; at < bytes; ) {
        const { bytesRead } = await handle.read(buffer, at, bytes - at, start + at)
        if (bytesRead === 0) throw new Error(`the file ends at byte ${start + at}`)
        at += bytesRead
      }
      return buffer.buffer
    },
  }
}

const isSystemError = (error: unknown): boolean =>
  error instanceof Error && 'syscall' in error
