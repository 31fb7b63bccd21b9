/**
 * @file Whether a run can be believed. A query's own text, as a document, must rank first; a score that hangs on one token
 * is suspect (docs/method.md §6).
 */
import type { AnalysisState } from './state.js'
import { scoreKinds, type ScoreKind } from './types.js'

/** A query's own text among all documents. */
export interface SelfCheck {
  readonly query: string
  readonly kind: ScoreKind
  /** Whether the text is a document of the corpus, or was scored for this check. */
  readonly from: 'corpus' | 'scored'
  /** Documents with a greater score; null: more than are kept. */
  readonly rank: number | null
  readonly score: number
  /** −f, nats: what the completion adds to the loss of the text. */
  readonly informationNats: number
  /**
   * The completion's own part of the raw score, ∇fᵀ(G + λI)⁻¹∇f: the text's score less that of its prompt alone. A squared
   * length, so never negative in a right run. Null where it was not scored.
   */
  readonly completionPart: number | null
}

/** Scores of the queries' own texts, raw and normed, in the run's order; and the raw score of the prompt alone, null where it is no part of the text. */
export type OwnScores = readonly { readonly raw: number; readonly normed: number; readonly promptRaw: number | null }[]

/** Ranks of the queries' own texts: those in the corpus, and, where they were scored, all. */
export const selfChecks = (state: AnalysisState, scored?: OwnScores): SelfCheck[] => {
  const rankOf = (q: number, kind: ScoreKind, score: number): number | null => {
    const { scores, size } = state.rows(q, kind, 'top')
    let rank = 0
    while (rank < size && scores[rank] > score) rank++
    return rank === size && size < state.count ? null : rank
  }
  return scoreKinds.flatMap((kind) => [
    ...state.ownTexts().map((own): SelfCheck => ({
      query: state.queries[own.query].id, kind, from: 'corpus', rank: rankOf(own.query, kind, own[kind]), score: own[kind],
      informationNats: state.queries[own.query].informationNats, completionPart: null,
    })),
    ...(scored ?? []).map((own, q): SelfCheck => ({
      query: state.queries[q].id, kind, from: 'scored', rank: rankOf(q, kind, own[kind]), score: own[kind], informationNats: state.queries[q].informationNats,
      completionPart: own.promptRaw === null ? null : own.raw - own.promptRaw,
    })),
  ])
}

/** Above this, ‖a‖₂ / ‖a‖₁ of a pair's token-wise influence a says that it hangs on one token (Grosse et al. §5.3). */
export const concentrationMax = 2 / 3

/** ‖a‖₂ / ‖a‖₁: 1 where one token has all the influence, 1/√T where all have as much. NaN where none has any. */
export const concentration = (tokenInfluence: ArrayLike<number>): number => {
  let [sum, squares] = [0, 0]
  for (let t = 0; t < tokenInfluence.length; t++) {
    sum += Math.abs(tokenInfluence[t])
    squares += tokenInfluence[t] ** 2
  }
  return Math.sqrt(squares) / sum
}

/** Whether a (query, document) pair's influence hangs on one token. @param tokenInfluence [T], one a token */
export const isSpurious = (tokenInfluence: ArrayLike<number>): boolean => concentration(tokenInfluence) > concentrationMax
