/** @file Fetching one partition at an explicit offset: Fetch of version 11 (KIP-392), its answer read batch by batch. */
import { KafkaFault, type FetchBounds, type Fetched } from '../client.js'
import type { KafkajsOptions } from './connect.js'
import { connect } from './connect.js'
import { newEncoder, type Cluster, type WireRequest } from './internals.js'
import { errorAbout } from './faults.js'
import { again, leaderOf } from './leaders.js'
import { readBatches, type Aborted } from './record-batch.js'

interface Answer {
  readonly errorCode: number
  readonly stableEnd: number
  readonly logStart: number
  readonly aborted: readonly Aborted[]
  readonly set: Buffer
}

const apiVersion = 11
const readCommitted = 1
const outOfRange = 1

/** The answer for one partition: see the protocol guide, FetchResponse version 11. */
const decodeAnswer = (payload: Buffer): Answer => {
  const none = { stableEnd: -1, logStart: -1, aborted: [], set: Buffer.alloc(0) }
  let at = 4 // throttle time: the broker has waited already
  const topLevel = payload.readInt16BE(at)
  at += 2 + 4
  const topics = payload.readInt32BE(at)
  at += 4
  if (topLevel !== 0 || topics === 0) return { errorCode: topLevel, ...none }
  at += 2 + payload.readInt16BE(at) + 4 + 4 // name, number of partitions, partition
  const errorCode = payload.readInt16BE(at)
  const stableEnd = Number(payload.readBigInt64BE(at + 2 + 8))
  const logStart = Number(payload.readBigInt64BE(at + 2 + 16))
  at += 2 + 24
  const count = payload.readInt32BE(at)
  at += 4
  const aborted: Aborted[] = []
  for (let i = 0; i < count; i++, at += 16)
    aborted.push({ producerId: payload.readBigInt64BE(at), firstOffset: Number(payload.readBigInt64BE(at + 8)) })
  at += 4 // preferred replica
  const length = payload.readInt32BE(at)
  at += 4
  return { errorCode, stableEnd, logStart, aborted, set: length <= 0 ? Buffer.alloc(0) : payload.subarray(at, at + length) }
}

const fetchRequest = (
  topic: string, partition: number, offset: number, { bytesMax, waitMsMax }: FetchBounds, requestMs: number,
): WireRequest<Answer> => ({
  request: {
    apiKey: 1, apiVersion, apiName: 'Fetch',
    encode: async () => newEncoder()
      .writeInt32(-1).writeInt32(waitMsMax).writeInt32(1).writeInt32(bytesMax).writeInt8(readCommitted)
      .writeInt32(0).writeInt32(-1) // no session
      .writeArray([newEncoder().writeString(topic).writeArray([
        newEncoder().writeInt32(partition).writeInt32(-1).writeInt64(offset).writeInt64(-1).writeInt32(bytesMax),
      ])])
      .writeArray([]).writeString(''),
  },
  response: { decode: async (payload) => decodeAnswer(payload), parse: async (answer) => answer },
  requestTimeout: waitMsMax + requestMs,
})

/** So many fetches wait at once; a broker answers the requests of one connection one after another. */
const connectionsMax = 16

export interface Fetcher extends AsyncDisposable {
  fetch(topic: string, partition: number, offset: number, bounds: FetchBounds): Promise<Fetched>
}

/** Fetches over a few connections of its own, each with one request at a time. */
export const fetcherOf = (options: KafkajsOptions, requestMs: number): Fetcher => {
  const idle: Cluster[] = []
  const all = new Set<Cluster>()
  const waiting: ((cluster: Cluster) => void)[] = []
  let closed = false

  const take = async (): Promise<Cluster> => {
    const cluster = idle.pop()
    if (cluster !== undefined) return cluster
    if (all.size >= connectionsMax) return new Promise((resolve) => waiting.push(resolve))
    const made = connect(options)
    all.add(made)
    return made
  }
  const give = (cluster: Cluster): void => {
    const next = waiting.shift()
    if (next === undefined) idle.push(cluster)
    else next(cluster)
  }

  /** @throws KafkaFault `out-of-range` behind the end */
  const once = async (cluster: Cluster, topic: string, partition: number, offset: number, bounds: FetchBounds): Promise<Fetched> => {
    const ask = async (from: number): Promise<Answer> => {
      const broker = await leaderOf(cluster, topic, partition)
      const versions = broker.versions?.[1]
      if (versions === undefined || versions.minVersion > apiVersion || versions.maxVersion < apiVersion)
        throw new KafkaFault('unsupported-version', `the broker takes no fetch of version ${apiVersion} (Kafka 2.3 and later do)`)
      return broker.connectionPool.send(fetchRequest(topic, partition, from, bounds, requestMs))
    }
    let from = offset
    let answer = await ask(from)
    if (answer.errorCode === outOfRange) {
      const start = await startOf(cluster, topic, partition)
      if (from >= start) throw new KafkaFault('out-of-range', `partition ${partition} of topic "${topic}" ends before offset ${offset}`, { resource: topic })
      from = start
      answer = await ask(from)
    }
    if (answer.errorCode !== 0) throw errorAbout(topic, answer.errorCode)
    return { ...readBatches(answer.set, from, answer.aborted), stableEnd: answer.stableEnd }
  }

  return {
    fetch: async (topic, partition, offset, bounds) => {
      if (closed) throw new KafkaFault('closed', 'this client is closed')
      const cluster = await take()
      try {
        return await again(cluster, topic, () => once(cluster, topic, partition, offset, bounds))
      } finally {
        give(cluster)
      }
    },
    [Symbol.asyncDispose]: async () => {
      closed = true
      await Promise.all([...all].map((cluster) => cluster.disconnect().catch(() => {})))
    },
  }
}

const startOf = async (cluster: Cluster, topic: string, partition: number): Promise<number> => {
  const broker = await leaderOf(cluster, topic, partition)
  const { responses } = await broker.listOffsets({
    replicaId: -1, isolationLevel: readCommitted, topics: [{ topic, partitions: [{ partition, timestamp: -2 }] }],
  })
  return Number(responses[0]?.partitions[0]?.offset ?? 0)
}
