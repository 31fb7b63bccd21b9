/**
 * @file A run's analyses as figures: words, tables and remarks, the same for terminal, page and files. Numbers stay numbers
 * here; format.ts shows them.
 */
import { figureTexts, scoreKinds, type Analyses, type FigureText, type ScoreKind } from '../analysis/index.js'
import type { FigureName } from '../settings/index.js'
import { formatNumber, type Cell, type Format } from './format.js'

export interface Column {
  readonly name: string
  readonly format: Format
}

export interface DataTable {
  /** Its file's name, without an ending. */
  readonly id: string
  readonly title: string
  readonly columns: readonly Column[]
  readonly rows: readonly (readonly Cell[])[]
  /** Too long to be read: for files, and behind a fold on the page. */
  readonly isLong: boolean
}

export interface Figure {
  readonly name: Exclude<FigureName, 'findings'>
  readonly kind: ScoreKind
  readonly text: FigureText
  /** What this run's numbers show, with n, and what is not significant. */
  readonly remarks: readonly string[]
  readonly tables: readonly DataTable[]
}

/** Raw or normed, in words. */
export const kindWords: Readonly<Record<ScoreKind, string>> = { raw: 'raw influence', normed: "influence / norm of the document's gradient" }

const columns = (spec: Readonly<Record<string, Format>>): Column[] => Object.entries(spec).map(([name, format]) => ({ name, format }))
const n = (value: number): string => value.toLocaleString('en-US')

/** Every figure by one kind of score. */
export const figuresOf = (analyses: Analyses, kind: ScoreKind): Figure[] => [
  correlationFigure(analyses, kind), overlapFigure(analyses, kind), magnitudeFigure(analyses, kind), powerLawFigure(analyses, kind),
  answersFigure(analyses, kind), labelsFigure(analyses, kind), sourcesFigure(analyses, kind), spuriousFigure(analyses, kind),
  baselinesFigure(analyses, kind), selfCheckFigure(analyses, kind),
]

/** Every figure, raw first. */
export const allFigures = (analyses: Analyses): Figure[] => scoreKinds.flatMap((kind) => figuresOf(analyses, kind))

const correlationFigure = ({ correlations }: Analyses, kind: ScoreKind): Figure => {
  const { summary, cells, blocks, documents, reasoning, highest } = correlations[kind]
  const weak = cells.filter(({ pCorrected }) => !(pCorrected < 0.05)).map(({ cell }) => cell)
  return {
    name: 'correlation', kind, text: figureTexts.correlation,
    remarks: [
      `n = ${n(documents)} documents.`,
      ...(reasoning === null ? [] : [
        `Within reasoning tasks the mean r is ${reasoning.within.toFixed(3)}, between them ${reasoning.between.toFixed(3)}; tasks exchanged at random: p = ${reasoning.p.toFixed(4)}${reasoning.p < 0.05 ? '' : ', not significant'}.`,
      ]),
      ...(weak.length === 0 ? [] : [`Not significant (corrected p ≥ 0.05): ${weak.join(', ')}.`]),
      ...(highest === null ? [] : [`Highest pair: ${highest.a} and ${highest.b}, r = ${highest.r.toFixed(2)}.`]),
    ],
    tables: [
      {
        id: `correlation-summary-${kind}`, title: 'Means over pairs of queries', isLong: false, columns: columns({ pairs: 'text', n: 'count', 'mean r': 'number' }),
        rows: summary.map(({ name, pairs, mean }) => [name, pairs, mean]),
      },
      {
        id: `correlation-tests-${kind}`, title: 'Does a task agree more with itself than with others?', isLong: false,
        columns: columns({ queries: 'text', n: 'count', 'r within': 'number', 'r with others': 'number', p: 'p', 'p corrected': 'p' }),
        rows: cells.map(({ cell, queries, within, others, p, pCorrected }) => [cell, queries, within, others, p, pCorrected]),
      },
      {
        id: `correlation-blocks-${kind}`, title: 'Mean of every block of the heatmap', isLong: true, columns: columns({ a: 'text', b: 'text', pairs: 'count', 'mean r': 'number' }),
        rows: blocks.map(({ a, b, pairs, mean }) => [a, b, pairs, mean]),
      },
    ],
  }
}

const overlapFigure = ({ correlations }: Analyses, kind: ScoreKind): Figure => {
  const { blocks, overlapK, overlapByChance, documents } = correlations[kind]
  return {
    name: 'overlap', kind, text: figureTexts.overlap,
    remarks: [`k = ${overlapK} of ${n(documents)} documents; two lists drawn at random would share ${(100 * overlapByChance).toFixed(1)} %. No test is made: compare with other groups.`],
    tables: [{
      id: `overlap-${kind}`, title: 'Mean share of the first documents in common', isLong: false, columns: columns({ a: 'text', b: 'text', pairs: 'count', 'in common': 'percent' }),
      rows: [...blocks].sort((x, y) => y.overlap - x.overlap).map(({ a, b, pairs, overlap }) => [a, b, pairs, overlap]),
    }],
  }
}

const magnitudeFigure = ({ magnitudes }: Analyses, kind: ScoreKind): Figure => {
  const { groups, test, curves, queries, documents, accuracy } = magnitudes[kind]
  const isExact = curves.every(({ points }) => points.every((point) => point.isExact))
  const against = (what: string, a: number, b: number, p: number): string =>
    `${what}: factual ${a.toPrecision(3)}, reasoning ${b.toPrecision(3)}, p = ${Number.isNaN(p) ? 'none' : p.toPrecision(2)}${p < 0.05 ? '' : ', not significant'}.`
  return {
    name: 'magnitude', kind, text: figureTexts.magnitude,
    remarks: [
      `n = ${n(documents)} documents. ${isExact ? 'All sums are exact.' : `Sums beyond the rows kept are within ${100 * accuracy} % (DDSketch); totals are exact.`}`,
      ...(test === null ? [] : [
        against('Sum per nat (Welch)', test.total.meanA, test.total.meanB, test.total.p),
        against('Distance from the median, relative (Brown-Forsythe)', test.spread.meanA, test.spread.meanB, test.spread.p),
      ]),
      'Influence is no share of anything: its scale depends on damping and factors, so compare groups of a run, not runs.',
    ],
    tables: [
      {
        id: `magnitude-groups-${kind}`, title: 'Sum of positive influence per nat', isLong: false,
        columns: columns({ group: 'text', queries: 'count', mean: 'number', deviation: 'number', 'relative deviation': 'number', 'held by the first 1 %': 'percent' }),
        rows: groups.map((group) => [group.group, group.queries, group.mean, group.deviation, group.relativeDeviation, group.topPercentShare]),
      },
      {
        id: `magnitude-queries-${kind}`, title: 'Every query', isLong: true,
        columns: columns({ query: 'text', group: 'text', positive: 'count', negative: 'count', 'sum per nat': 'number', 'negative sum per nat': 'number', 'held by the first 1 %': 'percent' }),
        rows: queries.map((query) => [query.query, query.group, query.positive, query.negative, query.totalPerNat, query.negativePerNat, query.topPercentShare]),
      },
      {
        id: `magnitude-curves-${kind}`, title: 'The curves', isLong: true,
        columns: columns({ group: 'text', sign: 'text', by: 'text', at: 'number', mean: 'number', deviation: 'number', 'quarter below': 'number', 'quarter above': 'number', queries: 'count', how: 'text' }),
        rows: curves.flatMap(({ group, sign, by, points }) =>
          points.map((point) => [group, sign, by, point.at, point.mean, point.deviation, point.low, point.high, point.queries, point.isExact ? 'exact' : 'sketch'])),
      },
    ],
  }
}

const powerLawFigure = ({ powerLaws }: Analyses, kind: ScoreKind): Figure => {
  const { groups, queries, test, testCorrect, rows, documents } = powerLaws[kind]
  const told = (what: string, of: typeof test): string[] =>
    of === null ? [] : [`${what}: factual ${of.meanA.toFixed(3)} (n = ${of.countA}), reasoning ${of.meanB.toFixed(3)} (n = ${of.countB}), Welch p = ${Number.isNaN(of.p) ? 'none' : of.p.toPrecision(2)}${of.p < 0.05 ? '' : ', not significant'}.`]
  return {
    name: 'power-law', kind, text: figureTexts['power-law'],
    remarks: [
      `n = ${n(documents)} documents; the first ${rows} are ${(100 * rows / Math.max(1, documents)).toPrecision(2)} % of them (paper: 0.01 %).`,
      ...told('All queries', test), ...told('Queries answered right', testCorrect),
    ],
    tables: [
      {
        id: `power-law-groups-${kind}`, title: 'Slopes by group', isLong: false, columns: columns({ group: 'text', queries: 'count', 'mean slope': 'number', deviation: 'number', 'mean r²': 'number' }),
        rows: groups.map((group) => [group.group, group.queries, group.mean, group.deviation, group.r2]),
      },
      {
        id: `power-law-queries-${kind}`, title: 'Every query', isLong: true, columns: columns({ query: 'text', group: 'text', slope: 'number', 'r²': 'number', documents: 'count' }),
        rows: queries.map((query) => [query.query, query.group, query.slope, query.r2, query.rows]),
      },
    ],
  }
}

const answersFigure = ({ answers }: Analyses, kind: ScoreKind): Figure => {
  const { hits, queries, texts, documents, rows } = answers[kind]
  const readings = queries.flatMap((query) => query.readings.map((reading) => [query.query, reading.rank, reading.document, reading.source, reading.overlap, reading.excerpt]))
  const rank = (value: number | null): Cell => value ?? `not in ${rows}`
  return {
    name: 'answers', kind, text: figureTexts.answers,
    remarks: [
      `n = ${n(texts)} documents with text, of ${n(documents)} scored (pieces count, where long documents are split).`,
      'Where p ≥ 0.05 the hits are no more than chance gives. Steps are taken to occur apart from each other, which flatters chance a little.',
    ],
    tables: [
      {
        id: `answers-hits-${kind}`, title: 'Queries with a hit in their first documents', isLong: false,
        columns: columns({ group: 'text', hit: 'text', queries: 'text', 'first n': 'count', of: 'count', hits: 'count', 'by chance': 'number', p: 'p', "with others' answers": 'number' }),
        rows: hits.map((hit) => [hit.group, hit.by, hit.only, hit.n, hit.queries, hit.hits, hit.byChance, hit.p, hit.withOthersAnswers]),
      },
      {
        id: `answers-queries-${kind}`, title: 'Every query', isLong: true,
        columns: columns({ query: 'text', group: 'text', right: 'text', 'rank of the answer': 'count', 'in the corpus': 'count', 'rank by which all steps stood': 'count', steps: 'count', 'steps found': 'count' }),
        rows: queries.map((query) => [
          query.query, query.group, query.correct === null ? '–' : query.correct ? 'yes' : 'no', rank(query.answerRank), query.answerInCorpus,
          query.steps.length === 0 ? '–' : rank(query.stepsRank), query.steps.length, query.steps.filter((step) => step.rank !== null).length,
        ]),
      },
      {
        id: `answers-readings-${kind}`, title: 'To be read: first documents that share most words with the query', isLong: true,
        columns: columns({ query: 'text', rank: 'count', document: 'text', source: 'text', 'words in common': 'percent', 'begins': 'text' }), rows: readings,
      },
    ],
  }
}

const labelsFigure = ({ answers }: Analyses, kind: ScoreKind): Figure => {
  const { labels, documents } = answers[kind]
  return {
    name: 'labels', kind, text: figureTexts.labels,
    remarks: labels.length === 0
      ? ['The documents of this run carry no labels (or are fewer than 200): nothing is measured.']
      : [`n = ${n(documents)} documents. Significant: hypergeometric test of one query, p < 0.05 corrected for the number of queries (Holm).`],
    tables: [{
      id: `labels-${kind}`, title: 'Labelled documents in the first ones', isLong: false,
      columns: columns({ group: 'text', task: 'text', 'first n': 'count', queries: 'count', 'with one at least': 'count', 'by chance': 'number', 'share of the list': 'percent', 'share of the corpus': 'percent', 'queries significant': 'count' }),
      rows: labels.map((hit) => [hit.group, hit.task, hit.n, hit.queries, hit.reached, hit.reachedByChance, hit.share, hit.corpusShare, hit.significant]),
    }],
  }
}

const sourcesFigure = ({ sources }: Analyses, kind: ScoreKind): Figure => {
  const { corpus, shares, ks, ksLeftOut, documents } = sources[kind]
  const weak = shares.filter(({ pCorrected }) => !(pCorrected < 0.05)).length
  return {
    name: 'sources', kind, text: figureTexts.sources,
    remarks: [
      `n = ${n(documents)} documents, ${corpus.length} sources. ${weak} of ${shares.length} bars are not significant (corrected p ≥ 0.05).`,
      'The interval is for other queries of the kind; p is against sources dealt to documents at random, with these very lists. Where the queries of a group differ much, p can be small and the interval wide.',
      ...(ksLeftOut.length === 0 ? [] : [`Left out: k = ${ksLeftOut.map(n).join(', ')}, more than half of the documents (or than --depth).`]),
      ...(ks.some((k) => k * 10 > documents) ? [`A list of more than a tenth of the corpus cannot be far from it: read k above ${n(Math.floor(documents / 10))} with that in mind.`] : []),
    ],
    tables: [
      {
        id: `sources-corpus-${kind}`, title: 'The corpus', isLong: true, columns: columns({ source: 'text', documents: 'count', share: 'percent' }),
        rows: corpus.map(({ source, documents: count, share }) => [source, count, share]),
      },
      {
        id: `sources-${kind}`, title: 'Share of the list over share of the corpus', isLong: true,
        columns: columns({ group: 'text', end: 'text', k: 'count', source: 'text', multiplier: 'number', 'from': 'number', to: 'number', p: 'p', 'p corrected': 'p', queries: 'count' }),
        rows: shares.map((bar) => [bar.group, bar.end, bar.k, bar.source, bar.multiplier, ...bar.interval, bar.p, bar.pCorrected, bar.queries]),
      },
    ],
  }
}

const spuriousFigure = ({ spurious }: Analyses, kind: ScoreKind): Figure => {
  const { rows, judged, groups, queries, flagged } = spurious[kind]
  const many = Math.max(0, ...queries.map((query) => query.judged))
  return {
    name: 'spurious', kind, text: figureTexts.spurious,
    remarks: judged === 0
      ? ['No document was looked at: tributary analyses spurious, or --spurious N, does so (it needs checkpoint and factors).']
      : [
          `n = ${n(judged)} pairs of a query and a document: the first ${n(rows)} of every query${many > rows ? `, of some up to ${n(many)}` : ''}. ${n(flagged.length)} are flagged (${formatNumber((100 * flagged.length) / judged)} %).`,
          'A rule, not a test: 2/3 is the bound that Grosse et al. chose.',
        ],
    tables: judged === 0 ? [] : [
      {
        id: `spurious-groups-${kind}`, title: 'By group', isLong: false,
        columns: columns({ group: 'text', queries: 'count', 'documents looked at': 'count', flagged: 'count', 'median ‖a‖₂/‖a‖₁': 'number', 'queries whose first is flagged': 'count' }),
        rows: groups.map((group) => [group.group, group.queries, group.judged, group.flagged, group.median, group.firstFlagged]),
      },
      {
        id: `spurious-flagged-${kind}`, title: 'Flagged documents', isLong: true,
        columns: columns({ query: 'text', rank: 'count', document: 'text', source: 'text', score: 'number', '‖a‖₂/‖a‖₁': 'number', 'strongest token': 'text', 'at token': 'count', 'its share of ‖a‖₁': 'percent', tokens: 'count' }),
        rows: flagged.map((row) => [row.query, row.rank, row.document, row.source, row.score, row.concentration, row.token, row.tokenAt, row.tokenShare, row.tokens]),
      },
      {
        id: `spurious-queries-${kind}`, title: 'Every query without them', isLong: true,
        columns: columns({ query: 'text', group: 'text', 'documents looked at': 'count', flagged: 'count', 'first that is not flagged': 'count' }),
        rows: queries.map((query) => [query.query, query.group, query.judged, query.flagged, query.firstSound ?? 'none']),
      },
    ],
  }
}

const baselinesFigure = ({ baselines }: Analyses, kind: ScoreKind): Figure => ({
  name: 'baselines', kind, text: figureTexts.baselines,
  remarks: [`n = ${n(baselines[kind].documents)} documents. Ranges are the middle 95 % of 999 draws (lists in common: of a normal approximation); where none stands, the figure's own p tells how far chance goes.`],
  tables: [{
    id: `baselines-${kind}`, title: 'This run and nothing', isLong: false,
    columns: columns({ figure: 'text', measure: 'text', 'this run': 'number', baseline: 'number', from: 'number', to: 'number', 'what is random': 'text' }),
    rows: baselines[kind].rows.map(({ figure, measure, value, baseline, range, of }) => [figure, measure, value, baseline, range?.[0] ?? null, range?.[1] ?? null, of]),
  }],
})

/** Below this many nats nothing of a completion is left to learn, and its text ranks as its prompt does. */
const sureNats = 0.05

const selfCheckFigure = ({ selfChecks, documents }: Analyses, kind: ScoreKind): Figure => {
  const own = selfChecks.filter((check) => check.kind === kind)
  const first = own.filter(({ rank }) => rank === 0).length
  return {
    name: 'self-checks', kind, text: figureTexts['self-checks'],
    remarks: own.length === 0
      ? ['No query\'s own text is a document of this run, and none was scored: --self-check scores them (it needs checkpoint and factors).']
      : [`${first} of ${own.length} own texts rank first, ${own.filter(({ rank }) => rank !== null && rank < 10).length} in the first ten, of ${n(documents)} documents.`, ...selfCheckRemarks(own)],
    tables: own.length === 0 ? [] : [{
      id: `self-checks-${kind}`, title: 'Ranks of own texts', isLong: true, columns: columns({ query: 'text', 'the text is': 'text', rank: 'count', score: 'number', "the completion's nats": 'number', "the completion's part (raw)": 'number' }),
      rows: own.map(({ query, from, rank, score, informationNats, completionPart }) => [query, from === 'corpus' ? 'in the corpus' : 'scored for this', rank ?? 'beyond those kept', score, informationNats, completionPart]),
    }],
  }
}

const selfCheckRemarks = (own: Analyses['selfChecks']): string[] => {
  const later = own.filter(({ rank }) => rank !== 0)
  const sure = later.filter(({ informationNats }) => informationNats < sureNats).length
  const parts = own.flatMap(({ completionPart }) => completionPart ?? [])
  return [
    ...(later.length === 0 ? [] : [`Of the ${later.length} that do not rank first, ${sure} have completions of less than ${sureNats} nats: their rank is that of their prompt.`]),
    ...(parts.length === 0 ? [] : [`The completion's own part of the score is positive for ${parts.filter((part) => part > 0).length} of ${parts.length}; it has to be.`]),
  ]
}
