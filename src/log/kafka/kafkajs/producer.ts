/**
 * @file A transactional producer (KIP-98), one short transaction at a time, on the requests themselves: kafkajs's own
 * stays in a half-ended state for ever after an error, lets sends slip past the transaction, and sleeps between them.
 * Nothing is sent twice here: after an error the outcome is unknown and the producer is done.
 */
import { KafkaFault, isFault, type GroupOffsets, type ProducerRecord, type TransactionalProducer, type Written } from '../client.js'
import { sendsOf } from '../sends.js'
import { connect, timingsOf, type KafkajsOptions } from './connect.js'
import { faultOf } from './faults.js'
import type { Broker, Cluster } from './internals.js'
import { again, coordinatorOf, leaderOf, patiently } from './leaders.js'

/** The markers of the transaction before are still being written. */
const concurrent = ['CONCURRENT_TRANSACTIONS']

const grouped = <Key, Item>(items: readonly Item[], keyOf: (item: Item) => Key): readonly (readonly [Key, readonly Item[]])[] => {
  const groups = new Map<Key, Item[]>()
  for (const item of items) {
    const group = groups.get(keyOf(item))
    if (group === undefined) groups.set(keyOf(item), [item])
    else group.push(item)
  }
  return [...groups]
}

export const newProducer = async (options: KafkajsOptions, transactionalId: string): Promise<TransactionalProducer> => {
  const { requestMs, transactionMs } = timingsOf(options)
  const cluster = connect(options)
  const coordinator = (): Promise<Broker> =>
    coordinatorOf(cluster, 'transaction', transactionalId, requestMs)
  try {
    const { producerId, producerEpoch } = await again(cluster, transactionalId, async () => {
      await cluster.connect()
      await cluster.refreshMetadata()
      const broker = await coordinator()
      return patiently(requestMs, concurrent, () => broker.initProducerId({ transactionalId, transactionTimeout: transactionMs }))
    })
    return transactions(cluster, { transactionalId, producerId, producerEpoch }, coordinator, requestMs)
  } catch (error) {
    await cluster.disconnect().catch(() => {})
    throw error
  }
}

const transactions = (
  cluster: Cluster,
  identity: { readonly transactionalId: string; readonly producerId: string; readonly producerEpoch: number },
  coordinator: () => Promise<Broker>,
  requestMs: number,
): TransactionalProducer => {
  const { transactionalId } = identity
  const sequences = new Map<string, number>()
  let spent = false
  let busy = false

  const send = async (records: readonly ProducerRecord[], ends: Map<string, Written>): Promise<void> => {
    const perLeader = new Map<Broker, ProducerRecord[]>()
    for (const record of records) {
      const leader = await leaderOf(cluster, record.topic, record.partition)
      const list = perLeader.get(leader)
      if (list === undefined) perLeader.set(leader, [record])
      else list.push(record)
    }
    await Promise.all([...perLeader].map(async ([leader, own]) => {
      const topicData = grouped(own, ({ topic }) => topic).map(([topic, ofTopic]) => ({
        topic,
        partitions: grouped(ofTopic, ({ partition }) => partition).map(([partition, list]) => ({
          partition,
          firstSequence: sequences.get(`${topic} ${partition}`) ?? 0,
          messages: list.map(({ key, value, timestampMs }) => ({ key, value, timestamp: timestampMs, headers: {} })),
        })),
      }))
      const { topics } = await leader.produce({ ...identity, topicData, acks: -1, timeout: requestMs })
      for (const { topicName, partitions } of topics)
        for (const { partition, baseOffset } of partitions) {
          const count = own.filter((record) => record.topic === topicName && record.partition === partition).length
          const at = `${topicName} ${partition}`
          sequences.set(at, ((sequences.get(at) ?? 0) + count) % 2 ** 31)
          ends.set(at, { topic: topicName, partition, end: Number(baseOffset) + count })
        }
    }))
  }

  const write = async (records: readonly ProducerRecord[], offsets: GroupOffsets | undefined, ends: Map<string, Written>): Promise<void> => {
    const broker = await coordinator()
    if (records.length > 0) {
      const topics = grouped(records, ({ topic }) => topic).map(([topic, list]) => ({
        topic, partitions: [...new Set(list.map(({ partition }) => partition))],
      }))
      await patiently(requestMs, concurrent, () => broker.addPartitionsToTxn({ ...identity, topics }))
      for (const part of sendsOf(records)) await send(part, ends)
    }
    if (offsets === undefined) return
    const { group, topic } = offsets
    await patiently(requestMs, concurrent, () => broker.addOffsetsToTxn({ ...identity, groupId: group }))
    const partitions = offsets.offsets.map(({ partition, offset }) => ({ partition, offset: String(offset), metadata: null }))
    // The same offsets twice are the same offsets; a cluster's first group waits for the topic that keeps them.
    await patiently(requestMs, ['GROUP_COORDINATOR_NOT_AVAILABLE', 'GROUP_LOAD_IN_PROGRESS', 'NOT_COORDINATOR_FOR_GROUP'], async () =>
      (await coordinatorOf(cluster, 'group', group, requestMs)).txnOffsetCommit({ ...identity, groupId: group, topics: [{ topic, partitions }] }))
  }

  const end = async (commit: boolean): Promise<void> => {
    await (await coordinator()).endTxn({ ...identity, transactionResult: commit })
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
        const fault = faultOf(error, transactionalId)
        if (ending) {
          if (isFault(fault, 'fenced')) throw fault
          throw new KafkaFault('unknown-outcome', `the end of a transaction of ${transactionalId} was not confirmed: ${(fault as Error).message}`, {
            resource: transactionalId, cause: error,
          })
        }
        // So that readers do not wait for the broker's own timeout. Whether it works or not, nothing was committed.
        await end(false).catch(() => {})
        if (isFault(fault, 'fenced', 'too-large', 'not-authorized', 'unknown-topic') || !(fault instanceof KafkaFault)) throw fault
        throw new KafkaFault('unknown-outcome', `a transaction of ${transactionalId} failed: ${fault.message}`, { resource: transactionalId, cause: error })
      } finally {
        busy = false
      }
    },
    close: closed,
  }
}
