/**
 * @file The paper's findings as hypotheses on a run, each with a verdict by a rule that is stated, numbers and test. One
 * run on one corpus: a verdict says what this run shows, not what holds in general.
 */
import type { Answers } from './answers.js'
import type { Correlations } from './correlation.js'
import type { Magnitudes } from './magnitude.js'
import { paper } from './paper.js'
import type { PowerLaws } from './power-law.js'
import type { Sources } from './sources.js'
import type { ScoreKind } from './types.js'

export type Verdict = 'agrees' | 'disagrees' | 'undecided' | 'not measured'

export interface Finding {
  readonly number: number
  readonly hypothesis: string
  readonly kind: ScoreKind
  readonly verdict: Verdict
  /** How the verdict is reached. */
  readonly rule: string
  readonly numbers: readonly string[]
  readonly paper: readonly string[]
}

export interface ReadOff {
  readonly correlations: Correlations
  readonly magnitudes: Magnitudes
  readonly powerLaws: PowerLaws
  readonly answers: Answers
  readonly sources: Sources
}

/** What p says of a direction: true where it is as expected, false where it is the other way, null where nothing is shown. */
const shown = (asExpected: boolean, p: number): boolean | null => (Number.isNaN(p) || p >= 0.05 ? null : asExpected)

const verdictOf = (parts: readonly (boolean | null)[]): Verdict =>
  parts.length === 0 ? 'not measured' : parts.every((part) => part === true) ? 'agrees' : parts.some((part) => part === false) ? 'disagrees' : 'undecided'

/** A comparison without a test: it can hold a verdict back, not turn it. */
const orNull = (asExpected: boolean): true | null => (asExpected ? true : null)

const number = (value: number): string => (Number.isNaN(value) ? 'none' : Math.abs(value) >= 1000 || (Math.abs(value) < 0.001 && value !== 0) ? value.toExponential(1) : String(Number(value.toPrecision(3))))
const pOf = (p: number): string => (Number.isNaN(p) ? 'p: none' : p < 1e-10 ? 'p < 1e-10' : p < 0.001 ? `p = ${p.toExponential(1)}` : `p = ${p.toFixed(3)}`)
const percent = (share: number): string => `${number(100 * share)} %`

/** The findings, judged by one kind of score. */
export const findings = (kind: ScoreKind, read: ReadOff): Finding[] => [
  sharedProcedure(kind, read),
  lessPerDocument(kind, read),
  answersForFacts(kind, read),
  procedureDocuments(kind, read),
  sourcesStandOut(kind, read),
]

const sharedProcedure = (kind: ScoreKind, { correlations: { reasoning, summary, cells, documents } }: ReadOff): Finding => {
  const factual = summary.find(({ name }) => name === 'factual with factual')
  // One-sided: a p near 1 is as clear, the other way.
  const isShared = reasoning === null ? null : reasoning.p < 0.05 ? true : reasoning.p > 0.975 ? false : null
  const parts = reasoning === null ? [] : [isShared, ...(factual === undefined ? [] : [orNull(reasoning.within > factual.mean)])]
  return {
    number: 1, kind, hypothesis: 'Reasoning queries of one task draw on the same documents; factual queries do not.',
    verdict: verdictOf(parts), paper: paper.correlation,
    rule: 'agrees: mean r within reasoning tasks is greater than between them (tasks exchanged at random, p < 0.05), and greater than among factual queries',
    numbers: reasoning === null
      ? ['needs reasoning queries of two tasks at least']
      : [
          `mean r over ${documents.toLocaleString('en-US')} documents: within reasoning tasks ${number(reasoning.within)}, between them ${number(reasoning.between)}, ${pOf(reasoning.p)}`,
          ...(factual === undefined ? ['no factual queries to compare with'] : [`factual with factual ${number(factual.mean)} (${factual.pairs} pairs)`]),
          ...cells.map(({ cell, queries, within, others, pCorrected }) => `${cell} (${queries} queries): ${number(within)} within, ${number(others)} with others, corrected ${pOf(pCorrected)}`),
        ],
  }
}

const lessPerDocument = (kind: ScoreKind, { magnitudes: { test, groups }, powerLaws }: ReadOff): Finding => {
  const slope = powerLaws.test
  return {
    number: 2, kind, hypothesis: 'For reasoning the model relies on each document less, per nat, and more evenly, than for facts.',
    verdict: verdictOf(test === null ? [] : [shown(test.total.meanA > test.total.meanB, test.total.p), shown(test.spread.meanA > test.spread.meanB, test.spread.p)]),
    rule: 'agrees: sums of positive influence per nat are greater for factual queries (Welch, p < 0.05), and spread more about their median (Brown-Forsythe, relative to it, p < 0.05)',
    paper: [...paper.magnitude, ...paper.powerLaw],
    numbers: test === null
      ? ['needs two factual and two reasoning queries at least']
      : [
          `sum per nat: factual ${number(test.total.meanA)} (${test.total.countA} queries), reasoning ${number(test.total.meanB)} (${test.total.countB}), ${pOf(test.total.p)}`,
          `distance from the median, relative: factual ${number(test.spread.meanA)}, reasoning ${number(test.spread.meanB)}, ${pOf(test.spread.p)}`,
          ...groups.map(({ group, topPercentShare }) => `the first 1 % of the positive documents hold ${percent(topPercentShare)} of the sum (${group})`),
          ...(slope === null ? [] : [`slope over the first ${powerLaws.rows}: factual ${number(slope.meanA)}, reasoning ${number(slope.meanB)}, ${pOf(slope.p)}`]),
        ],
  }
}

const answersForFacts = (kind: ScoreKind, { answers: { hits, documents } }: ReadOff): Finding => {
  const longest = (group: string, by: string): Answers['hits'][number] | undefined => {
    const own = hits.filter((hit) => hit.group === group && hit.by === by && hit.only === 'all')
    // The list whose length comes nearest to the paper's share of the corpus, but not below ten documents.
    return own[0]
  }
  const factual = longest('factual', 'answer')
  const reasoning = longest('reasoning', 'steps') ?? longest('reasoning', 'answer')
  const told = (name: string, hit: Answers['hits'][number]): string =>
    `${name}: ${hit.hits} of ${hit.queries} queries have their ${hit.by} in the first ${hit.n} of ${documents.toLocaleString('en-US')}, ${number(hit.byChance)} by chance, ${pOf(hit.p)}; with other queries' answers ${number(hit.withOthersAnswers)}`
  return {
    number: 3, kind, hypothesis: 'Answers to factual queries stand in their first documents; those of reasoning queries do not.',
    verdict: verdictOf(
      factual === undefined || reasoning === undefined
        ? []
        : [shown(factual.hits > factual.byChance, factual.p), orNull(factual.hits / factual.queries > reasoning.hits / reasoning.queries), reasoning.p >= 0.05],
    ),
    rule: 'agrees: more factual queries than by chance have a hit in the shortest list looked at (p < 0.05), a greater share than of reasoning queries, and reasoning has no more than chance (p ≥ 0.05)',
    paper: paper.answers,
    numbers: factual === undefined || reasoning === undefined ? ['needs factual and reasoning queries with answers, and documents with text'] : [told('factual', factual), told('reasoning', reasoning)],
  }
}

const procedureDocuments = (kind: ScoreKind, { answers: { labels } }: ReadOff): Finding => {
  const own = labels.filter(({ group }) => group === 'reasoning')
  return {
    number: 4, kind, hypothesis: 'The first documents of reasoning queries describe the procedure.',
    verdict: verdictOf(own.map(({ share, corpusShare, significant, queries }) => orNull(share > corpusShare && significant > queries / 2))),
    rule: 'agrees: in every reasoning task, documents labelled with the procedure are over-represented in the first documents of most queries (hypergeometric, p < 0.05 corrected)',
    paper: paper.procedure,
    numbers: own.length === 0
      ? ['documents carry no labels of what they teach (docs/analyses.md says how to give them)']
      : own.map(({ task, n, queries, reached, reachedByChance, share, corpusShare, significant }) =>
          `${task}: ${percent(share)} of the first ${n} teach it, ${percent(corpusShare)} of the corpus; ${significant} of ${queries} queries significantly; reached ${reached} of ${queries} (${number(reachedByChance)} by chance)`),
  }
}

const sourcesStandOut = (kind: ScoreKind, { sources: { shares, ks } }: ReadOff): Finding => {
  const k = ks.find((each) => each >= 500) ?? ks[0]
  const top = shares.filter((share) => share.group === 'reasoning' && share.end === 'top' && share.k === k)
  const over = top.filter(({ multiplier, pCorrected }) => multiplier > 1 && pCorrected < 0.05).sort((a, b) => b.multiplier - a.multiplier)
  return {
    number: 5, kind, hypothesis: 'Some sources (code, mathematics, forums) are over-represented among the first documents of reasoning queries.',
    verdict: top.length === 0 ? 'not measured' : top.length < 2 ? 'not measured' : over.length > 0 ? 'agrees' : 'undecided',
    rule: 'agrees: some source has a multiplier above 1 with p < 0.05, corrected for all bars of the group; whether it holds code or mathematics is for the reader to say',
    paper: paper.sources,
    numbers: top.length === 0
      ? ['needs reasoning queries, two sources and a corpus of 100 documents at least']
      : top.length < 2 ? ['the corpus has one source'] : [
          ...(over.length === 0 ? [`none at k = ${k}`] : []),
          ...over.map(({ source, multiplier, interval, pCorrected }) => `${source} × ${number(multiplier)} (${number(interval[0])} to ${number(interval[1])}) at k = ${k}, corrected ${pOf(pCorrected)}`),
        ],
  }
}
