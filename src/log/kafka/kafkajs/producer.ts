/**
 * @file A transactional producer (KIP-98), one short transaction at a time, on the requests themselves: kafkajs's own
 * stays in a half-ended state for ever after an error, lets sends slip past the transaction, and sleeps between them.
 * Nothing is sent twice here: after an error the outcome is unknown and the producer is done.
 */
import { KafkaFault, isFault, type GroupOffsets, type ProducerRecord, type TransactionalProducer, type Written } from '../client.js'
import { sendsOf } from '../sends.js'
import { connect, timingsOf, type KafkajsOptions } from './connect.js'
import { errorAbout, faultOf } from './faults.js'
import { addPartitionsToTxn, type Broker, type Cluster } from './internals.js'
import { again, judged, leaderOf, onCoordinator, type Coordinated } from './leaders.js'
import { produce, type PartitionBatch, type ProducerIdentity } from './produce.js'

/** The markers of the transaction before are still being written. */
const concurrent = ['CONCURRENT_TRANSACTIONS']
/** Another broker is the coordinator now, or this one does not know it yet: nothing was done. */
const moved = ['NOT_COORDINATOR_FOR_GROUP', 'GROUP_LOAD_IN_PROGRESS']
const refused = [...concurrent, ...moved]
/** OPERATION_NOT_ATTEMPTED: another partition of the request was refused. */
const notAttempted = 55

interface Part {
  readonly topic: string
  readonly partition: number
  readonly records: ProducerRecord[]
}

/** Records by where they go; those of a partition keep their order. */
const partsOf = (records: readonly ProducerRecord[]): readonly Part[] => {
  const parts = new Map<string, Part>()
  let last: Part | undefined
  for (const record of records) {
    const { topic, partition } = record
    // Neighbours mostly go to the same place.
    if (last === undefined || last.topic !== topic || last.partition !== partition) {
      const at = placeOf(topic, partition)
      last = parts.get(at) ?? { topic, partition, records: [] }
      parts.set(at, last)
    }
    last.records.push(record)
  }
  return [...parts.values()]
}

const placeOf = (topic: string, partition: number): string => `${topic} ${partition}`

/** One error of the answer, if there are any: that of the partition for which the others were not attempted. */
const added = ({ errors }: Awaited<ReturnType<typeof addPartitionsToTxn>>): void => {
  const refusals = errors.flatMap(({ topic, partitionErrors }) => partitionErrors.flatMap(({ errorCode }) => (errorCode === 0 ? [] : [{ topic, errorCode }])))
  const refusal = refusals.find(({ errorCode }) => errorCode !== notAttempted) ?? refusals[0]
  if (refusal !== undefined) throw errorAbout(refusal.topic, refusal.errorCode)
}

/** An error about a group says so; any other is about the other resource. */
const aboutEither = async (other: string, group: string, work: Promise<unknown>): Promise<void> => {
  try {
    await work
  } catch (error) {
    throw faultOf(error, /GROUP/.test(String((error as { type?: unknown }).type ?? '')) ? group : other)
  }
}

export const newProducer = async (options: KafkajsOptions, transactionalId: string): Promise<TransactionalProducer> => {
  const { requestMs, transactionMs } = timingsOf(options)
  const cluster = connect(options)
  const coordinated = onCoordinator(cluster, 'transaction', transactionalId, requestMs)
  try {
    const { producerId, producerEpoch } = await again(cluster, transactionalId, async () => {
      await cluster.connect()
      await cluster.refreshMetadata()
      return coordinated(concurrent, (broker) => broker.initProducerId({ transactionalId, transactionTimeout: transactionMs }))
    })
    return transactions(cluster, { transactionalId, producerId, producerEpoch }, coordinated, requestMs)
  } catch (error) {
    await cluster.disconnect().catch(() => {})
    throw error
  }
}

const transactions = (
  cluster: Cluster,
  identity: ProducerIdentity,
  coordinated: Coordinated,
  requestMs: number,
): TransactionalProducer => {
  const { transactionalId } = identity
  const sequences = new Map<string, number>()
  let group: { readonly id: string; readonly coordinated: Coordinated } | undefined
  let spent = false
  let busy = false

  const send = async (records: readonly ProducerRecord[], ends: Map<string, Written>): Promise<void> => {
    const perLeader = new Map<Broker, PartitionBatch[]>()
    for (const { topic, partition, records: own } of partsOf(records)) {
      const leader = await leaderOf(cluster, topic, partition)
      const batch = { topic, partition, records: own, firstSequence: sequences.get(placeOf(topic, partition)) ?? 0 }
      const batches = perLeader.get(leader)
      if (batches === undefined) perLeader.set(leader, [batch])
      else batches.push(batch)
    }
    await Promise.all([...perLeader].map(async ([leader, batches]) => {
      const bases = new Map((await produce(leader, batches, identity, requestMs)).map((answer) => [placeOf(answer.topic, answer.partition), answer.baseOffset]))
      for (const { topic, partition, firstSequence, records: own } of batches) {
        const at = placeOf(topic, partition)
        const base = bases.get(at)
        if (base === undefined) throw new KafkaFault('unavailable', `the answer to a send leaves out partition ${partition}`, { resource: topic })
        sequences.set(at, (firstSequence + own.length) % 2 ** 31)
        ends.set(at, { topic, partition, end: base + own.length })
      }
    }))
  }

  const write = async (records: readonly ProducerRecord[], offsets: GroupOffsets | undefined, ends: Map<string, Written>): Promise<void> => {
    if (records.length > 0) {
      const partitions = new Map<string, number[]>()
      for (const { topic, partition } of partsOf(records)) partitions.set(topic, [...(partitions.get(topic) ?? []), partition])
      const topics = [...partitions].map(([topic, own]) => ({ topic, partitions: own }))
      await coordinated(refused, async (broker) => added(await addPartitionsToTxn(broker, { ...identity, topics })))
      for (const part of sendsOf(records)) await send(part, ends)
    }
    if (offsets === undefined) return
    const { group: groupId, topic } = offsets
    await aboutEither(transactionalId, groupId, coordinated(refused, (broker) => broker.addOffsetsToTxn({ ...identity, groupId })))
    if (group?.id !== groupId) group = { id: groupId, coordinated: onCoordinator(cluster, 'group', groupId, requestMs) }
    const partitions = offsets.offsets.map(({ partition, offset }) => ({ partition, offset: String(offset), metadata: null }))
    // The same offsets twice are the same offsets; a cluster's first group waits for the topic that keeps them.
    await aboutEither(topic, groupId, group.coordinated([...moved, 'GROUP_COORDINATOR_NOT_AVAILABLE'], (broker) =>
      broker.txnOffsetCommit({ ...identity, groupId, topics: [{ topic, partitions }] })))
  }

  const end = async (commit: boolean): Promise<void> => {
    await coordinated([], (broker) => broker.endTxn({ ...identity, transactionResult: commit }))
  }

  const closed = async (): Promise<void> => {
    spent = true
    await cluster.disconnect().catch(() => {})
  }

  return {
    transaction: async (records, offsets) => {
      if (spent) throw new KafkaFault('closed', `the producer ${transactionalId} is done`, { resource: transactionalId })
      if (busy) throw new Error(`two transactions at once of ${transactionalId}`)
      if (records.length === 0 && offsets === undefined) return []
      busy = true
      const ends = new Map<string, Written>()
      let ending = false
      try {
        await write(records, offsets, ends)
        ending = true
        await end(true)
        return [...ends.values()]
      } catch (error) {
        spent = true
        if (ending) {
          const fault = faultOf(error, transactionalId)
          if (isFault(fault, 'fenced')) throw fault
          throw new KafkaFault('unknown-outcome', `the end of a transaction of ${transactionalId} was not confirmed: ${(fault as Error).message}`, {
            resource: transactionalId, cause: error,
          })
        }
        // So that readers do not wait for the broker's own timeout. Whether it works or not, nothing was committed.
        await end(false).catch(() => {})
        const fault = await judged(cluster, faultOf(error, transactionalId))
        if (isFault(fault, 'fenced', 'too-large', 'not-authorized', 'unknown-topic') || !(fault instanceof KafkaFault)) throw fault
        throw new KafkaFault('unknown-outcome', `a transaction of ${transactionalId} failed: ${fault.message}`, { resource: transactionalId, cause: error })
      } finally {
        busy = false
      }
    },
    close: closed,
  }
}
