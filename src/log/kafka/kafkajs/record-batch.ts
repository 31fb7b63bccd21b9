/**
 * @file Record batches (the format's version 2, KIP-98) as a broker answers a fetch, read with the isolation
 * read_committed. Not kafkajs's decoder: that one hides where batches end, so that offsets behind control batches,
 * aborted and compacted records are lost, and its filter takes the aborted transactions in the broker's order instead
 * of that of their offsets, so that aborted records leak where several transactional producers share a partition.
 *
 *     baseOffset i64 | length i32 | leaderEpoch i32 | magic i8 | crc u32 | attributes i16 | lastOffsetDelta i32 |
 *     baseTimestamp i64 | maxTimestamp i64 | producerId i64 | producerEpoch i16 | baseSequence i32 | count i32 | records
 */
import { KafkaFault, type KafkaRecord } from '../client.js'
import { decompress } from './codecs.js'

/** A transaction that was aborted: the producer's records from this offset to its abort marker do not count. */
export interface Aborted {
  readonly producerId: bigint
  readonly firstOffset: number
}

const headBytes = 61
const lengthBytes = 12 // baseOffset and length itself
const flags = { codec: 7, appendTime: 8, transactional: 16, control: 32 } as const

/** Varints of the format: zigzag, at most 10 bytes; numbers stay exact below 2^53. */
class Reader {
  at = 0
  constructor(readonly bytes: Buffer) {}

  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 10; i++) {
      const byte = this.bytes[this.at++]
      value += (byte & 127) * scale
      if (byte < 128) return value % 2 === 0 ? value / 2 : -(value + 1) / 2
      scale *= 128
    }
    throw new KafkaFault('unavailable', 'a record batch holds a number that does not end')
  }

  take(length: number): Buffer {
    if (length < 0 || this.at + length > this.bytes.length) throw new KafkaFault('unavailable', 'a record batch ends too soon')
    return this.bytes.subarray(this.at, (this.at += length))
  }
}

/**
 * @param set whole batches, the last one perhaps cut off
 * @param from the offset asked for: a batch may begin before it
 * @returns committed records in order, and the offset behind the last whole batch (`from` if there is none)
 * @throws KafkaFault `unsupported-codec`, `unsupported-version` for formats before Kafka 0.11
 */
export const readBatches = (
  set: Buffer,
  from: number,
  aborted: readonly Aborted[],
): { readonly records: KafkaRecord[]; readonly next: number } => {
  const coming = aborted.toSorted((a, b) => a.firstOffset - b.firstOffset)
  const dropping = new Set<bigint>()
  const records: KafkaRecord[] = []
  let next = from
  let begun = 0
  for (let at = 0; at + lengthBytes + 5 <= set.length; ) {
    const end = at + lengthBytes + set.readInt32BE(at + 8)
    if (end > set.length) break
    const magic = set.readInt8(at + 16)
    if (magic !== 2)
      throw new KafkaFault('unsupported-version', `records of format ${magic}, as brokers before Kafka 0.11 wrote them`)
    const batch = set.subarray(at, end)
    at = end
    const baseOffset = Number(batch.readBigInt64BE(0))
    const attributes = batch.readInt16BE(21)
    const lastOffset = baseOffset + batch.readInt32BE(23)
    const producerId = batch.readBigInt64BE(43)
    next = Math.max(next, lastOffset + 1)
    while (begun < coming.length && coming[begun].firstOffset <= lastOffset) dropping.add(coming[begun++].producerId)
    if ((attributes & flags.control) !== 0) {
      if (isAbort(batch)) dropping.delete(producerId)
      continue
    }
    if ((attributes & flags.transactional) !== 0 && dropping.has(producerId)) continue
    if (lastOffset >= from) readRecords(batch, { baseOffset, attributes, from }, records)
  }
  return { records, next }
}

/** A control record's key: version i16, type i16 (0 abort, 1 commit). */
const isAbort = (batch: Buffer): boolean => {
  if (batch.readInt32BE(57) === 0) return false // compaction emptied it
  const reader = new Reader(batch.subarray(headBytes))
  reader.varint()
  reader.at++
  reader.varint()
  reader.varint()
  return reader.take(reader.varint()).readInt16BE(2) === 0
}

const readRecords = (
  batch: Buffer,
  { baseOffset, attributes, from }: { baseOffset: number; attributes: number; from: number },
  out: KafkaRecord[],
): void => {
  const baseTimestamp = Number(batch.readBigInt64BE(27))
  const maxTimestamp = Number(batch.readBigInt64BE(35))
  const count = batch.readInt32BE(57)
  const reader = new Reader(decompress(attributes & flags.codec, batch.subarray(headBytes)))
  for (let i = 0; i < count; i++) {
    const length = reader.varint()
    const end = reader.at + length
    reader.at++ // attributes, unused
    const timestampMs = baseTimestamp + reader.varint()
    const offset = baseOffset + reader.varint()
    if (offset >= from) {
      const keyLength = reader.varint()
      const key = keyLength < 0 ? '' : reader.take(keyLength).toString('utf8')
      const valueLength = reader.varint()
      const value = valueLength < 0 ? null : reader.take(valueLength)
      out.push({ offset, timestampMs: (attributes & flags.appendTime) !== 0 ? maxTimestamp : timestampMs, key, value })
    }
    reader.at = end // past the headers
  }
}
