/** @file Whether a run has come to the end of its documents. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UserError, runId } from '../../src/base/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import { hasCaughtUp } from '../../src/pipeline/caught-up.js'
import { FakeCluster } from '../log/kafka/fake.js'

test('a run whose documents were deleted under it has not caught up: that is an error', async () => {
  const cluster = new FakeCluster()
  await using log = await kafkaLog(cluster.client(), { cluster: 'the cluster' })
  await log.ensureTopics({ partitions: 2 })
  assert.equal(await hasCaughtUp(log, runId('r')), true, 'there are none yet')
  await cluster.client().admin.deleteTopics(['documents'])
  await assert.rejects(hasCaughtUp(log, runId('r')), (error) => error instanceof UserError && /no topic "documents"/.test(error.message))
})
