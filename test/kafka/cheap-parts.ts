/** @file The shell that scores, with scores that follow from a document's text alone and cost nothing. */
import { setTimeout as sleep } from 'node:timers/promises'
import { runId } from '../../src/base/index.js'
import type { Log } from '../../src/log/index.js'
import { ownership } from '../../src/pipeline/ownership.js'
import { scorePartitions, type PassResult } from '../../src/pipeline/score-partitions.js'
import { scoresOf, tokensOf } from './documents.js'

export interface CheapOptions {
  readonly log: Log
  readonly run: string
  readonly queries: readonly string[]
  readonly k: number
  /** What a batch takes. */
  readonly batchMs?: number
  readonly follow?: boolean
  /** Aborted: it ends after the batch in hand. */
  readonly signal?: AbortSignal
}

/** A commit for every batch. Resolves when the run has caught up, unless it follows. */
export const scoreCheaply = async ({ log, run, queries, k, batchMs = 0, follow = false, signal = new AbortController().signal }: CheapOptions): Promise<PassResult> => {
  const release = new AbortController()
  try {
    return await scorePartitions(ownership(log.assignments(runId(run), { signal: release.signal })), {
      log, run: runId(run), queries, k, follow, signal, now: Date.now, commitEveryMs: 0,
      scorer: async (batch) => {
        if (batchMs > 0) await sleep(batchMs)
        return {
          losses: Float32Array.from(batch, ({ tokens }) => tokens.length),
          gradientNorms: Float32Array.from(batch, ({ tokens }) => scoresOf(tokens, queries.length).norm),
          influence: batch.map(({ tokens }) => Float32Array.from(scoresOf(tokens, queries.length).influence)),
        }
      },
      tokenizer: { encodeDocument: tokensOf, encodeQuery: ({ completion }) => ({ ids: tokensOf(completion), promptLength: 0 }), decodeToken: String, decode: String },
      options: { context: 64, long: 'truncate', vocabulary: 1 << 20 }, bounds: { tokensMax: 128, sequencesMax: 8, lengthMax: 64 },
    })
  } finally {
    release.abort()
  }
}
