/** @file The answers of the API, as the OpenAPI document describes them. */
import { z } from 'zod'
import { nameText, whole } from './route.js'

export const json: z.ZodType<unknown> = z.unknown()

/** Parameters that several routes take. */
export const runParam = { run: nameText.describe('name of the run') }
export const placeParams = {
  partition: whole({ max: 65_535 }).describe('partition of `documents`'),
  offset: whole().describe('offset in the partition'),
}
export const sideQuery = {
  end: z.enum(['top', 'bottom']).default('top').describe('the documents that speak most for the completion, or most against it'),
  by: z.enum(['raw', 'normed']).default('raw').describe("by influence, or by influence over the norm of the document's gradient"),
}
export const queryList = (max: number) =>
  z.preprocess((given) => (typeof given === 'string' ? [given] : given), z.array(nameText).min(1).max(max))

const count = z.int().min(0)
export const scoreNumber = z.number().nullable().describe('null where it is no finite number')

export const excerpt = z.object({
  text: z.string(),
  marks: z.array(z.tuple([count, count])).describe('what was looked for, [from, to) in UTF-16 units'),
  cutBefore: z.boolean(),
  cutAfter: z.boolean(),
})

const ranked = z.enum(['documents', 'pieces']).describe('what is counted and ranked: pieces if the run splits long documents')

const buckets = z.object({ widthMs: z.number(), fromMs: z.number(), documents: z.array(count), tokens: z.array(count) })

export const progress = z.object({
  run: z.string(),
  id: z.string().describe('the place in the topics that this tells of'),
  documents: count.describe('documents in the log'),
  lag: count.describe('of them, still to be scored; in the middle of a chunk, its beginning counts'),
  partitions: z.array(z.object({ partition: count, position: count, end: count, lag: count })),
  activity: z.object({
    scored: count.describe('pieces scored, as far as this server has read'),
    tokens: count,
    lastMs: z.number().nullable(),
    rate: z.object({ documents: z.number(), tokens: z.number() }).describe('a second, over the last 10'),
    history: buckets.describe('documents and tokens that were committed in each stretch of time'),
  }),
  deadLetters: count,
  unread: count.describe('records of `influence` this server has yet to read'),
})

export const runSummary = z.object({
  run: z.string(),
  createdMs: z.number(),
  queries: count,
  model: z.string(),
  factors: z.string(),
  lag: count,
})

export const runDetail = runSummary.extend({
  checkpoint: z.string().describe('hash of the checkpoint'),
  queryModel: z.string(),
  queryCheckpoint: z.string(),
  factorsHash: z.string(),
  join: z.enum(['dense', 'low-rank', 'shared']),
  joinReason: z.string(),
  settings: z.record(z.string(), json).describe('what identifies the run'),
  accuracy: z.object({ documents: count, queries: count, pearsonMean: z.number(), pearsonMin: z.number(), relativeError: z.number() }).nullable(),
  versions: z.record(z.string(), z.string()),
})

export const query = z.object({
  id: z.string(),
  prompt: z.string(),
  completion: z.string(),
  group: z.string().nullable(),
  task: z.string().nullable(),
  answer: z.string().nullable(),
  steps: z.array(z.string()).nullable(),
  tokens: count,
  promptTokens: count,
  informationNats: z.number().describe('−log p of the completion: influence per nat is influence over this'),
})

export const table = z.object({
  query: z.string(),
  end: z.enum(['top', 'bottom']),
  by: z.enum(['raw', 'normed']),
  scored: count.describe('documents, or pieces, scored by the run'),
  ranked,
  isRescoreStale: z.boolean().describe('rows were scored again with full-rank queries, but more documents came since'),
  rows: z.array(z.object({
    rank: count,
    document: z.string(),
    source: z.string(),
    partition: count,
    offset: count,
    piece: count,
    score: scoreNumber,
    scorePerNat: scoreNumber,
    rescored: z.boolean(),
    excerpt: excerpt.nullable().describe("around the query's answer where it stands there; null if the text is not kept"),
    hasAnswer: z.boolean().describe("whether the query's answer stands in the document's text"),
  })),
})

export const hit = z.object({ partition: count, offset: count, document: z.string(), source: z.string(), characters: count, excerpt })

export const documentDetail = z.object({
  partition: count,
  offset: count,
  document: z.string(),
  source: z.string(),
  shard: z.string(),
  index: count,
  appendedMs: z.number(),
  text: z.string().nullable().describe('null: it came as tokens'),
  isCut: z.boolean().describe('the text is longer than was asked for'),
  characters: count,
  tokens: count.nullable().describe('of a document that came as tokens'),
  extra: z.string().nullable().describe('other fields of its line, as JSON'),
})

export const documentScores = z.object({
  run: z.string(),
  isRead: z.boolean().describe('false: this server has not read all of `influence` yet, and the scores may be there'),
  pieces: z.array(z.object({
    piece: count,
    pieces: count,
    tokens: count,
    tokensTotal: count,
    loss: z.number().describe('nats, summed over its predicted tokens'),
    gradientNorm: z.number(),
    scores: z.array(z.object({
      query: z.string(),
      raw: scoreNumber,
      perNat: scoreNumber,
      normed: scoreNumber,
      z: scoreNumber.describe("(raw − mean) / standard deviation over all the run's documents"),
      zNormed: scoreNumber,
    })),
  })),
})

export const deadLetters = z.object({
  counts: z.array(z.object({ run: z.string().nullable(), stage: z.string(), count })),
  letters: z.array(z.object({
    run: z.string().nullable(), stage: z.string(), cause: z.string(), topic: z.string().nullable(), partition: count.nullable(), offset: count.nullable(),
    shard: z.string().nullable(), index: count.nullable(), document: z.string().nullable(), timestampMs: z.number(),
    original: z.string().describe('the beginning of its bytes, as text'), originalBytes: count,
    retry: z.object({ state: z.enum(['never', 'wanted', 'done', 'failed']), attempt: count, cause: z.string().nullable().describe('why it failed again') })
      .describe('whether it was to be tried again, and what came of it'),
  })),
})

export const correlation = z.object({
  by: z.enum(['raw', 'normed']),
  count: count.describe('documents, or pieces, that the sums are over'),
  ranked,
  queries: z.array(z.string()),
  pearson: z.array(z.array(z.number().nullable())).describe('[Q, Q], in the order of `queries`; null where a score never varies'),
})

export const curves = z.object({
  by: z.enum(['raw', 'normed']),
  end: z.enum(['top', 'bottom']),
  curves: z.array(z.object({
    query: z.string(),
    ranks: z.array(count),
    scores: z.array(scoreNumber).describe('of the rows at `ranks`'),
    perNat: z.array(scoreNumber),
  })),
})

export const explanation = z.object({
  run: z.string(),
  query: z.string(),
  score: z.number().describe('what the terms of the tokens sum to, and those of the layers'),
  tokens: z.array(z.object({ text: z.string(), term: z.number() })),
  layers: z.array(z.object({ layer: z.string(), term: z.number() })),
})

const cells = z.record(z.string(), z.union([z.string(), z.number(), z.null()]))
export const analyses = z.object({
  run: z.string(),
  documents: count.describe('documents, or pieces, that the figures are over'),
  ranked,
  lag: count,
  findings: z.array(z.object({
    number: count, kind: z.enum(['raw', 'normed']), hypothesis: z.string(), verdict: z.string(), rule: z.string(), numbers: z.array(z.string()), paper: z.array(z.string()),
  })).describe("the paper's findings as hypotheses, with this run's verdict"),
  figures: z.array(z.object({
    name: z.string(), by: z.enum(['raw', 'normed']), title: z.string(), shows: z.string(), reading: z.string(), paper: z.array(z.string()), remarks: z.array(z.string()),
    tables: z.array(z.object({ id: z.string(), title: z.string(), rows: z.array(cells) })),
  })),
})
export const analysesAnswer = analyses.extend({ isCurrent: z.boolean().describe('false: documents have come since it was computed; ask again') })

export const status = z.object({
  version: z.string(),
  topics: z.array(z.object({ topic: z.string(), partitions: count, records: count, ends: z.array(count) })),
  runs: z.array(runSummary),
  deadLetters: count,
  run: z.string().nullable().describe('the run to begin with'),
  canExplain: z.boolean(),
  canAnalyse: z.boolean(),
})
