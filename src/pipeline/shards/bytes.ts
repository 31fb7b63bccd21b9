/** @file A file's bytes, unpacked, in chunks of at most some 128 KiB, read only as they are taken. */
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { constants, createGunzip, type Gunzip } from 'node:zlib'
import { Torn } from './types.js'
import { unzstd } from './zstd.js'

/** Chunks are the reader's until the next one is taken. Torn where the compression breaks off or is corrupt. */
export const openBytes = (
  path: string,
  extension: '.jsonl' | '.jsonl.gz' | '.jsonl.zst' | '.txt',
): AsyncIterable<Uint8Array> => {
  switch (extension) {
    case '.jsonl':
    case '.txt':
      return createReadStream(path)
    case '.jsonl.gz':
      return gunzip(path)
    case '.jsonl.zst':
      return unzstd(createReadStream(path))
    default:
      return extension satisfies never
  }
}

/**
 * Concatenated members follow each other; zero bytes after the last are padding, others are torn. Of data that break
 * off, all that can be unpacked comes first; of corrupt data, all but up to one chunk before the damage.
 */
async function* gunzip(path: string): AsyncGenerator<Uint8Array, void, undefined> {
  const { size } = await stat(path)
  if (size === 0) throw new Torn('the gzip file is empty')
  const unpacked = unpack(path, constants.Z_FINISH)
  let bytes = 0
  const count = (chunk: Uint8Array): Uint8Array => {
    bytes += chunk.length
    return chunk
  }
  try {
    for await (const chunk of unpacked as AsyncIterable<Uint8Array>) yield count(chunk)
    await checkPadding(path, unpacked, size)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (!(error instanceof Error && code.startsWith('Z_'))) throw error
    // What was unpacked before the break is still in the stream's buffer.
    for (let rest = readRest(unpacked); rest !== null; rest = readRest(unpacked)) yield count(rest)
    if (code === 'Z_BUF_ERROR') yield* unpackedFrom(path, bytes)
    throw new Torn(`its gzip data break off or are corrupt near byte ${unpacked.bytesWritten} of ${size} (${error.message})`, {
      cause: error,
    })
  } finally {
    unpacked.destroy()
  }
}

const unpack = (path: string, finishFlush: number): Gunzip => {
  const file = createReadStream(path)
  const unpacked = createGunzip({ chunkSize: 64 << 10, finishFlush })
  file.on('error', (error) => unpacked.destroy(error))
  unpacked.on('close', () => file.destroy())
  return file.pipe(unpacked)
}

/**
 * What data that break off still hold beyond `bytes`: zlib keeps back the last call's output when it finds no end, and
 * gives it out only where it is told not to expect one.
 */
async function* unpackedFrom(path: string, bytes: number): AsyncGenerator<Uint8Array, void, undefined> {
  let skip = bytes
  for await (const chunk of unpack(path, constants.Z_SYNC_FLUSH) as AsyncIterable<Uint8Array>) {
    if (chunk.length > skip) yield chunk.subarray(skip)
    skip = Math.max(0, skip - chunk.length)
  }
}

const readRest = (unpacked: Gunzip): Uint8Array | null => unpacked.read() as Uint8Array | null

const checkPadding = async (path: string, { bytesWritten }: Gunzip, size: number): Promise<void> => {
  if (bytesWritten >= size) return
  await using file = await open(path)
  for await (const chunk of file.createReadStream({ start: bytesWritten }) as AsyncIterable<Uint8Array>)
    if (chunk.some((byte) => byte !== 0))
      throw new Torn(`its gzip data end at byte ${bytesWritten} of ${size}, and what follows is not gzip`)
}
