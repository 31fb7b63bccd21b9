/**
 * @file Do a query's first documents hold its answer? A hit by answer: one document has the whole of it. A hit by steps:
 * every step stands in some document, not necessarily the same. Held against how often answers stand in the corpus, and
 * against the answers of other queries. Of labelled documents: do those that teach what a query needs stand first?
 */
import { finderOf, keywordsOf, needleIndex, overlapOf, wordsOf } from './needles.js'
import type { AnalysisState } from './state.js'
import { atLeast, drawnAtLeast, holm, mean, noneDrawn } from './statistics.js'
import { groupedBy, scoreKinds, type Place, type ScoreKind } from './types.js'

/** Documents of a query's list that are read, as in the paper; and the shorter lists that are told beside. */
export const answerRows = 500
const answerNs = [10, 50, 100, 500] as const
/** Documents named for reading. */
const readingsMax = 5

/** Characters of a document that is to be read. */
const excerptLength = 240

interface TextAbout {
  readonly document: string
  readonly source: string
  readonly excerpt: string
}

/** A document at the top. */
export interface TopText {
  readonly document: string
  readonly source: string
  readonly text: string | null
  readonly labels: readonly string[]
}

/** The texts of the documents at the top: what of them is needed, not the texts themselves. */
export class TopTexts {
  readonly rows: number
  readonly #state: AnalysisState
  readonly #found = new Map<Place, readonly number[]>()
  readonly #labels = new Map<Place, readonly string[]>()
  readonly #overlaps = new Map<Place, ReadonlyMap<number, number>>()
  readonly #about = new Map<Place, TextAbout>()
  readonly #wanted = new Map<Place, Set<number>>()
  readonly #keywords: readonly ReadonlySet<string>[]
  readonly #find: ReturnType<typeof finderOf>

  constructor(state: AnalysisState, rows = answerRows) {
    this.#state = state
    this.rows = Math.min(rows, state.depth)
    this.#find = finderOf(state.needles)
    this.#keywords = state.queries.map(keywordsOf)
    for (let q = 0; q < state.queries.length; q++)
      for (const kind of scoreKinds) {
        const { places, size } = state.rows(q, kind, 'top')
        for (let i = 0; i < Math.min(size, this.rows); i++) this.#wanted.set(places[i], (this.#wanted.get(places[i]) ?? new Set()).add(q))
      }
  }

  /** The documents to be added, ascending. */
  get wanted(): readonly Place[] {
    return [...this.#wanted.keys()].sort((a, b) => a - b)
  }

  add(place: Place, { text, labels, document, source }: TopText): void {
    if (labels.length > 0) this.#labels.set(place, labels)
    if (text === null) return
    const words = wordsOf(text)
    this.#found.set(place, this.#find(words))
    this.#overlaps.set(place, new Map([...(this.#wanted.get(place) ?? [])].map((q) => [q, overlapOf(this.#keywords[q], words)])))
    this.#about.set(place, { document, source, excerpt: text.trim().slice(0, excerptLength) })
  }

  /** Documents at the top that had a text. */
  get texts(): number {
    return this.#found.size
  }
  has(place: Place, needle: number): boolean {
    return this.#found.get(place)?.includes(needle) ?? false
  }
  labels(place: Place): readonly string[] {
    return this.#labels.get(place) ?? []
  }
  overlap(place: Place, query: number): number {
    return this.#overlaps.get(place)?.get(query) ?? 0
  }
  about(place: Place): TextAbout {
    return this.#about.get(place) ?? { document: '', source: '', excerpt: '' }
  }
  get state(): AnalysisState {
    return this.#state
  }
}

/** A document to be read: no number says whether it answers. */
export interface Reading {
  readonly rank: number
  readonly place: Place
  readonly document: string
  readonly source: string
  /** The share of the query's words and pairs of words that it has. */
  readonly overlap: number
  /** How its text begins. */
  readonly excerpt: string
}

export interface QueryAnswers {
  readonly query: string
  readonly group: string
  readonly correct: boolean | null
  /** Rank of the first document that holds the answer; null: none of the first 500. */
  readonly answerRank: number | null
  /** Documents of the corpus that hold it. */
  readonly answerInCorpus: number | null
  /** The rank by which every step has stood; null: some has not, or there are no steps. */
  readonly stepsRank: number | null
  readonly steps: readonly { readonly step: string; readonly rank: number | null; readonly inCorpus: number }[]
  /** Documents of the list that share most words and pairs of words with the query: to be read. */
  readonly readings: readonly Reading[]
}

/** Queries of a group with a hit in their first n documents. */
export interface Hits {
  readonly group: string
  readonly by: 'answer' | 'steps'
  readonly only: 'all' | 'answered right'
  readonly n: number
  readonly queries: number
  readonly hits: number
  /** Hits that one would have if the list were drawn from the corpus at random (steps: as though apart from each other). */
  readonly byChance: number
  /** P(so many hits or more by chance). */
  readonly p: number
  /** Hits if each query looked for the answers of the group's other queries: mean. */
  readonly withOthersAnswers: number
}

/** Labelled documents in the first n of a group's queries. */
export interface LabelHits {
  readonly group: string
  readonly task: string
  readonly n: number
  readonly queries: number
  /** Queries with at least one such document; the paper's measure of finding 4. */
  readonly reached: number
  readonly reachedByChance: number
  /** Mean share of such documents in the list, and in the corpus. */
  readonly share: number
  readonly corpusShare: number
  /** Queries that have more of them than chance gives, p < 0.05 corrected for the number of queries. */
  readonly significant: number
}

export interface Answers {
  readonly kind: ScoreKind
  readonly documents: number
  /** Documents of the corpus that had a text. */
  readonly texts: number
  readonly rows: number
  readonly queries: readonly QueryAnswers[]
  readonly hits: readonly Hits[]
  readonly labels: readonly LabelHits[]
}

/** Reads the answers off a state and the texts at its top. */
export const answers = (state: AnalysisState, texts: TopTexts, kind: ScoreKind): Answers => {
  const indexOf = needleIndex(state.needles)
  const firstRank = (q: number, needle: number | undefined): number | null => {
    if (needle === undefined) return null
    const { places, size } = state.rows(q, kind, 'top')
    for (let rank = 0; rank < Math.min(size, texts.rows); rank++) if (texts.has(places[rank], needle)) return rank
    return null
  }
  const inCorpus = (needle: number | undefined): number => (needle === undefined ? 0 : state.needleCount(needle))
  const needed = state.queries.map(({ answer, steps }) => ({ answer: answer === null ? undefined : indexOf(answer), steps: steps.flatMap((step) => indexOf(step) ?? []) }))
  const latest = (ranks: readonly (number | null)[]): number | null =>
    ranks.length === 0 ? null : ranks.reduce<number | null>((worst, rank) => (worst === null || rank === null ? null : Math.max(worst, rank)), 0)

  const queries = state.queries.map((query, q): QueryAnswers => {
    const steps = query.steps.map((step) => ({ step, rank: firstRank(q, indexOf(step)), inCorpus: inCorpus(indexOf(step)) }))
    return {
      query: query.id, group: query.group, correct: query.correct, answerRank: firstRank(q, needed[q].answer),
      answerInCorpus: needed[q].answer === undefined ? null : inCorpus(needed[q].answer), stepsRank: latest(steps.map(({ rank }) => rank)), steps,
      readings: readingsOf(state, texts, kind, q),
    }
  })

  const hits: Hits[] = []
  const ns = answerNs.filter((n) => n <= texts.rows && 2 * n <= state.count)
  for (const [group, members] of groupedBy(state.queries.map((query, q) => ({ query, q })), ({ query }) => query.group))
    for (const by of ['answer', 'steps'] as const)
      for (const only of ['all', 'answered right'] as const) {
        const own = members.filter(({ query, q }) =>
          (by === 'answer' ? needed[q].answer !== undefined : query.steps.length > 0 && query.group !== 'factual') && (only === 'all' || query.correct === true))
        if (own.length === 0 || (only === 'answered right' && own.length === members.length)) continue
        const wanted = (q: number): readonly number[] => (by === 'answer' ? [needed[q].answer].flatMap((needle) => needle ?? []) : needed[q].steps)
        const ranks = own.map(({ q }) => latest(wanted(q).map((needle) => firstRank(q, needle))))
        const others = own.map(({ q }, at) => nextOf(own, at).map((other) => latest(wanted(other.q).map((needle) => firstRank(q, needle)))))
        for (const n of ns) {
          const chances = own.map(({ q }) =>
            wanted(q).reduce((chance, needle) => chance * (1 - noneDrawn({ total: state.texts, marked: inCorpus(needle), drawn: Math.min(n, state.texts) })), 1))
          const isHit = (rank: number | null): boolean => rank !== null && rank < n
          const count = ranks.filter(isHit).length
          hits.push({
            group, by, only, n, queries: own.length, hits: count, byChance: chances.reduce((sum, chance) => sum + chance, 0), p: atLeast(chances, count),
            withOthersAnswers: others.reduce((sum, of) => sum + (of.length === 0 ? 0 : of.filter(isHit).length / of.length), 0),
          })
        }
      }
  return { kind, documents: state.count, texts: state.texts, rows: texts.rows, queries, hits, labels: labelHits(state, texts, kind) }
}

/** The queries after one, round the list; as many as tell enough. */
const nextOf = <T>(queries: readonly T[], at: number): T[] =>
  Array.from({ length: Math.min(othersMax, queries.length - 1) }, (_, i) => queries[(at + 1 + i) % queries.length])
const othersMax = 40

const readingsOf = (state: AnalysisState, texts: TopTexts, kind: ScoreKind, q: number): QueryAnswers['readings'] => {
  const { places, size } = state.rows(q, kind, 'top')
  return Array.from({ length: Math.min(size, texts.rows) }, (_, rank) => ({ rank, place: places[rank], overlap: texts.overlap(places[rank], q) }))
    .filter(({ overlap }) => overlap > 0)
    .sort((a, b) => b.overlap - a.overlap || a.rank - b.rank)
    .slice(0, readingsMax)
    .map((reading) => ({ ...reading, ...texts.about(reading.place) }))
}

/** Documents of a list that are looked at for labels: as many as in the paper's finding 4. */
const labelRows = 100

const labelHits = (state: AnalysisState, texts: TopTexts, kind: ScoreKind): LabelHits[] => {
  const n = Math.min(labelRows, texts.rows)
  if (!state.hasLabels || 2 * n > state.count) return []
  const asked = state.queries.map((query, q) => ({ query, q })).filter(({ query }) => query.labels.length > 0)
  return [...groupedBy(asked, ({ query }) => `${query.group}\u001f${query.task}`).values()].map((own) => {
    const found = own.map(({ query, q }) => {
      const { places, size } = state.rows(q, kind, 'top')
      let hits = 0
      for (let rank = 0; rank < Math.min(n, size); rank++) if (texts.labels(places[rank]).some((label) => query.labels.includes(label))) hits++
      const marked = Math.min(state.count, query.labels.reduce((sum, label) => sum + state.labelCount(label), 0))
      const urn = { total: state.count, marked, drawn: n }
      return { hits, marked, p: drawnAtLeast(hits, urn), reachedByChance: 1 - noneDrawn(urn) }
    })
    return {
      group: own[0].query.group, task: own[0].query.task, n, queries: own.length,
      reached: found.filter(({ hits }) => hits > 0).length, reachedByChance: found.reduce((sum, { reachedByChance }) => sum + reachedByChance, 0),
      share: mean(found.map(({ hits }) => hits / n)), corpusShare: mean(found.map(({ marked }) => marked / state.count)),
      significant: holm(found.map(({ p }) => p)).filter((p) => p < 0.05).length,
    }
  })
}
