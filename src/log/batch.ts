/**
 * @file How records lie in a batch, one LMDB entry of up to about 1 MiB:
 *
 *     0   u8        layout, 1
 *     1   u8 [3]    zero
 *     4   u32       count
 *     8   f64       when it was appended, ms since the epoch
 *     16  u32       checksum of all the rest
 *     20  u32 [count]  where each record ends, counted from the first record's start
 *     ..  records   u32 length of the key | key, UTF-8 | value, Avro single-object
 *
 * All little-endian. An entry a record would cost a B-tree insertion and, above 2 KiB, half an unused page each.
 */
import { createHash } from 'node:crypto'
import { DeadLetterError } from '../base/index.js'
import type { ValueCodec } from './codec.js'

/** A batch is closed before it outgrows this; one record alone may be longer. A page less than 1 MiB: LMDB rounds up. */
export const BATCH_BYTES_MAX = (1 << 20) - 4096
/** One value's bound, encoded. Longer ones are refused before anything is written. */
export const VALUE_BYTES_MAX = 16 << 20
/** One key's bound in UTF-8; LMDB takes 1,978 with what the log adds. */
export const KEY_BYTES_MAX = 1024

const LAYOUT = 1
const FIXED_BYTES = 20

/** A record was refused before anything of its call was written; `index` is its place in the call. */
export class RecordRefused extends DeadLetterError {
  readonly index: number
  constructor(index: number, message: string, options: { cause?: unknown } = {}) {
    super('ingest', message, options)
    this.index = index
  }
}

/** The memory of the encoder before, kept up to a bound: filling fresh pages costs more than writing them. */
const SPARE_BYTES_MAX = 8 << 20
let spare: Buffer | undefined

/** Encoded records, one behind the other in memory that grows: record i fills [starts[i], ends[i]). */
export class Encoder {
  bytes = spare ?? Buffer.allocUnsafe(1 << 16)
  readonly starts: number[] = []
  readonly ends: number[] = []
  /** Length of each record's key in bytes. */
  readonly keys: number[] = []

  constructor() {
    spare = undefined
  }

  /** Leaves the memory to the next encoder; this one is of no more use. */
  recycle(): void {
    if (this.bytes.length <= SPARE_BYTES_MAX) spare = this.bytes
    this.bytes = Buffer.alloc(0)
  }

  /** Adds one; a null value leaves the key alone. Throws RecordRefused if a bound is passed or the schema not met. */
  add(topic: string, key: string, value: object | null, codec: ValueCodec): void {
    const index = this.starts.length
    const start = this.ends.at(-1) ?? 0
    const keyBytes = Buffer.byteLength(key)
    if (keyBytes > KEY_BYTES_MAX)
      throw new RecordRefused(index, `the key of a record for "${topic}" has ${keyBytes} bytes, at most ` +
        `${KEY_BYTES_MAX} are possible; it begins with "${key.slice(0, 60)}"`)
    this.#reserve(start + 4 + keyBytes + codec.headBytes + 256)
    this.bytes.writeUInt32LE(keyBytes, start)
    this.bytes.write(key, start + 4)
    let end = start + 4 + keyBytes
    if (value !== null) end = this.#value(topic, key, value, codec, end)
    this.starts.push(start)
    this.ends.push(end)
    this.keys.push(keyBytes)
  }

  #value(topic: string, key: string, value: object, codec: ValueCodec, start: number): number {
    const where = `record "${key.slice(0, 200).replaceAll('\u001f', '/')}" for topic "${topic}"`
    for (;;) {
      let end: number
      try {
        end = codec.encode(value, this.bytes, start)
      } catch (cause) {
        throw new RecordRefused(this.starts.length, `${where} does not fit the schema: ${messageOf(cause)}`, { cause })
      }
      const long = end < 0 ? this.bytes.length - start - end : end - start
      if (long > VALUE_BYTES_MAX)
        throw new RecordRefused(this.starts.length, `${where} has ${long} bytes, at most ${VALUE_BYTES_MAX} are possible`)
      if (end >= 0) return end
      this.#reserve(start + long)
    }
  }

  #reserve(length: number): void {
    if (length <= this.bytes.length) return
    const wider = Buffer.allocUnsafe(Math.max(length, 2 * this.bytes.length))
    this.bytes.copy(wider)
    this.bytes = wider
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Cuts records (places in the encoder, in order) into batches. Returns each batch's bytes and count. */
export const batchesOf = (
  encoder: Encoder,
  places: readonly number[],
  timestampMs: number,
): readonly { readonly bytes: Buffer; readonly count: number }[] => {
  const batches: { bytes: Buffer; count: number }[] = []
  for (let from = 0; from < places.length; ) {
    let to = from
    let length = FIXED_BYTES
    for (; to < places.length; to++) {
      const more = 4 + encoder.ends[places[to]] - encoder.starts[places[to]]
      if (to > from && length + more > BATCH_BYTES_MAX) break
      length += more
    }
    batches.push({ bytes: assemble(encoder, places, from, to, length, timestampMs), count: to - from })
    from = to
  }
  return batches
}

const assemble = (
  encoder: Encoder,
  places: readonly number[],
  from: number,
  to: number,
  length: number,
  timestampMs: number,
): Buffer => {
  const bytes = Buffer.allocUnsafe(length)
  const records = FIXED_BYTES + 4 * (to - from)
  let at = records
  for (let i = from; i < to; i++) {
    at += encoder.bytes.copy(bytes, at, encoder.starts[places[i]], encoder.ends[places[i]])
    bytes.writeUInt32LE(at - records, FIXED_BYTES + 4 * (i - from))
  }
  bytes.writeUInt32LE(LAYOUT, 0)
  bytes.writeUInt32LE(to - from, 4)
  bytes.writeDoubleLE(timestampMs, 8)
  bytes.writeUInt32LE(checksumOf(bytes), 16)
  return bytes
}

const checksumOf = (batch: Buffer): number => checksum(batch.subarray(0, 16), batch.subarray(FIXED_BYTES))

/** A batch as it was read, or a problem that all its records share. */
export interface Batch {
  readonly bytes: Buffer
  readonly base: number
  readonly count: number
  readonly timestampMs: number
  readonly problem: string | undefined
}

/**
 * @param base the offset of its first record
 * @throws Error if not even the count can be read: then the log cannot tell one offset from the next
 */
export const openBatch = (bytes: Buffer, base: number): Batch => {
  if (bytes.length < FIXED_BYTES || bytes[0] !== LAYOUT) throw new Error(`no record batch of layout ${LAYOUT}`)
  const count = bytes.readUInt32LE(4)
  if (count === 0 || FIXED_BYTES + 4 * count > bytes.length) throw new Error(`a batch of ${count} records is cut short`)
  const sound = checksumOf(bytes) === bytes.readUInt32LE(16)
  return {
    bytes,
    base,
    count,
    timestampMs: bytes.readDoubleLE(8),
    problem: sound ? undefined : 'the checksum of its batch is wrong: the bytes changed after they were written',
  }
}

/** Where record i of a sound batch lies: its key fills [start + 4, value), its value [value, end). */
export const placeIn = ({ bytes, count }: Batch, i: number): { start: number; value: number; end: number } => {
  const records = FIXED_BYTES + 4 * count
  const start = i === 0 ? records : records + bytes.readUInt32LE(FIXED_BYTES + 4 * (i - 1))
  return { start, value: start + 4 + bytes.readUInt32LE(start), end: records + bytes.readUInt32LE(FIXED_BYTES + 4 * i) }
}

/**
 * The first four bytes of SHA-1 over the parts, unsigned: the quickest native digest of Node 20 (1,156 MB/s on the
 * machine where a CRC-32 in JavaScript made 297; zlib.crc32 came with Node 22.2). Against decay, not against malice.
 */
export const checksum = (...parts: readonly Uint8Array[]): number => {
  const hash = createHash('sha1')
  for (const part of parts) hash.update(part)
  return hash.digest().readUInt32LE(0)
}
