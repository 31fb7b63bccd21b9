/** @file One shard as lines: the way of its bytes, and the errors that belong to the file as a whole. */
import { stat } from 'node:fs/promises'
import { UserError } from '../../base/index.js'
import { openBytes } from './bytes.js'
import { requireFields } from './fields.js'
import { extensionOf, shardExtensions } from './find.js'
import { splitLines } from './lines.js'
import { readParquet } from './parquet.js'
import { parseLine, parseText, type Fields } from './parse.js'
import {
  lineBytesMaxDefault, rowGroupBytesMaxDefault, Torn, type ShardLine, type ShardOptions,
} from './types.js'

/**
 * The lines of a shard in order, read only as fast as they are taken; blank lines are left out. UserError, after every
 * whole line before it, where the shard is torn or a field was named that no line has (`requireFields`).
 */
export async function* readShard(path: string, options: ShardOptions = {}): AsyncGenerator<ShardLine, void, undefined> {
  yield* requireFields(path, options, untilTorn(path, linesOf(path, options)))
}

const linesOf = (path: string, options: ShardOptions): AsyncIterable<ShardLine> => {
  const extension = extensionOf(path)
  const fields: Fields = { text: options.textField ?? 'text', id: options.idField ?? 'id', source: options.source }
  const bytesMax = options.lineBytesMax ?? lineBytesMaxDefault
  switch (extension) {
    case '.jsonl':
    case '.jsonl.gz':
    case '.jsonl.zst':
      return jsonLines(path, extension, fields, bytesMax)
    case '.txt':
      return text(path, fields, bytesMax)
    case '.parquet':
      return readParquet(path, fields, {
        textBytesMax: bytesMax,
        rowGroupBytesMax: options.rowGroupBytesMax ?? rowGroupBytesMaxDefault,
      })
    case undefined:
      throw new UserError(`"${path}" is no shard by its extension; known are ${shardExtensions.join(', ')}`)
    default:
      return extension satisfies never
  }
}

async function* jsonLines(
  path: string,
  extension: '.jsonl' | '.jsonl.gz' | '.jsonl.zst',
  fields: Fields,
  lineBytesMax: number,
): AsyncGenerator<ShardLine, void, undefined> {
  const splitter = splitLines(lineBytesMax)
  for await (const chunk of openBytes(path, extension))
    for (const line of splitter.push(chunk)) {
      const parsed = parseLine(line, fields, lineBytesMax)
      if (parsed !== undefined) yield parsed
    }
  const last = splitter.end()
  const parsed = last && parseLine(last, fields, lineBytesMax)
  if (parsed !== undefined) yield parsed
}

/** The whole file as one document. */
async function* text(path: string, fields: Fields, bytesMax: number): AsyncGenerator<ShardLine, void, undefined> {
  const { size } = await stat(path)
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of openBytes(path, '.txt')) {
    parts.push(chunk)
    bytes += chunk.length
    if (bytes > bytesMax) break
  }
  yield parseText(Buffer.concat(parts), Math.max(bytes, size), fields, bytesMax)
}

/** Names the file, the place and the fix when a shard breaks off or cannot be read. */
async function* untilTorn(path: string, lines: AsyncIterable<ShardLine>): AsyncGenerator<ShardLine, void, undefined> {
  let whole = 0
  try {
    for await (const line of lines) {
      yield line
      whole++
    }
  } catch (error) {
    if (error instanceof Torn)
      throw new UserError(
        `the shard "${path}" is torn: ${error.message}; ${whole} whole ${whole === 1 ? 'line' : 'lines'} came before`,
        { cause: error, fix: 'fetch or write the file again and ingest it again: what was ingested before is not added twice' },
      )
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (typeof code === 'string' && /^E[A-Z]+$/.test(code) && error instanceof Error)
      throw new UserError(`the shard "${path}" cannot be read: ${error.message}; ${whole} whole lines came before`, {
        cause: error,
        fix: 'check that the file exists and may be read, then ingest it again',
      })
    throw error
  }
}
