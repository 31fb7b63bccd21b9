/** @file A scorer whose batches an observer is told of. */
import { paddedLength } from '../influence/index.js'
import type { ObservedBatch, Observer } from './observer.js'
import type { Piece } from './operators/to-pieces.js'
import type { Scorer } from './score-chunk.js'

/** The same scores. A batch that fails is not told of. `lengthMax`: positions that the model knows, see `paddedLength`. */
export const observedScorer =
  (scorer: Scorer, observer: Observer, { lengthMax }: { readonly lengthMax: number }): Scorer =>
  async (batch) => {
    const done = observer.batch(observedBatch(batch, (longest) => paddedLength(longest, lengthMax)))
    const scores = await scorer(batch)
    done()
    return scores
  }

/** What a batch of pieces is to the engine: padded to its longest, or to what is made of it. */
export const observedBatch = (batch: readonly Piece[], padded: (longest: number) => number = (longest) => longest): ObservedBatch => {
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
    sequences: batch.length, tokens, padded: batch.length * padded(longest),
  }
}
