/** @file All figures of a run, read off its state at once. */
import { answers, type Answers, type TopTexts } from './answers.js'
import { selfChecks, type OwnScores, type SelfCheck } from './checks.js'
import { correlations, type Correlations } from './correlation.js'
import { findings, type Finding } from './findings.js'
import { magnitudes, type Magnitudes } from './magnitude.js'
import { powerLaws, type PowerLaws } from './power-law.js'
import { sources, type Sources } from './sources.js'
import type { AnalysisState } from './state.js'
import { scoreKinds, type ScoreKind } from './types.js'

/** Every figure, by raw and by normed influence. JSON can hold it (NaN becomes null). */
export interface Analyses {
  readonly documents: number
  readonly correlations: Readonly<Record<ScoreKind, Correlations>>
  readonly magnitudes: Readonly<Record<ScoreKind, Magnitudes>>
  readonly powerLaws: Readonly<Record<ScoreKind, PowerLaws>>
  readonly answers: Readonly<Record<ScoreKind, Answers>>
  readonly sources: Readonly<Record<ScoreKind, Sources>>
  readonly selfChecks: readonly SelfCheck[]
  readonly findings: readonly Finding[]
}

/** @param texts what stands in the documents at the top of this very state */
export const analyse = (state: AnalysisState, texts: TopTexts, ownScores?: OwnScores): Analyses => {
  const both = <T>(read: (kind: ScoreKind) => T): Readonly<Record<ScoreKind, T>> => ({ raw: read('raw'), normed: read('normed') })
  const parts = {
    correlations: both((kind) => correlations(state, kind)),
    magnitudes: both((kind) => magnitudes(state, kind)),
    powerLaws: both((kind) => powerLaws(state, kind)),
    answers: both((kind) => answers(state, texts, kind)),
    sources: both((kind) => sources(state, kind)),
  }
  return {
    documents: state.count,
    ...parts,
    selfChecks: selfChecks(state, ownScores),
    findings: scoreKinds.flatMap((kind) =>
      findings(kind, {
        correlations: parts.correlations[kind], magnitudes: parts.magnitudes[kind], powerLaws: parts.powerLaws[kind], answers: parts.answers[kind], sources: parts.sources[kind],
      }),
    ),
  }
}
