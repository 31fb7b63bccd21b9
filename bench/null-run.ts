/** @file What benches of the stream share: documents that carry token ids, and a run of a null engine over them. */
import { normals, runId } from '../src/base/index.js'
import { keyOf, type Log, type NewRecord } from '../src/log/index.js'
import type { Tokenizer } from '../src/model/index.js'
import type { Observer } from '../src/pipeline/observer.js'
import { ownership } from '../src/pipeline/ownership.js'
import type { Scorer } from '../src/pipeline/score-chunk.js'
import { scorePartitions } from '../src/pipeline/score-partitions.js'

export const queries = 10
export const tokens = 16
const appendEach = 1000

/** Scores drawn beforehand: documents take rows of a pool in turn, so that tables fill and settle as those of real scores do. */
const pool = 65_521
const scores = Float32Array.from({ length: pool * queries }, normals(1))
const nullScorer = (): Scorer => {
  let at = 0
  return (batch) => {
    const from = at
    at += batch.length
    return Promise.resolve({
      losses: new Float32Array(batch.length).fill(3),
      gradientNorms: Float32Array.from(batch, (_, b) => 1 + ((from + b) % 7)),
      influence: batch.map((_, b) => scores.subarray(((from + b) % pool) * queries, (((from + b) % pool) + 1) * queries)),
    })
  }
}

/** Documents carry their token ids: nothing is tokenized. */
const noTokenizer: Tokenizer = {
  encodeDocument: () => { throw new Error('a document with text') },
  encodeQuery: () => { throw new Error('no query is tokenized here') },
  decodeToken: String,
  decode: (ids) => ids.join(' '),
}

/** Appends documents `[first, first + documents)`. */
export const fill = async (log: Log, documents: number, first = 0): Promise<void> => {
  for (let from = first; from < first + documents; from += appendEach) {
    await log.append(
      Array.from({ length: Math.min(appendEach, first + documents - from) }, (_, j): NewRecord<'documents'> => {
        const index = from + j
        const value = {
          id: `document-${index}`, idGiven: true, source: 'bench', text: null, tokens: Array.from({ length: tokens }, (_, t) => (index * 31 + t * 7) % 50_000),
          shard: 'bench.jsonl', index, extra: null,
        }
        return { topic: 'documents', key: keyOf('bench', value.id), value }
      }),
    )
  }
}

export interface NullRun {
  readonly run: string
  readonly commitEveryMs: number
  readonly follow?: boolean
  readonly signal?: AbortSignal
  readonly observer?: Observer
}

/** Scores everything that there is. Resolves to the number of documents. */
export const nullRun = async (log: Log, { run, commitEveryMs, follow = false, signal = new AbortController().signal, observer }: NullRun): Promise<number> => {
  const release = new AbortController()
  try {
    const { documents } = await scorePartitions(ownership(log.assignments(runId(run), { signal: release.signal })), {
      log, run: runId(run), queries: Array.from({ length: queries }, (_, q) => `query-${q}`), k: 100, scorer: nullScorer(), tokenizer: noTokenizer,
      options: { context: 512, long: 'truncate', vocabulary: 50_000 }, bounds: { tokensMax: 4096, sequencesMax: 16, lengthMax: 4096 }, follow,
      signal, now: Date.now, commitEveryMs, observer,
    })
    return documents
  } finally {
    release.abort()
  }
}
