/** @file What a dead letter of ingest keeps of a line, read again as that line. */
import { extensionOf } from './find.js'
import { bytesField, parseLine, parseRecord, parseText, problem, Undecoded, type Fields } from './parse.js'
import { lineBytesMaxDefault, type ShardLine, type ShardOptions } from './types.js'

/**
 * The line that a shard had, from its bytes; of other fields than the first time, if they are named. A row of Parquet
 * is kept as JSON, with bytes that are not UTF-8 marked as such.
 * @param original whole: what was cut cannot be read again
 */
export const rereadLine = (
  original: Uint8Array, { shard, index }: { readonly shard: string; readonly index: number }, options: ShardOptions = {},
): ShardLine => {
  const fields: Fields = { text: options.textField ?? 'text', id: options.idField ?? 'id', source: options.source }
  const bytes = original.length
  switch (extensionOf(shard)) {
    case '.txt':
      return parseText(original, bytes, fields, lineBytesMaxDefault)
    case '.parquet': {
      const row = rowOf(original)
      if (row === undefined) return problem('what was kept of the row is no JSON object', index, bytes, original)
      return parseRecord(row, fields, { index, bytes, original: () => original })
    }
    default: {
      const line = parseLine({ index, bytes: original, bytesTotal: bytes, isEnded: true }, fields, lineBytesMaxDefault)
      return line ?? problem('the line is blank', index, bytes, original)
    }
  }
}

const rowOf = (original: Uint8Array): object | undefined => {
  try {
    const row: unknown = JSON.parse(Buffer.from(original).toString('utf8'), (_, value: unknown) => {
      const bytes = typeof value === 'object' && value !== null && bytesField in value ? value[bytesField] : undefined
      return typeof bytes === 'string' ? new Undecoded(Buffer.from(bytes, 'base64')) : value
    })
    return typeof row === 'object' && row !== null && !Array.isArray(row) ? row : undefined
  } catch {
    return undefined
  }
}
