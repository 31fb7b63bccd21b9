/**
 * @file What record batches may be compressed with: gzip, snappy (the framing of snappy-java), lz4 (frames) and zstd, so
 * that topics of other producers can be read. What tributary writes is not compressed by the client; a topic's
 * compression.type lets the broker do it.
 */
import { gunzipSync } from 'node:zlib'
import { decompress as unzstd } from 'fzstd'
import { decompressLz4Raw, decompressSnappy } from 'hyparquet-compressors'
import { KafkaFault } from '../client.js'

/** A batch is not longer than this when it is taken apart: what claims more is broken or hostile. */
const bytesMax = 256 << 20

/** The block's uncompressed length: the varint that a snappy block begins with. */
const snappyLength = (block: Buffer): number => {
  let length = 0
  for (let i = 0; i < 5; i++) {
    length += (block[i] & 127) * 2 ** (7 * i)
    if (block[i] < 128) break
  }
  if (!(length <= bytesMax)) throw new Error(`a block claims ${length} bytes`)
  return length
}

const unsnappyBlock = (block: Buffer): Uint8Array => decompressSnappy(block, snappyLength(block))

const xerialMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])

/** snappy-java: magic, version i32, compatible i32, then blocks of length i32 each; else one bare block. */
const unsnappy = (bytes: Buffer): Buffer => {
  if (!bytes.subarray(0, 8).equals(xerialMagic)) return Buffer.from(unsnappyBlock(bytes))
  const blocks: Uint8Array[] = []
  for (let at = 16; at < bytes.length; ) {
    const length = bytes.readInt32BE(at)
    blocks.push(unsnappyBlock(bytes.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return Buffer.concat(blocks)
}

const lz4Magic = 0x184d2204

/** One LZ4 frame (github.com/lz4/lz4, doc/lz4_Frame_format.md) of independent blocks, as Kafka's clients write it. */
const unlz4 = (bytes: Buffer): Buffer => {
  if (bytes.readUInt32LE(0) !== lz4Magic) throw new Error('no LZ4 frame')
  const descriptor = bytes[4]
  if ((descriptor & 0x20) === 0) throw new Error('its blocks depend on each other')
  const blockBytesMax = 2 ** (8 + 2 * ((bytes[5] >> 4) & 7))
  const checksums = (descriptor & 0x10) !== 0 ? 4 : 0
  let at = 7 + ((descriptor & 8) !== 0 ? 8 : 0) + ((descriptor & 1) !== 0 ? 4 : 0)
  const blocks: Uint8Array[] = []
  for (;;) {
    const word = bytes.readUInt32LE(at)
    at += 4
    if (word === 0) return Buffer.concat(blocks)
    const length = word & 0x7fffffff
    const block = bytes.subarray(at, at + length)
    blocks.push(word >>> 31 === 1 ? block : unlz4Block(block, blockBytesMax))
    at += length + checksums
  }
}

/** A block does not say how long it becomes: walked once for its length, then taken apart. */
const unlz4Block = (block: Buffer, blockBytesMax: number): Uint8Array => {
  const more = (from: number, nibble: number): { length: number; at: number } => {
    let length = nibble
    let at = from
    if (nibble === 15) for (let byte = 255; byte === 255; length += byte) byte = block[at++]
    return { length, at }
  }
  let total = 0
  for (let at = 0; at < block.length; ) {
    const token = block[at++]
    const literals = more(at, token >> 4)
    total += literals.length
    at = literals.at + literals.length
    if (at >= block.length) break
    const match = more(at + 2, token & 15)
    total += match.length + 4
    at = match.at
    if (total > blockBytesMax) throw new Error('a block is longer than its frame says')
  }
  return decompressLz4Raw(block, total)
}

const codecs: Readonly<Record<number, { readonly name: string; readonly open: (bytes: Buffer) => Buffer }>> = {
  0: { name: 'none', open: (bytes) => bytes },
  1: { name: 'gzip', open: (bytes) => gunzipSync(bytes, { maxOutputLength: bytesMax }) },
  2: { name: 'snappy', open: unsnappy },
  3: { name: 'lz4', open: unlz4 },
  4: { name: 'zstd', open: (bytes) => Buffer.from(unzstd(bytes)) },
}

/** @throws KafkaFault `unsupported-codec` for a codec that is not known, or bytes that are not of it */
export const decompress = (codec: number, bytes: Buffer): Buffer => {
  if (!Object.hasOwn(codecs, codec)) throw new KafkaFault('unsupported-codec', `records are compressed with a codec of number ${codec}`)
  const { name, open } = codecs[codec]
  try {
    return open(bytes)
  } catch (cause) {
    throw new KafkaFault('unsupported-codec', `records compressed with ${name} cannot be read: ${(cause as Error).message}`, { cause })
  }
}
