/**
 * @file Produce of version 7 (KIP-98): record batches of one transaction to one leader. Written here because kafkajs makes
 * several buffers of half a kilobyte for each record; this is one buffer a batch.
 */
import type { ProducerRecord } from '../client.js'
import { sizeOf } from '../sends.js'
import { crc32c } from './crc32c.js'
import { errorAbout } from './faults.js'
import { newEncoder, type Broker, type Encoder, type WireRequest } from './internals.js'

/** Records of one partition, and the sequence number of the first. */
export interface PartitionBatch {
  readonly topic: string
  readonly partition: number
  readonly firstSequence: number
  readonly records: readonly ProducerRecord[]
}

export interface ProducerIdentity {
  readonly transactionalId: string
  readonly producerId: string
  readonly producerEpoch: number
}

interface Answer {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  readonly baseOffset: number
}

const apiVersion = 7
const acksOfAll = -1
const headBytes = 61
const transactional = 16

/** A number as a zigzag varint of up to 10 bytes. @returns where it ends */
const writeVarint = (target: Buffer, start: number, value: number): number => {
  let at = start
  let rest = value < 0 ? -2 * value - 1 : 2 * value
  for (; rest >= 128; rest = Math.floor(rest / 128)) target[at++] = (rest % 128) | 128
  target[at++] = rest
  return at
}
const varintBytes = (value: number): number => {
  let bytes = 1
  for (let rest = value < 0 ? -2 * value - 1 : 2 * value; rest >= 128; rest = Math.floor(rest / 128)) bytes++
  return bytes
}

/** One batch of a transaction, uncompressed; its layout stands in record-batch.ts. */
export const batchOf = (records: readonly ProducerRecord[], { producerId, producerEpoch }: ProducerIdentity, firstSequence: number): Buffer => {
  const batch = Buffer.allocUnsafe(records.reduce((bytes, record) => bytes + sizeOf(record), headBytes))
  const baseTimestamp = records[0].timestampMs
  let maxTimestamp = baseTimestamp
  let at = headBytes
  for (const [i, { key, value, timestampMs }] of records.entries()) {
    if (timestampMs > maxTimestamp) maxTimestamp = timestampMs
    const keyBytes = Buffer.byteLength(key)
    const valueBytes = value === null ? -1 : value.length
    const delta = timestampMs - baseTimestamp
    at = writeVarint(batch, at, 2 + varintBytes(delta) + varintBytes(i) + varintBytes(keyBytes) + keyBytes + varintBytes(valueBytes) + Math.max(0, valueBytes))
    batch[at++] = 0 // attributes, unused
    at = writeVarint(batch, at, delta)
    at = writeVarint(batch, at, i)
    at = writeVarint(batch, at, keyBytes)
    at += batch.write(key, at, keyBytes, 'utf8')
    at = writeVarint(batch, at, valueBytes)
    if (value !== null) at += value.copy(batch, at)
    batch[at++] = 0 // no headers
  }
  batch.writeBigInt64BE(0n, 0) // the broker says where
  batch.writeInt32BE(at - 12, 8)
  batch.writeInt32BE(-1, 12) // the leader's epoch, set by the broker
  batch[16] = 2
  batch.writeInt16BE(transactional, 21)
  batch.writeInt32BE(records.length - 1, 23)
  batch.writeBigInt64BE(BigInt(baseTimestamp), 27)
  batch.writeBigInt64BE(BigInt(maxTimestamp), 35)
  batch.writeBigInt64BE(BigInt(producerId), 43)
  batch.writeInt16BE(producerEpoch, 51)
  batch.writeInt32BE(firstSequence, 53)
  batch.writeInt32BE(records.length, 57)
  batch.writeUInt32BE(crc32c(batch.subarray(21, at)), 17)
  return batch.subarray(0, at)
}

/** ProduceResponse version 7, see the protocol guide. */
const decodeAnswer = (payload: Buffer): readonly Answer[] => {
  const answers: Answer[] = []
  let at = 4
  for (let topics = payload.readInt32BE(0); topics > 0; topics--) {
    const nameEnd = at + 2 + payload.readInt16BE(at)
    const topic = payload.toString('utf8', at + 2, nameEnd)
    at = nameEnd + 4
    for (let partitions = payload.readInt32BE(nameEnd); partitions > 0; partitions--, at += 30)
      answers.push({
        topic, partition: payload.readInt32BE(at), errorCode: payload.readInt16BE(at + 4), baseOffset: Number(payload.readBigInt64BE(at + 6)),
      })
  }
  return answers
}

const requestOf = (batches: readonly PartitionBatch[], identity: ProducerIdentity, timeoutMs: number): WireRequest<readonly Answer[]> => ({
  request: {
    apiKey: 0, apiVersion, apiName: 'Produce',
    encode: async () => {
      const byTopic = new Map<string, Encoder[]>()
      for (const { topic, partition, firstSequence, records } of batches) {
        const encoded = newEncoder().writeInt32(partition).writeBytes(batchOf(records, identity, firstSequence))
        const list = byTopic.get(topic)
        if (list === undefined) byTopic.set(topic, [encoded])
        else list.push(encoded)
      }
      return newEncoder().writeString(identity.transactionalId).writeInt16(acksOfAll).writeInt32(timeoutMs)
        .writeArray([...byTopic].map(([topic, partitions]) => newEncoder().writeString(topic).writeArray(partitions)))
    },
  },
  response: {
    decode: async (payload) => decodeAnswer(payload),
    parse: async (answers) => {
      const refused = answers.find(({ errorCode }) => errorCode !== 0)
      if (refused !== undefined) throw errorAbout(refused.topic, refused.errorCode)
      return answers
    },
  },
})

/** Sends once; resolves to the offset of each batch's first record. @throws kafkajs's errors */
export const produce = async (
  leader: Broker, batches: readonly PartitionBatch[], identity: ProducerIdentity, timeoutMs: number,
): Promise<readonly { readonly topic: string; readonly partition: number; readonly baseOffset: number }[]> =>
  leader.connectionPool.send(requestOf(batches, identity, timeoutMs))
