/**
 * @file The papers' analyses (docs/analyses.md): a mergeable state of a run's scores, and what is read off it. Pure; knows
 * nothing of logs, engines or pages. Law: the state is a function of the set of documents, whatever order, split or merge;
 * every figure is a function of the state (and the texts at its top), chance included: it is seeded by what is tested.
 */
export { answerRows, answers, TopTexts, type Answers, type Hits, type LabelHits, type QueryAnswers, type Reading, type TopText } from './answers.js'
export { baselines, type Baseline, type Baselines } from './baselines.js'
export { concentration, concentrationMax, isSpurious, selfChecks, type OwnScores, type SelfCheck } from './checks.js'
export { correlations, type Block, type CellTest, type Correlations } from './correlation.js'
export { DeepTable, type DeepRows } from './deep-table.js'
export { figureTexts, type FigureText } from './figure-texts.js'
export { findings, type Finding, type Verdict } from './findings.js'
export { magnitudes, type CurvePoint, type MagnitudeCurve, type Magnitudes, type QueryMagnitude } from './magnitude.js'
export { keywordsOf, needlesOf, overlapOf, wordsOf, type Needle } from './needles.js'
export { pack, unpack } from './packed.js'
export { paper } from './paper.js'
export { powerLaws, slopeRows, type PowerLaws, type QuerySlope } from './power-law.js'
export { otherSources, sourceKs, sources, type Sources, type SourceShare } from './sources.js'
export { isFlagged, pairKey, pairsToJudge, spurious, type JudgedPair, type JudgedRow, type Spurious } from './spurious.js'
export { AnalysisState, depthDefault, ownTextOf, type OwnText, type StateOptions } from './state.js'
export { atLeast, drawnAtLeast, holm, noneDrawn, shareInterval, welch, type Comparison } from './statistics.js'
export { analyse, type Analyses, type AnalyseParts } from './analyse.js'
export {
  cellOf, ends, isControl, offsetOfPlace, partitionOfPlace, placeOf, scoreKinds,
  type AnalysedDocument, type AnalysedQuery, type ListEnd, type Place, type ScoreKind,
} from './types.js'
