/** @file Who leads a partition, and requests to it that are safe to send again when leadership moved. */
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaFault, isFault } from '../client.js'
import { faultOf } from './faults.js'
import type { Broker, Cluster } from './internals.js'

/** @throws KafkaFault `unknown-topic`, also for a partition that the topic does not have */
export const leaderOf = async (cluster: Cluster, topic: string, partition: number): Promise<Broker> => {
  await cluster.connect()
  await cluster.addMultipleTargetTopics([topic])
  const found = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === partition)
  if (found === undefined) {
    await cluster.refreshMetadata()
    throw new KafkaFault('unknown-topic', `topic "${topic}" has no partition ${partition}`, { resource: topic })
  }
  if (found.leader < 0) {
    await cluster.refreshMetadata()
    throw new KafkaFault('unavailable', `partition ${partition} of topic "${topic}" has no leader`, { resource: topic })
  }
  return cluster.findBroker({ nodeId: found.leader })
}

const attemptsMax = 4
const pauseMs = 100

/**
 * Runs a request that changes nothing, or nothing twice: after a moved leader or a closed connection once more, with
 * fresh metadata. Every error becomes a fault.
 */
export const again = async <Result>(cluster: Cluster, resource: string, work: () => Promise<Result>): Promise<Result> => {
  for (let attempt = 1; ; attempt++)
    try {
      return await work()
    } catch (error) {
      const fault = faultOf(error, resource)
      if (!isFault(fault, 'unreachable', 'unavailable') || attempt === attemptsMax) throw fault
      await sleep(pauseMs * attempt)
      await cluster.refreshMetadata().catch(() => {}) // the next attempt says what is wrong
    }
}
