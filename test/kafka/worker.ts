/**
 * @file A worker in a process of its own, for the tests that are hard on it: the shell that scores, on a real cluster,
 * with scores that follow from a document's text alone and cost nothing. Ends when the run has caught up, unless it follows,
 * or at SIGTERM.
 *
 *     node worker.js '{"brokers": [...], "prefix": "...", "run": "...", ...}'
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { runId } from '../../src/base/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { ownership } from '../../src/pipeline/ownership.js'
import type { Scorer } from '../../src/pipeline/score-chunk.js'
import { scorePartitions } from '../../src/pipeline/score-partitions.js'
import { scoresOf, tokensOf } from './documents.js'

export interface WorkerOptions {
  readonly brokers: readonly string[]
  readonly prefix: string
  readonly run: string
  readonly queries: readonly string[]
  readonly k: number
  readonly sessionMs: number
  readonly requestMs: number
  /** What a batch takes. */
  readonly batchMs: number
  /** Waits for more documents. */
  readonly follow?: boolean
}

const { brokers, prefix, run, queries, k, sessionMs, requestMs, batchMs, follow = false } = JSON.parse(process.argv[2]) as WorkerOptions

const scorer: Scorer = async (batch) => {
  await sleep(batchMs)
  return {
    losses: Float32Array.from(batch, ({ tokens }) => tokens.length),
    gradientNorms: Float32Array.from(batch, ({ tokens }) => scoresOf(tokens, queries.length).norm),
    influence: batch.map(({ tokens }) => Float32Array.from(scoresOf(tokens, queries.length).influence)),
  }
}

const stop = new AbortController()
process.on('SIGTERM', () => stop.abort())
const release = new AbortController()
await using log = await kafkaLog(kafkajsClient({ brokers, sessionMs, requestMs, rebalanceMs: 2 * sessionMs }), { cluster: `kafka://${brokers.join()}`, prefix })
try {
  const { left } = await scorePartitions(ownership(log.assignments(runId(run), { signal: release.signal })), {
    log, run: runId(run), queries, k, scorer,
    tokenizer: { encodeDocument: tokensOf, encodeQuery: ({ completion }) => ({ ids: tokensOf(completion), promptLength: 0 }), decodeToken: String, decode: String },
    options: { context: 64, long: 'truncate', vocabulary: 1 << 20 }, bounds: { tokensMax: 128, sequencesMax: 8, lengthMax: 64 },
    follow, signal: stop.signal, now: Date.now, commitEveryMs: 0,
  })
  if (left > 0 && !stop.signal.aborted) throw new Error(`ended with ${left} documents left`)
} finally {
  release.abort()
}
