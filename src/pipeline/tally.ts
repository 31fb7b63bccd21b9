/**
 * @file What a scoring did, counted. A document counts once, at its piece 0, however many pieces it was split into; pieces
 * count beside.
 */
import type { NewRecord } from '../log/index.js'
import type { Scored } from '../table/index.js'

export interface Tally {
  /** Documents that were scored. */
  readonly documents: number
  /** Pieces that were scored: as many as documents, unless long ones are split. */
  readonly pieces: number
  readonly tokens: number
  /** Dead letters: one a document, or a piece where one alone cannot be scored. */
  readonly deadLetters: number
  /** Documents that were come to, scored or a dead letter: what progress is made of. */
  readonly reached: number
}

export const nothing: Tally = { documents: 0, pieces: 0, tokens: 0, deadLetters: 0, reached: 0 }

export const sum = (a: Tally, b: Tally, sign: 1 | -1 = 1): Tally => ({
  documents: a.documents + sign * b.documents, pieces: a.pieces + sign * b.pieces, tokens: a.tokens + sign * b.tokens,
  deadLetters: a.deadLetters + sign * b.deadLetters, reached: a.reached + sign * b.reached,
})

/** Documents that some pieces (or documents as a whole, null) are counted as. */
export const documentsIn = (pieces: readonly { readonly piece: number | null }[]): number =>
  pieces.reduce((count, { piece }) => count + (piece === null || piece === 0 ? 1 : 0), 0)

/** @param outcome what was scored, and the records that came of it, dead letters among them */
export const tallyOf = ({ scored, records, tokens, deadLetters }: {
  readonly scored: readonly Scored[]
  readonly records: readonly NewRecord[]
  readonly tokens: number
  readonly deadLetters: number
}): Tally => {
  const documents = documentsIn(scored)
  const letters = records.flatMap(({ value }) => (value !== null && 'stage' in value ? [value] : []))
  return { documents, pieces: scored.length, tokens, deadLetters, reached: documents + documentsIn(letters) }
}
