/**
 * @file All that the analyses keep of a run's scores (docs/analyses.md): one pass, no score kept but those in deep tables.
 *
 *     correlations          exact moments of all pairs of queries
 *     tops and bottoms      DeepTable, k = 50,000 rows or `depth`: sources, slopes, sums over the top; exact
 *     magnitude beyond k    exact total, counts by magnitude within 1 % (SignedSketch)
 *     answers and steps     documents that hold each of them
 *     labels, sources       documents of each
 *     own texts             documents whose text is a query's: they should rank first
 *
 * Law: a function of the set of documents. Any order, batching, split or merge ends in the same bytes of `serialize`.
 */
import { documentId } from '../base/index.js'
import { ExactSums, rangeOf, RunningMoments, type MomentsRow, type Scored } from '../table/index.js'
import { DeepTable, type DeepRows } from './deep-table.js'
import { finderOf, needlesOf, wordsOf, type Finder, type Needle } from './needles.js'
import { bytesOf, pack, unpack } from './packed.js'
import { SignedSketch, type Sign } from './signed-sketch.js'
import { placeOf, scoreKinds, type AnalysedDocument, type AnalysedQuery, type ListEnd, type Place, type ScoreKind } from './types.js'

export interface StateOptions {
  readonly queries: readonly AnalysedQuery[]
  /** Rows of every deep table: the greatest k that can be asked for. */
  readonly depth: number
}

/** Rows of every deep table unless said otherwise: the greatest k of the paper. 20 bytes × 4 a query. */
export const depthDefault = 50_000

/** A document whose text is a query's prompt and completion. */
export interface OwnText {
  readonly query: number
  readonly place: Place
  readonly piece: number
  readonly document: string
  readonly raw: number
  readonly normed: number
}

/** Documents that are summed at once: what `ExactSums.addDot` takes. */
const chunkMax = 128
const signs: readonly Sign[] = ['positive', 'negative']

export class AnalysisState {
  readonly queries: readonly AnalysedQuery[]
  readonly depth: number
  readonly needles: readonly Needle[]
  readonly #find: Finder
  readonly #ownTexts: ReadonlyMap<string, readonly number[]>
  readonly #moments: RunningMoments
  /** [Q × 4]: raw top, raw bottom, normed top, normed bottom. */
  readonly #tables: readonly DeepTable[]
  /** [Q × 2]: raw, normed. */
  readonly #sketches: SignedSketch[]
  /** [Q × 4]: raw positive, raw negative, normed positive, normed negative; sums of magnitudes, and how many. */
  readonly #totals: ExactSums
  readonly #counts: Float64Array
  /** Index of a source, as it stands in this state's tables, and its documents. */
  readonly #sources = new Map<string, { readonly index: number; count: number }>()
  readonly #labels = new Map<string, number>()
  readonly #needleCounts: Float64Array
  #texts = 0
  #owned: OwnText[] = []

  constructor({ queries, depth }: StateOptions) {
    this.queries = queries
    this.depth = depth
    this.needles = needlesOf(queries)
    this.#find = finderOf(this.needles)
    const own = new Map<string, number[]>()
    queries.forEach((query, q) => own.set(ownTextOf(query), [...(own.get(ownTextOf(query)) ?? []), q]))
    this.#ownTexts = own
    this.#moments = new RunningMoments(queries.length)
    this.#tables = Array.from({ length: 4 * queries.length }, () => new DeepTable(depth))
    this.#sketches = Array.from({ length: 2 * queries.length }, () => new SignedSketch())
    this.#totals = new ExactSums(4 * queries.length)
    this.#counts = new Float64Array(4 * queries.length)
    this.#needleCounts = new Float64Array(this.needles.length)
  }

  /** Documents (pieces of split ones) counted. */
  get count(): number {
    return this.#moments.count
  }

  /** Counts a batch, or throws and counts none of it (`RunningMoments.insert`). A document must not come twice. */
  insert(batch: readonly AnalysedDocument[]): void {
    this.#moments.insert(batch)
    for (let from = 0; from < batch.length; from += chunkMax) this.#insertScores(batch.slice(from, from + chunkMax))
    for (const document of batch) this.#insertText(document)
  }

  #insertScores(batch: readonly Scored[]): void {
    const sourceOf = batch.map(({ source }) => this.#sourceIndex(source, 1))
    const places = batch.map(({ partition, offset }) => placeOf(partition, offset))
    const columns = new Float64Array(3 * chunkMax) // positive and negative magnitudes, ones
    columns.fill(1, 2 * chunkMax)
    for (let q = 0; q < this.queries.length; q++)
      scoreKinds.forEach((kind, s) => {
        const [top, bottom] = [this.#tables[4 * q + 2 * s], this.#tables[4 * q + 2 * s + 1]]
        const sketch = this.#sketches[2 * q + s]
        const at = 4 * q + 2 * s
        batch.forEach(({ influence, gradientNorm, piece }, b) => {
          const score = kind === 'raw' ? influence[q] : Math.fround(influence[q] / gradientNorm)
          top.offer(score, places[b], piece, sourceOf[b])
          bottom.offer(-score, places[b], piece, sourceOf[b])
          sketch.insert(score)
          columns[b] = Math.max(score, 0)
          columns[chunkMax + b] = Math.max(-score, 0)
          if (score !== 0) this.#counts[at + (score > 0 ? 0 : 1)]++
        })
        for (const sign of [0, 1]) {
          const range = rangeOf(columns, sign * chunkMax, sign * chunkMax + batch.length)
          if (range !== undefined) this.#totals.addDot(at + sign, columns, sign * chunkMax, 2 * chunkMax, batch.length, range, rangeOfOne)
        }
      })
  }

  #insertText({ text, labels, document, partition, offset, piece, influence, gradientNorm }: AnalysedDocument): void {
    if (piece > 0) return // a document's text counts once
    for (const label of new Set(labels)) this.#labels.set(label, (this.#labels.get(label) ?? 0) + 1)
    if (text === null) return
    this.#texts++
    for (const needle of this.#find(wordsOf(text))) this.#needleCounts[needle]++
    for (const query of this.#ownTexts.get(text.trim()) ?? [])
      this.#owned.push({
        query, place: placeOf(partition, offset), piece, document, raw: influence[query], normed: Math.fround(influence[query] / gradientNorm),
      })
  }

  #sourceIndex(source: string, count: number): number {
    const known = this.#sources.get(source)
    if (known !== undefined) {
      known.count += count
      return known.index
    }
    this.#sources.set(source, { index: this.#sources.size, count })
    return this.#sources.size - 1
  }

  /** Takes in the state of other documents. Error if it is of other queries or another depth. */
  merge(other: AnalysisState): void {
    if (identityOf(other) !== identityOf(this)) throw new Error('the states of analyses are of other queries or another depth')
    this.#moments.merge(other.#moments)
    const names = [...other.#sources].sort(([, a], [, b]) => a.index - b.index).map(([name, { count }]) => this.#sourceIndex(name, count))
    this.#tables.forEach((table, at) => {
      const { size, scores, places, pieces, sources } = other.#tables[at].rows()
      for (let i = 0; i < size; i++) table.offer(scores[i], places[i], pieces[i], names[sources[i]])
    })
    this.#sketches.forEach((sketch, at) => sketch.merge(other.#sketches[at]))
    this.#totals.merge(other.#totals)
    other.#counts.forEach((count, at) => (this.#counts[at] += count))
    other.#needleCounts.forEach((count, at) => (this.#needleCounts[at] += count))
    for (const [label, count] of other.#labels) this.#labels.set(label, (this.#labels.get(label) ?? 0) + count)
    this.#texts += other.#texts
    this.#owned = [...this.#owned, ...other.#owned]
  }

  /** Pearson's r of two queries' scores over all documents; NaN where a query's scores do not vary. */
  correlation(kind: ScoreKind, i: number, j: number): number {
    return this.#moments[kind].correlation(i, j)
  }

  /** The first `depth` documents at one end; bottom scores are negated. Source indices are those of `sources`. */
  rows(query: number, kind: ScoreKind, end: ListEnd): DeepRows {
    return this.#tables[4 * query + 2 * scoreKinds.indexOf(kind) + (end === 'top' ? 0 : 1)].rows()
  }

  /** How many scores are positive (negative), and the sum of their magnitudes, correctly rounded. */
  total(query: number, kind: ScoreKind, sign: Sign): { readonly count: number; readonly sum: number } {
    const at = 4 * query + 2 * scoreKinds.indexOf(kind) + signs.indexOf(sign)
    return { count: this.#counts[at], sum: this.#totals.value(at) }
  }

  sketch(query: number, kind: ScoreKind): SignedSketch {
    return this.#sketches[2 * query + scoreKinds.indexOf(kind)]
  }

  /** Sources with their documents (pieces), by their index in `rows`. */
  sources(): readonly { readonly source: string; readonly count: number }[] {
    return [...this.#sources].sort(([, a], [, b]) => a.index - b.index).map(([source, { count }]) => ({ source, count }))
  }

  /** Documents with text; those that hold a needle; those that have a label. */
  get texts(): number {
    return this.#texts
  }
  needleCount(needle: number): number {
    return this.#needleCounts[needle]
  }
  labelCount(label: string): number {
    return this.#labels.get(label) ?? 0
  }
  /** Whether any document has a label. */
  get hasLabels(): boolean {
    return this.#labels.size > 0
  }

  /** Documents that are a query's own text, by query and place. */
  ownTexts(): readonly OwnText[] {
    return [...this.#owned].sort((a, b) => a.query - b.query || a.place - b.place)
  }

  /** Which needles a text holds. */
  find(words: readonly string[]): number[] {
    return this.#find(words)
  }

  /** Equal sets of documents give equal bytes. */
  serialize(): Uint8Array {
    const names = [...this.#sources.keys()].sort()
    const rank = new Uint32Array(names.length)
    names.forEach((name, at) => (rank[this.#sources.get(name)?.index ?? 0] = at))
    const moments = this.queries.map((_, q) => this.#moments.serializeRow(q))
    return pack(
      {
        identity: identityOf(this),
        count: this.count,
        texts: this.#texts,
        sources: names.map((name) => [name, this.#sources.get(name)?.count ?? 0]),
        labels: [...this.#labels].sort(([a], [b]) => (a < b ? -1 : 1)),
        owned: this.ownTexts(),
      },
      [
        bytesOf(this.#counts), bytesOf(this.#needleCounts), this.#totals.serialize(0, this.#totals.size),
        ...moments.flatMap(({ raw, normed }) => [raw, normed]),
        ...this.#tables.flatMap((table) => {
          const { scores, places, pieces, sources } = table.rows()
          return [bytesOf(scores), bytesOf(places), bytesOf(pieces), bytesOf(sources.map((source) => rank[source]))]
        }),
        ...this.#sketches.map((sketch) => bytesOf(sketch.serialize())),
      ],
    )
  }

  /** @throws Error for bytes that are damaged, of another version, or of other queries or depth */
  static deserialize(options: StateOptions, bytes: Uint8Array): AnalysisState {
    const { head, parts } = unpack(bytes)
    const about = head as Head
    const state = new AnalysisState(options)
    if (about.identity !== identityOf(state)) throw new Error('the state of an analysis is of other queries or another depth')
    for (const [source, count] of about.sources) state.#sourceIndex(source, count)
    for (const [label, count] of about.labels) state.#labels.set(label, count)
    state.#texts = about.texts
    state.#owned = about.owned.map((own) => ({ ...own, document: documentId(own.document) }))
    const [counts, needles, totals, ...rest] = parts
    state.#counts.set(new Float64Array(counts.buffer))
    state.#needleCounts.set(new Float64Array(needles.buffer))
    state.#totals.mergeBytes(0, state.#totals.size, totals)
    const queries = options.queries.length
    const rows: MomentsRow[] = options.queries.map((_, q) => ({ count: about.count, raw: rest[2 * q], normed: rest[2 * q + 1] }))
    state.#moments.merge(RunningMoments.deserialize(rows))
    state.#tables.forEach((table, at) => {
      const [scores, places, pieces, sources] = rest.slice(2 * queries + 4 * at)
      const [f32, f64] = [new Float32Array(scores.buffer), new Float64Array(places.buffer)]
      const [u32, indices] = [new Uint32Array(pieces.buffer), new Uint32Array(sources.buffer)]
      for (let i = 0; i < f32.length; i++) table.offer(f32[i], f64[i], u32[i], indices[i])
    })
    state.#sketches.forEach((_, at) => {
      state.#sketches[at] = SignedSketch.deserialize(new Float64Array(rest[18 * queries + at].buffer))
    })
    return state
  }
}

interface Head {
  readonly identity: string
  readonly count: number
  readonly texts: number
  readonly sources: readonly (readonly [string, number])[]
  readonly labels: readonly (readonly [string, number])[]
  readonly owned: readonly OwnText[]
}

const rangeOfOne = { top: 1, low: 0 }

/** A query's text as a document would have it. */
export const ownTextOf = ({ prompt, completion }: Pick<AnalysedQuery, 'prompt' | 'completion'>): string => `${prompt}${completion}`.trim()

/** What the counts of a state depend on beside the documents. */
const identityOf = ({ queries, depth }: AnalysisState): string =>
  JSON.stringify([depth, queries.map(({ id, prompt, completion, answer, steps }) => [id, prompt, completion, answer, steps])])
