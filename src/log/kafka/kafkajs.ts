/**
 * @file The port `KafkaClient` over kafkajs 2.2.4 (kafkajs/ beside this): its connections, authentication, metadata and
 * protocol, below a fetch, a producer and a group member of our own.
 */
import { KafkaFault, type GroupMember, type KafkaClient, type TransactionalProducer } from './client.js'
import { newAdmin } from './kafkajs/admin.js'
import { timingsOf, type KafkajsOptions } from './kafkajs/connect.js'
import { fetcherOf } from './kafkajs/fetch.js'
import { joinGroup } from './kafkajs/member.js'
import { newProducer } from './kafkajs/producer.js'

export type { KafkajsOptions } from './kafkajs/connect.js'

/** Connects when it is first asked for something. */
export const kafkajsClient = (options: KafkajsOptions): KafkaClient => {
  const fetcher = fetcherOf(options, timingsOf(options).requestMs)
  const { admin, close } = newAdmin(options)
  const members = new Set<GroupMember>()
  const producers = new Set<TransactionalProducer>()
  let closed = false
  const open = (): void => {
    if (closed) throw new KafkaFault('closed', 'this client is closed')
  }
  return {
    admin,
    fetch: async (topic, partition, offset, bounds) => {
      open()
      return fetcher.fetch(topic, partition, offset, bounds)
    },
    join: async (group, topic) => {
      open()
      const member = await joinGroup(options, group, topic)
      members.add(member)
      return member
    },
    producer: async (transactionalId) => {
      open()
      const { transaction, close: end } = await newProducer(options, transactionalId)
      const producer: TransactionalProducer = {
        transaction,
        close: async () => {
          producers.delete(producer)
          await end()
        },
      }
      producers.add(producer)
      return producer
    },
    [Symbol.asyncDispose]: async () => {
      closed = true
      await Promise.all([...members].map((member) => member.leave()))
      await Promise.all([...producers].map((producer) => producer.close()))
      await fetcher[Symbol.asyncDispose]()
      await close()
    },
  }
}
