/**
 * @file A worker in a process of its own, for the tests that are hard on it: the shell that scores, on a real cluster,
 * with scores that follow from a document's text alone and cost nothing. Ends when the run has caught up, unless it follows,
 * or at SIGTERM.
 *
 *     node worker.js '{"brokers": [...], "prefix": "...", "run": "...", ...}'
 */
import { kafkaLog } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { scoreCheaply } from './cheap-parts.js'

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

const stop = new AbortController()
process.on('SIGTERM', () => stop.abort())
await using log = await kafkaLog(kafkajsClient({ brokers, sessionMs, requestMs, rebalanceMs: 2 * sessionMs }), { cluster: `kafka://${brokers.join()}`, prefix })
const { left } = await scoreCheaply({ log, run, queries, k, batchMs, follow, signal: stop.signal })
if (left > 0 && !stop.signal.aborted) throw new Error(`ended with ${left} documents left`)
