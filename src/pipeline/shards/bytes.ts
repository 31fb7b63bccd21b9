/** @file A file's bytes, unpacked, in chunks of at most some 128 KiB, read only as they are taken. */
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { createGunzip, type Gunzip } from 'node:zlib'
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

/** Concatenated members follow each other; zero bytes after the last are padding, others are torn. */
async function* gunzip(path: string): AsyncGenerator<Uint8Array, void, undefined> {
  const { size } = await stat(path)
  if (size === 0) throw new Torn('the gzip file is empty')
  const file = createReadStream(path)
  const unpacked = createGunzip({ chunkSize: 64 << 10 })
  file.on('error', (error) => unpacked.destroy(error))
  file.pipe(unpacked)
  try {
    yield* unpacked.iterator({ destroyOnReturn: true }) as AsyncIterable<Uint8Array>
    await checkPadding(path, unpacked, size)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))) throw error
    // What was unpacked before the break is still in the stream's buffer.
    for (let rest = readRest(unpacked); rest !== null; rest = readRest(unpacked)) yield rest
    throw new Torn(`its gzip data break off or are corrupt near byte ${unpacked.bytesWritten} of ${size} (${error.message})`, {
      cause: error,
    })
  } finally {
    file.destroy()
    unpacked.destroy()
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
