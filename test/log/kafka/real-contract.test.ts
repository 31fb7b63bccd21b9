/** @file The contract of every log, on a real broker: the same tests as for the embedded log and the cluster in memory. */
import { kafkaLog } from '../../../src/log/kafka/index.js'
import { kafkajsClient } from '../../../src/log/kafka/kafkajs.js'
import { logContract } from '../contract.js'
import { withBroker } from './broker.js'

await withBroker('the log on a real cluster', {}, (broker) => {
  let homes = 0
  const brokers = broker.plaintext.split(',')
  logContract('Kafka', async () => {
    const prefix = `contract-${process.pid}-${homes++}.`
    return {
      open: () => kafkaLog(kafkajsClient({ brokers, sessionMs: 6000, heartbeatMs: 300 }), { cluster: broker.kind, prefix }),
      destroy: async () => {
        const client = kafkajsClient({ brokers })
        const topics = await client.admin.topics()
        await client.admin.deleteTopics(topics.map(({ topic }) => topic).filter((topic) => topic.startsWith(prefix)))
        await client[Symbol.asyncDispose]()
      },
    }
  })
})
