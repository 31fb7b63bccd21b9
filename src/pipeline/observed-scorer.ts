/** @file A scorer whose batches an observer is told of. */
import type { ObservedBatch, Observer } from './observer.js'
import type { Piece } from './operators/to-pieces.js'
import type { Scorer } from './score-chunk.js'

/** The same scores. A batch that fails is not told of. */
export const observedScorer =
  (scorer: Scorer, observer: Observer): Scorer =>
  async (batch) => {
    const done = observer.batch(observedBatch(batch))
    const scores = await scorer(batch)
    done()
    return scores
  }

/** What a batch of pieces is to the engine: padded to its longest. */
export const observedBatch = (batch: readonly Piece[]): ObservedBatch => {
  let [tokens, longest, least, greatest] = [0, 0, Infinity, -1]
  for (const piece of batch) {
    tokens += piece.tokens.length
    longest = Math.max(longest, piece.tokens.length)
    least = Math.min(least, piece.offset)
    greatest = Math.max(greatest, piece.offset)
  }
  const isOfOne = batch.every(({ partition }) => partition === batch[0].partition)
  return {
    ...(isOfOne && batch.length > 0 ? { partition: batch[0].partition, offsets: [least, greatest] as const } : {}),
    sequences: batch.length, tokens, padded: batch.length * longest,
  }
}
