/** @file The words beside every figure: what it shows, how to read it, what the paper found. The same on terminal and page. */
import { paper } from './paper.js'

export interface FigureText {
  readonly title: string
  readonly shows: string
  readonly reading: string
  readonly paper: readonly string[]
}

export const figureTexts = {
  correlation: {
    title: 'Which queries draw on the same documents',
    shows: "Pearson's r between the scores of two queries, over all documents scored, exact; one square a pair, queries ordered by group and task.",
    reading:
      'Near 1: the two completions are helped and harmed by the same documents. Near 0: they have nothing in common. A dark block on the diagonal is a task whose queries share what they learn from. ' +
      "A p-value says how often queries exchanged at random agree as well (one-sided); queries of one wording agree for that alone, which controls show.",
    paper: paper.correlation,
  },
  overlap: {
    title: 'Top documents in common',
    shows: 'The share of the first k documents that two queries have in common: the mean over the pairs of two groups.',
    reading: 'Correlation looks at all documents, this only at the very top. Compare with the share that chance gives.',
    paper: [],
  },
  magnitude: {
    title: 'How much influence, and from how many documents',
    shows: 'The sum of positive influence of the first documents of a query, per nat of its completion: against the share of its positive documents, and against their number. Line: mean of a group; band: middle half of its queries.',
    reading:
      'A higher line: the model leans more on single documents for each nat it says. A narrower band: queries of the group do so alike. A line that rises early: few documents hold most. ' +
      'Sums are exact up to the rows kept; beyond them within 1 % (DDSketch), which is said where it applies.',
    paper: paper.magnitude,
  },
  'power-law': {
    title: 'How fast influence falls with rank',
    shows: 'The slope of log influence against log rank over the first 500 documents of each query.',
    reading: '−0.3: ten times the rank, half the influence. Steeper (more negative): a few documents stand out. Near 0: a flat top. r² near 1: it is a power law indeed. In a small corpus 500 documents are a large part of it, and slopes do not compare with those of a large one.',
    paper: paper.powerLaw,
  },
  answers: {
    title: 'Answers in the first documents',
    shows: 'For how many queries the answer stands whole in one of its first n documents; for reasoning also whether every step stands in some of them. Words and numbers are matched whole.',
    reading:
      'By chance: the hits of n documents drawn from the corpus, from how often each answer occurs. A short answer such as "4" is everywhere and says nothing: only hits far above chance count. ' +
      "With others' answers: the same, each query looking for the answers of its group's other queries. p is of so many hits or more by chance.",
    paper: paper.answers,
  },
  labels: {
    title: 'Documents that teach what is needed',
    shows: 'Of documents labelled with what they teach: their share of the first 100 of the queries that need it, and of the corpus.',
    reading: 'A share well above that of the corpus: the model draws on the documents that describe the procedure (or state the fact). Needs labels in the corpus.',
    paper: paper.procedure,
  },
  sources: {
    title: 'Sources over-represented at the top and at the bottom',
    shows: "A source's share of the first (or last) k documents over its share of the corpus: mean over the queries of a group, with a 95 % interval.",
    reading:
      '1 is chance, 10 is ten times as often. A bar whose p (corrected) is above 0.05 may be chance. A source high at the top and at the bottom has large influence of either sign rather than helpful influence.',
    paper: paper.sources,
  },
  spurious: {
    title: 'Scores that hang on one token',
    shows: 'For the first documents of every query, how far the score is spread over the tokens: ‖a‖₂ / ‖a‖₁ of their influence a. It is 1 where one token has all of it, and 1/√T where T tokens have as much. Above 2/3 a document is flagged.',
    reading:
      'A flagged document may be there for one token alone (Grosse et al. 2023 filter such pairs). It need not be: short documents are flagged more easily, and where a model is sure of all of a text but one token, a text that teaches is flagged, too. Where the worked steps of a lesson end in the one digit that the model does not know, it is the lesson that is flagged. ' +
      'So nothing is left out for it: flagged documents keep their ranks, and are marked. Read them.',
    paper: [],
  },
  baselines: {
    title: 'Random baselines',
    shows: 'The main number of each figure beside what it would be of nothing: labels shuffled, sources dealt anew, documents drawn at random, normal scores.',
    reading:
      'A number within the range of its baseline is what chance gives 95 times of 100. Normal scores say what mere sorting of noise does: the slope and the share of the first 1 % that any bell curve has.',
    paper: [],
  },
  'self-checks': {
    title: 'Can the run be believed',
    shows: "The rank that a query's own text has, or would have, as a document.",
    reading:
      'It should be 0, or nearly: nothing should help a completion more than reading it. But a text is its prompt, too, which a document is read with and a query is not: where the model is sure of the completion (some hundredths of a nat) ' +
      'there is nothing left to learn from it, and the rank is that of the prompt. So look at the completion\'s own part of the score: it is a squared length, and never negative in a right run. ' +
      'Greater ranks with much information, or a negative part, mean a wrong checkpoint, factors of too few documents, or a lossy join.',
    paper: [],
  },
} as const satisfies Readonly<Record<string, FigureText>>
