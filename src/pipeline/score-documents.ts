/**
 * @file Score without a log: documents from anywhere → their influence on some queries. The same operators as `score`,
 * with a chunk of the given documents in place of a chunk of a partition; nothing is kept, and nothing goes on after an
 * interruption.
 */
import { firstValueFrom, from } from 'rxjs'
import { DeadLetterError, documentId, runId, type DocumentId } from '../base/index.js'
import type { JoinKind } from '../influence/index.js'
import type { InfluenceValue, LogRecord, NewRecord, QueryValue } from '../log/index.js'
import type { ScoreSettings } from '../settings/index.js'
import { openScoring, planScoring, rankOf, type ScoringSettings } from './begin-run.js'
import { openEngine } from './engine.js'
import { silentProgress, type Progress } from './context.js'
import { keyOfDocument } from './ingest.js'
import { pulled } from './operators/pulled.js'
import { prepareGradients } from './prepare.js'
import { scoreChunk, toChunk, type Chunk } from './score-chunk.js'
import { openScorer, type OpenScorer } from './scorer.js'

/** Documents that are tokenized and sorted by length together, and the bytes of their text. */
const chunkDocumentsMax = 512
const chunkBytesMax = 4 << 20

/** A document as it is given. */
export interface GivenDocument {
  readonly id: string
  readonly text: string
  /** Default: "unknown". */
  readonly source?: string
}

/** A document, or a piece of one that was split, scored. */
export interface DocumentScore {
  readonly document: DocumentId
  readonly source: string
  /** The document's place among those given, from 0. */
  readonly index: number
  /** Which piece of the document, of how many: 0 of 1 unless `long` is `split`. */
  readonly piece: number
  readonly pieces: number
  /** Tokens scored, and tokens of the whole document: more of them than scored if it was split or truncated. */
  readonly tokens: number
  readonly tokensTotal: number
  /** L(z), nats, summed over predicted tokens. */
  readonly loss: number
  /** ‖∇L(z)‖ over all tracked layers: influence over this is normed influence. */
  readonly gradientNorm: number
  /** Raw influence, f32 [Q], in the order of the queries; positive where training on it makes the completion more likely. */
  readonly influence: Float32Array
}

export interface PreparedScoring extends AsyncDisposable {
  /** In the order of `DocumentScore.influence`. −f in nats: influence over this is influence per nat. */
  readonly queries: readonly { readonly id: string; readonly informationNats: number }[]
  /** The join, and why it was chosen. */
  readonly join: { readonly kind: JoinKind; readonly rank: number; readonly reason: string }
  /** For `scoreDocuments`. */
  readonly open: OpenScorer
}

/**
 * Opens checkpoint and factors, and prepares queries for scoring; through the query cache of the home. Dispose of it when
 * done: it holds the engine.
 * @param settings `scoreSettings({ run, model, factors })` gives them; the run's name is not used
 * @throws UserError for whatever does not fit together
 */
export const prepareScoring = async (
  settings: ScoringSettings & Pick<ScoreSettings, 'threads' | 'engine' | 'device' | 'precision' | 'long'>,
  queries: readonly QueryValue[],
  { progress = silentProgress, signal = new AbortController().signal }: { readonly progress?: Progress; readonly signal?: AbortSignal } = {},
): Promise<PreparedScoring> => {
  if (queries.length === 0) throw new RangeError('there is no query to score against')
  const engine = await openEngine(settings, progress)
  try {
    const parts = await openScoring(settings, queries, engine, { progress, signal })
    const { chosen, batchTokens, reason } = planScoring(parts, settings)
    const join = { kind: chosen.kind, rank: rankOf(chosen.kind, settings) }
    const nats = await prepareGradients(parts.queries, parts.prepareParts)
    const open = await openScorer(parts, join, { ...settings, batchTokens })
    progress.stop()
    return {
      queries: queries.map(({ id }, q) => ({ id, informationNats: nats[q] })),
      join: { ...join, reason },
      open,
      [Symbol.asyncDispose]: async () => {
        await open[Symbol.asyncDispose]()
        await engine[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await engine[Symbol.asyncDispose]()
    throw error
  }
}

export interface ScoreDocumentsOptions {
  /** Aborted: the batch in hand is finished and yielded, then the end. */
  readonly signal?: AbortSignal
  /** Called with a document that cannot be scored; without it, the iteration throws the DeadLetterError. */
  readonly onRejected?: (document: string, error: DeadLetterError) => void
}

/**
 * GivenDocument → DocumentScore. Reads ahead by one chunk of documents (512, or 4 MiB of text) and holds two. Scores
 * come batch by batch as they are computed, in a chunk the longest documents first: `index` tells the order given.
 * @throws DeadLetterError for a document that cannot be scored (one token, NaN, ...), unless `onRejected` takes it
 */
export const scoreDocuments = async function* (
  { open }: PreparedScoring, documents: Iterable<GivenDocument> | AsyncIterable<GivenDocument>,
  { signal = new AbortController().signal, onRejected }: ScoreDocumentsOptions = {},
): AsyncGenerator<DocumentScore, void, undefined> {
  const chunks = chunksOf(documents, open)
  try {
    for (let ahead = chunks.next(); !signal.aborted; ) {
      const { value: chunk, done } = await ahead
      if (done === true) return
      ahead = chunks.next()
      ahead.catch(() => undefined) // thrown where it is awaited
      for await (const { records } of pulled(from([chunk]).pipe(scoreChunk(noRun, open.scorer, { from: 0, together: open.together })), signal)) {
        for (const record of records) {
          if (isInfluence(record)) yield toScore(record.value)
          else if (isDeadLetter(record)) reject(record.value, onRejected)
        }
      }
    }
  } finally {
    await chunks.return()
  }
}

/** The records that the operators make carry a run's name; here nobody reads it. */
const noRun = runId('')

/** Documents in chunks, tokenized and cut into batches. */
const chunksOf = async function* (
  documents: Iterable<GivenDocument> | AsyncIterable<GivenDocument>, { tokenizer, options, bounds }: OpenScorer,
): AsyncGenerator<Chunk, void, undefined> {
  const cut = (records: readonly LogRecord<'documents'>[]): Promise<Chunk> => firstValueFrom(from(records).pipe(toChunk(tokenizer, options, bounds)))
  let records: LogRecord<'documents'>[] = []
  let bytes = 0
  let offset = 0
  for await (const document of documents) {
    records.push(recordOf(document, offset++))
    bytes += Buffer.byteLength(document.text)
    if (records.length < chunkDocumentsMax && bytes < chunkBytesMax) continue
    yield await cut(records)
    records = []
    bytes = 0
  }
  if (records.length > 0) yield await cut(records)
}

/** A document as the operators know it: as though it were the only partition's next record. */
const recordOf = ({ id, text, source = 'unknown' }: GivenDocument, offset: number): LogRecord<'documents'> => ({
  topic: 'documents',
  partition: 0,
  offset,
  key: keyOfDocument({ source, id }),
  timestampMs: 0,
  value: { id, idGiven: true, source, text, tokens: null, shard: '', index: offset, extra: null },
})

const isInfluence = (record: NewRecord): record is NewRecord<'influence'> & { readonly value: InfluenceValue } => record.topic === 'influence' && record.value !== null
const isDeadLetter = (record: NewRecord): record is NewRecord<'dead-letters'> => record.topic === 'dead-letters'

const toScore = ({ document, source, offset, piece, pieces, tokens, tokensTotal, loss, gradientNorm, influence }: InfluenceValue): DocumentScore => ({
  document: documentId(document), source, index: offset, piece, pieces, tokens, tokensTotal, loss, gradientNorm, influence: Float32Array.from(influence),
})

const reject = (value: NewRecord<'dead-letters'>['value'], onRejected: ScoreDocumentsOptions['onRejected']): void => {
  if (value === null) return
  const document = value.document ?? ''
  const error = new DeadLetterError(value.stage, `document "${document}": ${value.cause}`)
  if (onRejected === undefined) throw error
  onRejected(document, error)
}
