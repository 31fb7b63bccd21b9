/**
 * @file Pieces → batches of about equal cost and of one padded length, so that little padding is computed and nobody's
 * scores depend on whom it is computed with (influence/joins.ts says how far that goes).
 */
import { concatMap, from, toArray, type OperatorFunction, pipe } from 'rxjs'
import { paddedLength } from '../../influence/index.js'

/** What a batch is cut by. */
export interface Sized {
  readonly tokens: ArrayLike<number>
  readonly partition: number
  readonly offset: number
  readonly piece: number
}

export interface BatchBounds {
  /** B·T at most, padding included; a longer sequence is a batch of its own. */
  readonly tokensMax: number
  /** B at most. */
  readonly sequencesMax: number
  /** Positions that the model knows: T at most. */
  readonly lengthMax: number
}

/**
 * Piece → Piece[]: sorted by length, cut where the padded length changes or the next would pass a bound. Holds all until the end (a chunk, which its
 * reader bounds), then emits the longest batch first. The same pieces make the same batches, in whatever order they came.
 */
export const batchByTokens = <P extends Sized>(bounds: BatchBounds): OperatorFunction<P, readonly P[]> =>
  pipe(toArray(), concatMap((pieces) => from(batchesByTokens(pieces, bounds))))

export const batchesByTokens = <P extends Sized>(pieces: readonly P[], { tokensMax, sequencesMax, lengthMax }: BatchBounds): readonly (readonly P[])[] => {
  const sorted = [...pieces].sort(
    (a, b) => b.tokens.length - a.tokens.length || a.partition - b.partition || a.offset - b.offset || a.piece - b.piece,
  )
  const batches: P[][] = []
  let length = 0
  for (const piece of sorted) {
    const last = batches[batches.length - 1]
    const own = paddedLength(piece.tokens.length, lengthMax)
    if (last !== undefined && own === length && last.length < sequencesMax && (last.length + 1) * length <= tokensMax) last.push(piece)
    else batches.push([piece])
    length = own
  }
  return batches
}
