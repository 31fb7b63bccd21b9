/** @file How the records of a transaction are cut into sends: a broker takes about 1 MB a partition and send. */
import { RECORD_OVERHEAD_BYTES, SEND_BYTES_MAX, type ProducerRecord } from './client.js'

/** A send holds this many bytes over all partitions at most, so that one request stays small in memory too. */
export const REQUEST_BYTES_MAX = 8 << 20

/** What a record takes in a batch, bytes, at most. */
export const sizeOf = ({ key, value }: Pick<ProducerRecord, 'key' | 'value'>): number =>
  Buffer.byteLength(key) + (value?.length ?? 0) + RECORD_OVERHEAD_BYTES

/**
 * Records → sends, in order: within each, no partition has more than `SEND_BYTES_MAX` unless by a single record, and
 * all together no more than `REQUEST_BYTES_MAX`. A partition's records keep their order.
 */
export const sendsOf = (records: readonly ProducerRecord[]): readonly (readonly ProducerRecord[])[] => {
  const sends: ProducerRecord[][] = []
  let send: ProducerRecord[] = []
  let bytes = 0
  let perPartition = new Map<string, number>()
  for (const record of records) {
    const size = sizeOf(record)
    const at = `${record.topic} ${record.partition}`
    const there = perPartition.get(at) ?? 0
    if (send.length > 0 && ((there > 0 && there + size > SEND_BYTES_MAX) || bytes + size > REQUEST_BYTES_MAX)) {
      sends.push(send)
      send = []
      bytes = 0
      perPartition = new Map()
    }
    send.push(record)
    bytes += size
    perPartition.set(at, (perPartition.get(at) ?? 0) + size)
  }
  if (send.length > 0) sends.push(send)
  return sends
}
