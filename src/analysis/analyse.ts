/** @file All figures of a run, read off its state at once. */
import { answers, type Answers, type TopTexts } from './answers.js'
import { selfChecks, type OwnScores, type SelfCheck } from './checks.js'
import { baselines, type Baselines } from './baselines.js'
import { correlations, type Correlations } from './correlation.js'
import { findings, type Finding } from './findings.js'
import { magnitudes, type Magnitudes } from './magnitude.js'
import { powerLaws, type PowerLaws } from './power-law.js'
import { sources, type Sources } from './sources.js'
import { spurious, type JudgedPair, type Spurious } from './spurious.js'
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
  readonly spurious: Readonly<Record<ScoreKind, Spurious>>
  readonly baselines: Readonly<Record<ScoreKind, Baselines>>
  readonly selfChecks: readonly SelfCheck[]
  readonly findings: readonly Finding[]
}

/** What the topics do not hold: computed with the run's checkpoint and factors, where it was. */
export interface AnalyseParts {
  readonly ownScores?: OwnScores
  /** By `pairKey`. */
  readonly judged?: ReadonlyMap<string, JudgedPair>
}

/** @param texts what stands in the documents at the top of this very state */
export const analyse = (state: AnalysisState, texts: TopTexts, { ownScores, judged = new Map() }: AnalyseParts = {}): Analyses => {
  const both = <T>(read: (kind: ScoreKind) => T): Readonly<Record<ScoreKind, T>> => ({ raw: read('raw'), normed: read('normed') })
  const parts = {
    correlations: both((kind) => correlations(state, kind)),
    magnitudes: both((kind) => magnitudes(state, kind)),
    powerLaws: both((kind) => powerLaws(state, kind)),
    answers: both((kind) => answers(state, texts, kind)),
    sources: both((kind) => sources(state, kind)),
    spurious: both((kind) => spurious(state, kind, judged)),
  }
  return {
    documents: state.count,
    ...parts,
    baselines: both((kind) => baselines(state, kind, { correlations: parts.correlations[kind], magnitudes: parts.magnitudes[kind], powerLaws: parts.powerLaws[kind], answers: parts.answers[kind], sources: parts.sources[kind] })),
    selfChecks: selfChecks(state, ownScores),
    findings: scoreKinds.flatMap((kind) =>
      findings(kind, {
        correlations: parts.correlations[kind], magnitudes: parts.magnitudes[kind], powerLaws: parts.powerLaws[kind], answers: parts.answers[kind], sources: parts.sources[kind],
      }),
    ),
  }
}
