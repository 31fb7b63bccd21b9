/** @file Made corpora and scores for the analyses: everything from a seed, structure where it is asked for. */
import { documentId, normals, uniforms } from '../../src/base/index.js'
import { AnalysisState, TopTexts, placeOf, type AnalysedDocument, type AnalysedQuery } from '../../src/analysis/index.js'

export const madeQuery = (id: string, part: Partial<AnalysedQuery> = {}): AnalysedQuery => ({
  id, prompt: `prompt of ${id}`, completion: ` completion of ${id}`, group: 'reasoning', task: 'slope', answer: null, steps: [], informationNats: 2, correct: null, labels: [], ...part,
})

/** Factual, two tasks of reasoning, controls: `size` queries of each. */
export const madeQueries = (size: number): AnalysedQuery[] => [
  ...Array.from({ length: size }, (_, i) => madeQuery(`fact${i}`, { group: 'factual', task: 'facts', answer: `Answer${'abcdefghijkl'[i]}` })),
  ...Array.from({ length: size }, (_, i) => madeQuery(`slope${i}`, { task: 'slope', answer: String(1000 + i), steps: [`${i} + 7000`, String(1000 + i)], labels: ['slope'] })),
  ...Array.from({ length: size }, (_, i) => madeQuery(`sum${i}`, { task: 'sum', answer: String(2000 + i), steps: [`${i} + 8000`, String(2000 + i)], labels: ['sum'] })),
  ...Array.from({ length: size }, (_, i) => madeQuery(`control${i}`, { group: 'control', task: 'slope' })),
]

export interface Made {
  readonly seed: number
  readonly documents: number
  readonly queries: readonly AnalysedQuery[]
  /** A document's text, given its number; default: none of the answers. */
  readonly text?: (i: number) => string | null
  readonly labels?: (i: number) => readonly string[]
  readonly source?: (i: number) => string
  /** Score of document i on query q, given what chance says: a standard normal of (i, q) and one of document i alone. */
  readonly score?: (i: number, q: number, own: number, shared: number) => number
}

/** N documents of a seed, four partitions. */
export const madeDocuments = ({ seed, documents, queries, text = () => 'nothing of note', labels = () => [], source, score = (_i, _q, own) => own }: Made): AnalysedDocument[] => {
  const normal = normals(seed)
  const uniform = uniforms(seed + 1)
  return Array.from({ length: documents }, (_, i) => {
    const shared = normal()
    return {
      document: documentId(`d${i}`), source: source?.(i) ?? 'abc'[Math.floor(3 * uniform())], piece: 0, partition: i % 4, offset: Math.floor(i / 4), gradientNorm: 0.5 + uniform(),
      influence: Float32Array.from(queries, (_query, q) => score(i, q, normal(), shared)), text: text(i), labels: labels(i),
    }
  })
}

export const stateOf = (queries: readonly AnalysedQuery[], documents: readonly AnalysedDocument[], depth = 50_000): AnalysisState => {
  const state = new AnalysisState({ queries, depth })
  state.insert(documents)
  return state
}

/** The texts at the top, from documents at hand. */
export const textsOf = (state: AnalysisState, documents: readonly AnalysedDocument[]): TopTexts => {
  const texts = new TopTexts(state)
  const byPlace = new Map(documents.map((document) => [placeOf(document.partition, document.offset), document]))
  for (const place of texts.wanted) {
    const document = byPlace.get(place)
    if (document !== undefined) texts.add(place, document)
  }
  return texts
}
