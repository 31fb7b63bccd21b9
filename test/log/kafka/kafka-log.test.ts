import { kafkaLog } from '../../../src/log/kafka/index.js'
import { logContract } from '../contract.js'
import { FakeCluster } from './fake.js'

logContract('the log on a cluster in memory', async () => {
  const cluster = new FakeCluster()
  return {
    open: () => kafkaLog(cluster.client(), { cluster: 'a cluster in memory', prefix: 'contract.' }),
    destroy: async () => undefined,
  }
})
