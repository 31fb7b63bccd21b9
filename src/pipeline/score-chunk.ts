/**
 * @file The way of every document through a run, as operators:
 *
 *     documents ──toPieces──▶ pieces ──batchByTokens──▶ batches ──score──▶ influence
 *                    └────────── what cannot be used ─────────┴──────────▶ dead letters
 *
 * A chunk is some hundreds of records of one partition: the bound on what RxJS may queue. Its batches are a function of
 * its records alone, so whoever computes it again computes the same bits.
 */
import { bufferCount, concatMap, from, map, pipe, toArray, type OperatorFunction } from 'rxjs'
import type { RunId } from '../base/index.js'
import type { BatchScores } from '../influence/index.js'
import { keyOf, type LogRecord, type NewRecord } from '../log/index.js'
import type { Tokenizer } from '../model/index.js'
import { problemOf, type Scored } from '../table/index.js'
import { deadLetter } from './dead-letter.js'
import { batchByTokens, type BatchBounds } from './operators/batch-by-tokens.js'
import { mapInOrder } from './operators/map-in-order.js'
import { isPiece, toPieces, type Piece, type PieceOptions, type Rejected } from './operators/to-pieces.js'

/** Batches, or groups of them, on their way to the engine: while one is computed, the next one's tensors are there. */
const groupsInFlight = 2

/** Computes a batch; an engine with its program, or anything else that scores. */
export type Scorer = (batch: readonly Piece[]) => Promise<BatchScores>

/** A chunk, ready to be computed. */
export interface Chunk {
  readonly rejected: readonly Rejected[]
  readonly batches: readonly (readonly Piece[])[]
}

/** What one batch comes to; `rejected` alone stands for the chunk's records that never became pieces. */
export interface Outcome {
  readonly scored: readonly Scored[]
  /** Records of `influence` and `dead-letters`. */
  readonly records: readonly NewRecord[]
  readonly tokens: number
  readonly deadLetters: number
  /** When the documents of `records` were appended, milliseconds since the epoch. */
  readonly appendedMs: readonly number[]
}

/** Record → Chunk: all records of a chunk, tokenized and cut into batches. One value, at the end. */
export const toChunk = (tokenizer: Tokenizer, options: PieceOptions, bounds: BatchBounds): OperatorFunction<LogRecord<'documents'>, Chunk> =>
  pipe(
    toPieces(tokenizer, options),
    toArray(),
    concatMap((items) =>
      from(items.filter(isPiece)).pipe(
        batchByTokens(bounds),
        toArray(),
        map((batches): Chunk => ({ rejected: items.filter((item): item is Rejected => !isPiece(item)), batches })),
      ),
    ),
  )

/**
 * Chunk → Outcome: first that of the rejected records, then one for each batch, in order. `from` outcomes were
 * committed before and are left out. Errors of the scorer pass through; holds two batches, or two groups of `together`.
 */
export const scoreChunk = (run: RunId, scorer: Scorer, { from: done, together = 1 }: { readonly from: number; readonly together?: number }): OperatorFunction<Chunk, Outcome> =>
  concatMap(({ rejected, batches }) => {
    const outcome = async (batch: readonly Piece[] | readonly Rejected[]): Promise<Outcome> =>
      isRejection(batch, rejected) ? rejectedOutcome(run, rejected) : outcomeOf(run, batch, await scorer(batch))
    return from([rejected, ...batches].slice(done)).pipe(
      bufferCount(together),
      mapInOrder((group) => Promise.all(group.map(outcome)), { inFlightMax: groupsInFlight }),
      concatMap((outcomes) => outcomes),
    )
  })

/** Array.from goes through an iterator: ten times as slow, and this is done for every document. */
const numbersOf = (values: Float32Array): number[] => {
  const numbers = new Array<number>(values.length)
  for (let i = 0; i < values.length; i++) numbers[i] = values[i]
  return numbers
}

const isRejection = (batch: readonly Piece[] | readonly Rejected[], rejected: readonly Rejected[]): batch is readonly Rejected[] => batch === rejected

/** Outcomes that a chunk has: the rejected records', and one a batch. */
export const outcomesOf = ({ batches }: Chunk): number => batches.length + 1

const rejectedOutcome = (run: RunId, rejected: readonly Rejected[]): Outcome => ({
  scored: [], records: rejected.map((item) => deadLetter(run, item)), tokens: 0, deadLetters: rejected.length, appendedMs: rejected.map(({ record }) => record.timestampMs),
})

/** Scores → records and rows; a document whose scores are no numbers becomes a dead letter, the others of its batch go on. */
const outcomeOf = (run: RunId, batch: readonly Piece[], { losses, gradientNorms, influence }: BatchScores): Outcome => {
  const scored: Scored[] = []
  const records: NewRecord[] = []
  let tokens = 0
  batch.forEach((piece, b) => {
    const { key, document, source, partition, offset, record } = piece
    const row: Scored = { document, source, piece: piece.piece, partition, offset, gradientNorm: gradientNorms[b], influence: influence[b] }
    const problem = Number.isFinite(losses[b]) ? problemOf(row) : `its loss is ${losses[b]}`
    if (problem !== undefined) {
      records.push(deadLetter(run, { record, stage: 'score', cause: problem }, piece.piece))
      return
    }
    scored.push(row)
    tokens += piece.tokens.length
    records.push({
      topic: 'influence',
      key: keyOf(run, key),
      value: {
        run, document, source, partition, offset, piece: piece.piece, pieces: piece.pieces, tokens: piece.tokens.length,
        tokensTotal: piece.tokensTotal, loss: losses[b], gradientNorm: gradientNorms[b], influence: numbersOf(influence[b]),
      },
    })
  })
  return { scored, records, tokens, deadLetters: batch.length - scored.length, appendedMs: batch.map(({ timestampMs }) => timestampMs) }
}
