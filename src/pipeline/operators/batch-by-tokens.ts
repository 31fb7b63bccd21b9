/** @file Pieces → batches of about equal cost, by length, so that little padding is computed. */
import { concatMap, from, toArray, type OperatorFunction, pipe } from 'rxjs'

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
}

/**
 * Piece → Piece[]: sorted by length, cut when the next would pass a bound. Holds all until the end (a chunk, which its
 * reader bounds), then emits the longest batch first. The same pieces make the same batches, in whatever order they came.
 */
export const batchByTokens = <P extends Sized>(bounds: BatchBounds): OperatorFunction<P, readonly P[]> =>
  pipe(toArray(), concatMap((pieces) => from(batchesByTokens(pieces, bounds))))

export const batchesByTokens = <P extends Sized>(pieces: readonly P[], { tokensMax, sequencesMax }: BatchBounds): readonly (readonly P[])[] => {
  const sorted = [...pieces].sort(
    (a, b) => b.tokens.length - a.tokens.length || a.partition - b.partition || a.offset - b.offset || a.piece - b.piece,
  )
  const batches: P[][] = []
  for (const piece of sorted) {
    const last = batches[batches.length - 1]
    if (last !== undefined && last.length < sequencesMax && (last.length + 1) * last[0].tokens.length <= tokensMax) last.push(piece)
    else batches.push([piece])
  }
  return batches
}
