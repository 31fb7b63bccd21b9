/**
 * @file Zstandard (RFC 8878) as a stream. fzstd unpacks the blocks; frames are cut here, because it neither bounds
 * the window, nor checks the checksum, nor hands out what a block at a time holds: 4 bytes of a repeated byte may
 * unpack to 128 KiB, so a chunk of them would be gigabytes at once.
 */
import { Decompress } from 'fzstd'
import { Torn } from './types.js'
import { Xxh64 } from './xxh64.js'

/** The window that a decoder must support at most by default (`zstd --long=27`). */
const windowBytesMax = 2 ** 27
const blockBytesMax = 2 ** 17

/** Chunks of .zst → chunks of what it holds, at most a block each. Several frames and skippable ones are followed. */
export async function* unzstd(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const input = new Input(chunks)
  let frames = 0
  for (; !(await input.isAtEnd()); frames++) {
    const magic = u32(await input.take(4, 'a frame header'))
    if (magic >>> 4 === 0x184d2a5) await input.skip(u32(await input.take(4, 'a skippable frame')))
    else if (magic === 0xfd2fb528) yield* frame(input)
    else throw input.torn(frames === 0 ? 'it is not zstd' : 'what follows a frame is not zstd')
  }
  if (frames === 0) throw input.torn('the file is empty')
}

async function* frame(input: Input): AsyncGenerator<Uint8Array, void, undefined> {
  const { header, hasChecksum, contentBytes } = await takeHeader(input)
  let unpacked: Uint8Array[] = []
  const decompress = new Decompress((data) => {
    if (data.length > 0) unpacked.push(data)
  })
  const hash = new Xxh64()
  let bytes = 0
  decompress.push(header)
  for (let isLast = false; !isLast; ) {
    const head = await input.take(3, 'a block header')
    const bits = head[0] | (head[1] << 8) | (head[2] << 16)
    isLast = (bits & 1) === 1
    const [kind, size] = [(bits >> 1) & 3, bits >> 3]
    if (kind === 3 || size > blockBytesMax) throw input.torn('a block header makes no sense')
    const body = await input.take(kind === 1 ? 1 : size, 'a block')
    try {
      decompress.push(Buffer.concat([head, body]), isLast)
    } catch (error) {
      throw input.torn(`a block is corrupt (${error instanceof Error ? error.message : error})`)
    }
    for (const data of unpacked) {
      bytes += data.length
      hash.update(data)
      yield data
    }
    unpacked = []
  }
  if (contentBytes !== undefined && bytes !== contentBytes)
    throw input.torn(`a frame holds ${bytes} bytes where its header says ${contentBytes}`)
  if (hasChecksum && u32(await input.take(4, 'a checksum')) !== hash.low32()) throw input.torn('a checksum does not match')
}

/** The frame header after its magic number: as it is given to fzstd, magic and all, without the checksum's flag. */
const takeHeader = async (
  input: Input,
): Promise<{ header: Uint8Array; hasChecksum: boolean; contentBytes: number | undefined }> => {
  const [flags] = await input.take(1, 'a frame header')
  const isSingle = (flags & 0x20) !== 0
  const dictionaryBytes = [0, 1, 2, 4][flags & 3]
  const sizeFlag = flags >> 6
  const sizeBytes = sizeFlag === 0 ? (isSingle ? 1 : 0) : 1 << sizeFlag
  const rest = await input.take((isSingle ? 0 : 1) + dictionaryBytes + sizeBytes, 'a frame header')
  if ((flags & 0x08) !== 0) throw input.torn('a frame header has its reserved bit set')
  const sizeAt = rest.length - sizeBytes
  const dictionary = rest.subarray(sizeAt - dictionaryBytes, sizeAt)
  if (dictionary.some((byte) => byte !== 0)) throw input.torn('a frame was packed with a dictionary: pack it without one')
  let contentBytes: number | undefined
  if (sizeBytes > 0) {
    contentBytes = sizeFlag === 1 ? 256 : 0
    for (let at = 0; at < sizeBytes; at++) contentBytes += rest[sizeAt + at] * 2 ** (8 * at)
  }
  const windowBytes = isSingle ? (contentBytes ?? 0) : 2 ** (10 + (rest[0] >> 3)) * (1 + (rest[0] & 7) / 8)
  if (windowBytes > windowBytesMax)
    throw input.torn(`a frame wants a window of ${windowBytes} bytes, over the bound of ${windowBytesMax}: pack it without --long`)
  const header = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, flags & ~0x04, ...rest)
  return { header, hasChecksum: (flags & 0x04) !== 0, contentBytes }
}

const u32 = (b: Uint8Array): number => (b[0] | (b[1] << 8) | (b[2] << 16) | (b[3] << 24)) >>> 0

/** Bytes taken in pieces of known size, with the place for errors. */
class Input {
  readonly #chunks: AsyncIterator<Uint8Array>
  #chunk: Uint8Array = new Uint8Array(0)
  #at = 0

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const { value, done } = await this.#chunks.next()
      if (done === true) return true
      this.#chunk = value
    }
    return false
  }

  async take(bytes: number, what: string): Promise<Uint8Array> {
    if (this.#chunk.length >= bytes) return this.#cut(bytes)
    const parts: Uint8Array[] = []
    for (let missing = bytes; missing > 0; ) {
      if (await this.isAtEnd()) throw this.torn(`it breaks off within ${what}`)
      const part = this.#cut(missing)
      parts.push(part)
      missing -= part.length
    }
    return Buffer.concat(parts)
  }

  async skip(bytes: number): Promise<void> {
    for (let missing = bytes; missing > 0; ) {
      if (await this.isAtEnd()) throw this.torn('it breaks off within a skippable frame')
      missing -= this.#cut(missing).length
    }
  }

  torn(reason: string): Torn {
    return new Torn(`its zstd data: ${reason}, at byte ${this.#at}`)
  }

  #cut(bytes: number): Uint8Array {
    const part = this.#chunk.subarray(0, bytes)
    this.#chunk = this.#chunk.subarray(bytes)
    this.#at += part.length
    return part
  }
}
