/** @file Records of `documents` → what is scored: token sequences no longer than the context. */
import { Observable, type OperatorFunction } from 'rxjs'
import { DeadLetterError, documentId, type DocumentId, type Stage } from '../../base/index.js'
import type { LogRecord } from '../../log/index.js'
import type { Tokenizer } from '../../model/index.js'

/** A document, or a part of one that is longer than the context. */
export interface Piece {
  /** The document's key in `documents`. */
  readonly key: string
  readonly document: DocumentId
  readonly source: string
  readonly partition: number
  readonly offset: number
  readonly timestampMs: number
  /** From 0, of `pieces`. */
  readonly piece: number
  readonly pieces: number
  /** 2 to context token ids. */
  readonly tokens: readonly number[]
  /** Tokens of the whole document: more than are in its pieces if it was truncated. */
  readonly tokensTotal: number
  /** The record it came from, for dead letters. */
  readonly record: LogRecord<'documents'>
}

/** A document that cannot be used, and why. */
export interface Rejected {
  readonly record: LogRecord<'documents'>
  readonly stage: Stage
  readonly cause: string
}

export const isPiece = (item: Piece | Rejected): item is Piece => 'tokens' in item

export interface PieceOptions {
  /** T at most. */
  readonly context: number
  /** Longer documents: cut into near-equal pieces, or cut off. */
  readonly long: 'split' | 'truncate'
  /** Token ids must be below this. */
  readonly vocabulary: number
}

/** Record → Piece | Rejected: decodes and tokenizes. Holds nothing; a record that fails becomes a Rejected, never an error. */
export const toPieces = (tokenizer: Tokenizer, options: PieceOptions): OperatorFunction<LogRecord<'documents'>, Piece | Rejected> =>
  (source) =>
    // By hand: concatMap makes an Observable and a subscription of every document, a tenth of the stream's own cost.
    new Observable((subscriber) =>
      source.subscribe({
        next: (record) => {
          try {
            for (const item of piecesOf(record, tokenizer, options)) subscriber.next(item)
          } catch (error) {
            subscriber.error(error)
          }
        },
        error: (error) => subscriber.error(error),
        complete: () => subscriber.complete(),
      }),
    )

/** The pieces of one document, in order; or the one reason why it has none. */
export const piecesOf = (record: LogRecord<'documents'>, tokenizer: Tokenizer, options: PieceOptions): readonly (Piece | Rejected)[] => {
  try {
    return cut(record, idsOf(record, tokenizer, options), options)
  } catch (error) {
    if (error instanceof DeadLetterError) return [{ record, stage: error.stage, cause: error.message }]
    throw error
  }
}

const idsOf = ({ value, problem }: LogRecord<'documents'>, tokenizer: Tokenizer, { vocabulary }: PieceOptions): readonly number[] => {
  if (value === undefined) throw new DeadLetterError('decode', problem ?? 'the record cannot be decoded')
  if (value.text !== null) return tokenizer.encodeDocument(value.text)
  const { tokens } = value
  if (tokens === null) throw new DeadLetterError('decode', 'the document has neither text nor token ids')
  const stranger = tokens.find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabulary))
  if (stranger !== undefined) throw new DeadLetterError('tokenize', `token id ${stranger} is not in the model's vocabulary of ${vocabulary}`)
  return tokens
}

const cut = (record: LogRecord<'documents'>, ids: readonly number[], { context, long }: PieceOptions): readonly Piece[] => {
  const { value, key, partition, offset, timestampMs } = record
  if (value === undefined) throw new DeadLetterError('decode', 'the record cannot be decoded')
  if (ids.length < 2) throw new DeadLetterError('tokenize', `the document has ${ids.length === 0 ? 'no token' : 'one token'}: nothing is predicted in it`)
  const pieces = long === 'split' ? Math.ceil(ids.length / context) : 1
  const pieceOf = (piece: number, tokens: readonly number[]): Piece => ({
    key, document: documentId(value.id), source: value.source, partition, offset, timestampMs, piece, pieces, tokens, tokensTotal: ids.length, record,
  })
  if (pieces === 1) return [pieceOf(0, ids.length <= context ? ids : ids.slice(0, context))]
  const bound = (i: number): number => Math.floor((ids.length * i) / pieces)
  return Array.from({ length: pieces }, (_, piece) => pieceOf(piece, ids.slice(bound(piece), bound(piece + 1))))
}
