/** @file What a scored document must be before it may touch a table or a sum. */
import type { Scored } from './types.js'

/** The greatest magnitude of a raw or normed score: the greatest finite f32. */
export const scoreMax = 3.4028234663852886e38

/**
 * Why a document cannot be counted, or undefined if it can: a score is NaN or infinite, the gradient norm is not a
 * positive number, or a score divided by it leaves the range of f32 (`scoreMax`). The caller dead-letters it.
 */
export const problemOf = ({ influence, gradientNorm }: Scored): string | undefined => {
  if (!(gradientNorm > 0 && gradientNorm < Infinity)) return `its gradient norm is ${gradientNorm}, not a positive number`
  for (let q = 0; q < influence.length; q++) {
    const score = influence[q]
    if (!(score >= -scoreMax && score <= scoreMax)) return `its influence on query ${q} is ${score}`
    const normed = Math.fround(score / gradientNorm)
    if (!(normed >= -scoreMax && normed <= scoreMax))
      return `its influence on query ${q}, ${score}, divided by its gradient norm ${gradientNorm} is out of range`
  }
  return undefined
}

/** Throws before anything is touched: RangeError for a document that cannot be counted, Error for a wrong Q. */
export const checkBatch = (batch: readonly Scored[], queries: number): void => {
  for (const scored of batch) {
    const { document, source, piece, influence } = scored
    const name = `document "${document}" of "${source}", piece ${piece}`
    if (influence.length !== queries) throw new Error(`${name} has ${influence.length} scores for ${queries} queries`)
    const problem = problemOf(scored)
    if (problem !== undefined) throw new RangeError(`${name}: ${problem}`)
  }
}
