/** @file Who leads a partition, and requests to it that are safe to send again when leadership moved. */
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaFault, isFault } from '../client.js'
import { errorAbout, faultOf } from './faults.js'
import { COORDINATOR, type Broker, type Cluster, type TopicMetadata } from './internals.js'

const unknownTopic = 3

/** A topic's partitions, as the metadata have them that were asked for last. @throws what they say of the topic instead */
export const partitionsOf = (cluster: Cluster, topic: string): TopicMetadata['partitionMetadata'] => {
  const found = cluster.brokerPool.metadata?.topicMetadata.find((one) => one.topic === topic)
  const code = found?.topicErrorCode ?? unknownTopic
  if (found === undefined || code !== 0) throw errorAbout(topic, code)
  return found.partitionMetadata
}

/**
 * The topics that there are, of these or of all that may be seen. A broker may not have heard yet of a new one: what one does
 * not list is asked of the others, and is not there if none of those that answer lists it.
 */
export const topicsOf = async (cluster: Cluster, names?: readonly string[]): Promise<readonly TopicMetadata[]> => {
  await cluster.connect()
  const found = new Map<string, TopicMetadata>()
  const ask = async (broker: Broker): Promise<void> => {
    for (const topic of (await broker.metadata()).topicMetadata)
      if (topic.partitionMetadata.length > (found.get(topic.topic)?.partitionMetadata.length ?? 0)) found.set(topic.topic, topic)
  }
  await ask(await cluster.brokerPool.findConnectedBroker())
  if (names?.every((name) => found.has(name)) !== true) await onEach(cluster, ask)
  return [...found.values()].filter(({ topic }) => (names === undefined ? !topic.startsWith('__') : names.includes(topic)))
}

/** Asks every broker; resolves to the answers of those that can be reached. */
export const onEach = async <Answer>(cluster: Cluster, ask: (broker: Broker) => Promise<Answer>): Promise<readonly Answer[]> => {
  await cluster.refreshMetadata()
  const asked = await Promise.allSettled(cluster.getNodeIds().map(async (nodeId) => ask(await cluster.findBroker({ nodeId: Number(nodeId) }))))
  return asked.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
}

/**
 * A fault as it is, unless it is that a broker does not know a topic which another one lists: that passes when the broker has
 * heard of it.
 */
export const judged = async (cluster: Cluster, fault: unknown): Promise<unknown> => {
  if (!isFault(fault, 'unknown-topic') || fault.resource === undefined) return fault
  const listed = await topicsOf(cluster, [fault.resource]).catch(() => undefined)
  if (listed?.length === 0) return fault
  return new KafkaFault('unavailable', `${fault.message} (not every broker knows it yet)`, { resource: fault.resource, cause: fault })
}

/**
 * @throws what the metadata say of the topic; KafkaFault `unavailable` without a leader, or while a broker that has just started
 * knows some partitions only
 */
export const leaderOf = async (cluster: Cluster, topic: string, partition: number): Promise<Broker> => {
  await cluster.connect()
  await cluster.addMultipleTargetTopics([topic])
  const find = () => partitionsOf(cluster, topic).find(({ partitionId }) => partitionId === partition)
  let found = find()
  if (found === undefined) {
    await cluster.refreshMetadata()
    found = find()
  }
  if (found === undefined) throw new KafkaFault('unavailable', `topic "${topic}" has no partition ${partition}`, { resource: topic })
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
 * fresh metadata. A broker that has just started does not know its topics yet. Every error becomes a fault; `unknown-topic`
 * only if the cluster does not list it.
 */
export const again = async <Result>(cluster: Cluster, resource: string, work: () => Promise<Result>): Promise<Result> => {
  for (let attempt = 1; ; attempt++)
    try {
      return await work()
    } catch (error) {
      const fault = faultOf(error, resource)
      if (!isFault(fault, 'unreachable', 'unavailable', 'unknown-topic') || attempt === attemptsMax) throw await judged(cluster, fault)
      await sleep(pauseMs * attempt)
      await cluster.refreshMetadata().catch(() => {}) // the next attempt says what is wrong
    }
}

const typeOf = (error: unknown): string => String((error as { type?: unknown } | null)?.type ?? '')

/** Repeats what the cluster refuses for now, before it changed anything; `types` are names of the protocol's errors. */
export const patiently = async <Result>(msMax: number, types: readonly string[], work: () => Promise<Result>): Promise<Result> => {
  for (let endMs = Date.now() + msMax, pause = 5; ; await sleep(pause), pause = Math.min(pause * 2, pauseMs))
    try {
      return await work()
    } catch (error) {
      if (!types.includes(typeOf(error)) || Date.now() > endMs) throw error
    }
}

/**
 * The coordinator of a group or a transactional id. The first one in a cluster's life waits for the topic that keeps
 * them. Asked directly: kafkajs's own search turns every error, a missing ACL too, into "not found".
 */
export const coordinatorOf = async (cluster: Cluster, kind: keyof typeof COORDINATOR, id: string, msMax: number): Promise<Broker> => {
  const { coordinator } = await patiently(msMax, ['GROUP_COORDINATOR_NOT_AVAILABLE', 'GROUP_LOAD_IN_PROGRESS'], async () =>
    (await cluster.brokerPool.findConnectedBroker()).findGroupCoordinator({ groupId: id, coordinatorType: COORDINATOR[kind] }))
  try {
    return await cluster.findBroker(coordinator)
  } catch (error) {
    if ((error as Error).name !== 'KafkaJSBrokerNotFound') throw error
    return cluster.findBroker(coordinator) // newer than the metadata, which kafkajs has fetched again by now
  }
}

/** Runs a request at a coordinator; again while it is refused with one of `types`, before it changed anything. */
export type Coordinated = <Result>(types: readonly string[], work: (broker: Broker) => Promise<Result>) => Promise<Result>

/** Who the coordinator is, is asked once, and again after any error. */
export const onCoordinator = (cluster: Cluster, kind: keyof typeof COORDINATOR, id: string, msMax: number): Coordinated => {
  let nodeId: number | null = null
  return (types, work) => patiently(msMax, types, async () => {
    try {
      const broker: Broker = nodeId === null ? await coordinatorOf(cluster, kind, id, msMax) : await cluster.findBroker({ nodeId })
      nodeId = broker.nodeId
      return await work(broker)
    } catch (error) {
      nodeId = null
      throw error
    }
  })
}
