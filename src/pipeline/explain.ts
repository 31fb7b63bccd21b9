/**
 * @file Explain: a document's influence on one query of a run, by token and by layer, computed on demand with the run's
 * own join, so that the terms sum to the score that the run recorded (to the rounding of f32).
 *
 *     document ──piecesOf──▶ tokens ──documentTerms──▶ terms [layers, tokens] ──sums──▶ by token, by layer, the score
 *
 * Token t's term is Σ over layers δ_tᵀ Q̃ ā_t: what the weights' gradient at position t adds. At t the model has read the
 * tokens up to t and predicts token t + 1, and later tokens that attend to t have their part in δ_t; so a high term says
 * that learning at this place matters for the query, not that this token alone does (docs/explain.md).
 */
import { UserError } from '../base/index.js'
import { compileInStages, documentTerms, explainProgram, type ScoreTerms } from '../influence/index.js'
import type { Log, QueryValue } from '../log/index.js'
import { engineOfIdentity, laterOfRecord, type Damping, type ExplainSettings, type Json, type RunRecord, type ScoreSettings } from '../settings/index.js'
import type { Engine, Program, TensorData } from '../tensor/index.js'
import { openScoring, rankOf, type ScoringParts } from './begin-run.js'
import { silentProgress, type Progress } from './context.js'
import { openEngine } from './engine.js'
import { findDocument } from './find-document.js'
import { isPiece, piecesOf, type Piece } from './operators/to-pieces.js'
import { prepareGradients, prepareQueries } from './prepare.js'
import { readRun } from './runs.js'
import type { Pipeline } from './steps.js'
import { tokenTexts } from './token-texts.js'

export const steps: Pipeline = {
  name: 'explain',
  about: "a document's influence on one query, by token and by layer",
  steps: [
    { name: 'findDocument', in: ['topic tables', 'topic influence'], out: 'place', note: 'by its id; no other document is read' },
    { name: 'toPieces', in: ['place', 'topic documents'], out: 'piece', note: 'as the run cut it' },
    { name: 'documentTerms', in: ['piece', 'artifact query cache'], out: 'terms', note: 'forward, backward, and δᵀ Q̃ ā of each token and layer' },
  ],
}

export interface Explanation {
  readonly run: string
  readonly query: string
  readonly document: string
  readonly source: string
  readonly partition: number
  readonly offset: number
  readonly piece: number
  readonly pieces: number
  /** The join whose queries were used: the run's. */
  readonly join: RunRecord['join']
  /** Raw influence: what the terms of all tokens sum to, and those of all layers. */
  readonly score: number
  /** L(z), nats. */
  readonly loss: number
  /** The piece's tokens as text, in order; together they are its text. */
  readonly tokens: readonly { readonly text: string; readonly term: number }[]
  /** In the model's order. `share`: term / score; null where the score is 0. */
  readonly layers: readonly { readonly layer: string; readonly term: number; readonly share: number | null }[]
}

export interface ExplainedPlace {
  /** Id of a query of the run. */
  readonly query: string
  readonly partition: number
  readonly offset: number
  readonly piece: number
}

/** What stays open between explanations: engine, checkpoint, factors, the queries that were asked for last. */
export interface Explainer extends AsyncDisposable {
  /** One at a time. @throws UserError if there is no such query, document or piece */
  explain(place: ExplainedPlace): Promise<Explanation>
  /** The pieces that the run made of a document. */
  piecesAt(partition: number, offset: number): Promise<readonly Piece[]>
}

/** Where checkpoints are, if not where the run's record says; the rest is the run's. */
export type ExplainerSettings = Pick<ExplainSettings, 'home' | 'threads' | 'model' | 'queryModel'> & Partial<Pick<ExplainSettings, 'device' | 'stageMemory'>>

interface ExplainOptions {
  readonly progress?: Progress
  readonly signal?: AbortSignal
}

/**
 * Explains one document by its id.
 * @throws UserError for whatever is not there, or does not fit the run any more
 */
export const explain = async (log: Log, settings: ExplainSettings, options: ExplainOptions = {}): Promise<Explanation> => {
  const run = await readRun(log, settings.run)
  mustHaveQuery(run, settings.query)
  const { document, source, piece } = settings
  const place = await findDocument(log, run.run, { document, source })
  await using explainer = await openExplainer(log, run, settings, options)
  const pieces = piece === null ? await explainer.piecesAt(place.partition, place.offset) : []
  if (pieces.length > 1) throw new UserError(`document "${document}" was scored in ${pieces.length} pieces`, { fix: `--piece 0 to --piece ${pieces.length - 1}` })
  return await explainer.explain({ query: settings.query, partition: place.partition, offset: place.offset, piece: piece ?? 0 })
}

/**
 * Opens what explanations of a run need. Dispose of it when done: it holds the engine.
 * @throws UserError if checkpoints or factors are gone, or are others than the run's
 */
export const openExplainer = async (log: Log, run: RunRecord, settings: ExplainerSettings, options: ExplainOptions = {}): Promise<Explainer> => {
  const parts = partsOf(run)
  if (parts !== undefined) return openSum(log, run, parts, settings, options)
  const { engine: name } = engineOfIdentity(run.settings.engine)
  const engine = await openEngine({ threads: settings.threads, engine: name, device: settings.device ?? 'auto' }, options.progress ?? silentProgress)
  try {
    return await openOne(log, run, settings, engine, options)
  } catch (error) {
    await engine[Symbol.asyncDispose]()
    throw error
  }
}

/* ------------------------------------------------------ a run of its own -------------------------------------------- */

const openOne = async (
  log: Log, run: RunRecord, settings: ExplainerSettings, engine: Engine, { progress = silentProgress, signal = new AbortController().signal }: ExplainOptions,
): Promise<Explainer> => {
  const scoring = scoringOf(run, settings)
  const values = run.queries.map(({ id, prompt, completion, group, task, answer, steps }): QueryValue => ({ id, prompt, completion, group, task, answer, steps, extra: null }))
  const parts = await openScoring(scoring, values, engine, { progress, signal })
  mustBeTheRuns(run, parts)
  const { checkpoint, factors, context } = parts
  const { model, tensors, tokenizer } = checkpoint
  const rank = rankOf(run.join, scoring)
  const program = await compileInStages(engine, checkpoint, factors.layers, (tracked, stage) => explainProgram(model, tensors, tracked, run.join, rank, { tokensMax: context, stage }))
  const bind = binding(run, parts, rank, program)

  const piecesAt = async (partition: number, offset: number): Promise<readonly Piece[]> => {
    const [record] = await log.read('documents', partition, offset, { recordsMax: 1, bytesMax: 1 })
    if (record?.offset !== offset) throw new UserError(`document ${offset} of partition ${partition} is no longer kept`, { fix: 'ingest its shard into a home of its own, and score it there' })
    const items = piecesOf(record, tokenizer, { context, long: scoring.long, vocabulary: model.vocabulary })
    const rejected = items.find((item) => !isPiece(item))
    if (rejected !== undefined && !isPiece(rejected)) throw new UserError(`document ${offset} of partition ${partition} cannot be scored: ${rejected.cause}`)
    return items.filter(isPiece)
  }
  const explainNow = async ({ query, partition, offset, piece: at }: ExplainedPlace): Promise<Explanation> => {
    mustHaveQuery(run, query)
    const pieces = await piecesAt(partition, offset)
    const piece = pieces[at]
    if (piece === undefined) throw new UserError(`document "${pieces[0]?.document}" has no piece ${at}: it was scored in ${pieces.length}`, { fix: `--piece 0 to --piece ${pieces.length - 1}` })
    await bind(query)
    return explanationOf(run, query, piece, tokenTexts(piece.tokens, tokenizer), await documentTerms(program, factors.layers, piece.tokens, { lengthMax: model.positionsMax }))
  }
  let last: Promise<unknown> = Promise.resolve()
  return {
    piecesAt,
    // The program is bound to one query: one after the other.
    explain: (place) => {
      const own = last.then(() => explainNow(place))
      last = own.catch(() => undefined)
      return own
    },
    [Symbol.asyncDispose]: async () => {
      await last
      await program[Symbol.asyncDispose]()
      await engine[Symbol.asyncDispose]()
    },
  }
}

/** Binds a query of the run to the program, unless it is bound. */
const binding = (run: RunRecord, { queries, factors, prepareParts }: ScoringParts, rank: number, program: Program): ((query: string) => Promise<void>) => {
  let bound: string | undefined
  let shared: Readonly<Record<string, TensorData>> | undefined
  const tensorsOf = async (at: number): Promise<Readonly<Record<string, TensorData>>> => {
    const join = { kind: run.join, rank }
    if (run.join !== 'shared') {
      const own = [queries[at]]
      await prepareGradients(own, prepareParts)
      return (await prepareQueries(own, join, prepareParts)).tensors
    }
    if (shared === undefined) {
      await prepareGradients(queries, prepareParts)
      shared = (await prepareQueries(queries, join, prepareParts)).tensors
    }
    const tensors: Record<string, TensorData> = {}
    for (const { name } of factors.layers) {
      // Copies: what is bound moves to the engine.
      for (const base of [`P/${name}`, `R/${name}`]) tensors[base] = { type: 'float32', shape: shared[base].shape, data: Float32Array.from(shared[base].data, Number) }
      const { data } = shared[`C/${name}`]
      const size = data.length / queries.length
      tensors[`C/${name}`] = { type: 'float32', shape: [1, size], data: Float32Array.from(data.slice(at * size, (at + 1) * size), Number) }
    }
    return tensors
  }
  return async (query) => {
    if (bound === query) return
    bound = undefined
    await program.bind(await tensorsOf(run.queries.findIndex(({ id }) => id === query)))
    bound = query
  }
}

const explanationOf = (run: RunRecord, query: string, piece: Piece, texts: readonly string[], { layers, loss }: ScoreTerms): Explanation => {
  const byToken = new Float64Array(piece.tokens.length)
  const byLayer = layers.map(({ layer, terms }) => {
    let term = 0
    for (let t = 0; t < byToken.length; t++) {
      byToken[t] += terms[t]
      term += terms[t]
    }
    return { layer, term }
  })
  const { document, source, partition, offset, piece: at, pieces } = piece
  return {
    run: run.run, query, document, source, partition, offset, piece: at, pieces, join: run.join, loss,
    ...withShares(texts.map((text, t) => ({ text, term: byToken[t] })), byLayer),
  }
}

const withShares = (
  tokens: Explanation['tokens'], layers: readonly { readonly layer: string; readonly term: number }[],
): Pick<Explanation, 'score' | 'tokens' | 'layers'> => {
  const score = layers.reduce((sum, { term }) => sum + term, 0)
  return { score, tokens, layers: layers.map(({ layer, term }) => ({ layer, term, share: score === 0 ? null : term / score })) }
}

/* ------------------------------------------------------ a sum of runs ----------------------------------------------- */

interface WeightedRun {
  readonly run: string
  readonly weight: number
}

/** The runs that a sum was made of (sum.ts); undefined for a run of its own. */
const partsOf = ({ settings: { sum } }: RunRecord): readonly WeightedRun[] | undefined =>
  Array.isArray(sum) ? (sum as readonly Json[] as unknown as readonly WeightedRun[]) : undefined

/** Explanations are linear in the runs, as the scores are: Σ w · term. The parts are opened one at a time. */
const openSum = async (log: Log, run: RunRecord, parts: readonly WeightedRun[], settings: ExplainerSettings, options: ExplainOptions): Promise<Explainer> => {
  const records = await Promise.all(parts.map((part) => readRun(log, part.run)))
  const first = records[0]
  return {
    piecesAt: async (partition, offset) => {
      await using explainer = await openExplainer(log, first, settings, options)
      return await explainer.piecesAt(partition, offset)
    },
    explain: async (place) => {
      mustHaveQuery(run, place.query)
      const all: Explanation[] = []
      for (const record of records) {
        await using explainer = await openExplainer(log, record, { ...settings, model: null, queryModel: null }, options)
        all.push(await explainer.explain(place))
      }
      const [own] = all
      const weighted = <V>(of: (part: Explanation) => V, term: (value: V) => number): number => all.reduce((sum, part, i) => sum + parts[i].weight * term(of(part)), 0)
      const names = [...new Set(all.flatMap(({ layers }) => layers.map(({ layer }) => layer)))]
      const termOf = (layer: string) => (part: Explanation): number => part.layers.find((one) => one.layer === layer)?.term ?? 0
      const weights = parts.reduce((sum, { weight }) => sum + weight, 0)
      return {
        ...own, run: run.run, join: run.join, loss: weighted(({ loss }) => loss, (loss) => loss) / weights,
        ...withShares(
          own.tokens.map(({ text }, t) => ({ text, term: weighted(({ tokens }) => tokens[t].term, (term) => term) })),
          names.map((layer) => ({ layer, term: weighted(termOf(layer), (term) => term) })),
        ),
      }
    },
    [Symbol.asyncDispose]: async () => {},
  }
}

/* ------------------------------------------------------- the run's settings ------------------------------------------ */

const scoringOf = (run: RunRecord, { home, model, queryModel, stageMemory }: ExplainerSettings) => {
  const { settings } = run
  const number = (key: string): number => Number(settings[key])
  const other = run.queryCheckpoint === run.checkpoint ? null : run.queryModel
  return {
    home, model: model ?? run.model, queryModel: queryModel ?? other, factors: run.factors, join: run.join, rank: number('rank'), sharedRank: number('sharedRank'),
    damping: settings['damping'] as unknown as Damping, later: laterOfRecord(settings['later']), context: settings['context'] === null ? null : number('context'), long: settings['long'] as ScoreSettings['long'],
    batchTokens: number('batchTokens'), seed: number('seed'), memory: 0, // no join is planned
    stageMemory: stageMemory ?? (typeof settings['stageMemory'] === 'number' ? settings['stageMemory'] : null),
  }
}

const mustHaveQuery = (run: RunRecord, query: string): void => {
  if (run.queries.some(({ id }) => id === query)) return
  const ids = run.queries.slice(0, 10).map(({ id }) => id)
  throw new UserError(`run "${run.run}" has no query "${query}"`, { fix: `its queries: ${ids.join(', ')}${run.queries.length > 10 ? ', ...' : ''}` })
}

/** Terms of another checkpoint or other factors would sum to another score. */
const mustBeTheRuns = (run: RunRecord, { checkpoint, queryCheckpoint, factors }: ScoringParts): void => {
  const differs = (what: string, fix: string): UserError => new UserError(`${what} has changed since run "${run.run}" was scored: its scores cannot be explained with it`, { fix })
  if (checkpoint.hash !== run.checkpoint) throw differs(`the checkpoint "${checkpoint.folder}"`, '--model with the folder of the one that the run was scored with')
  if (queryCheckpoint.hash !== run.queryCheckpoint) throw differs(`the checkpoint "${queryCheckpoint.folder}"`, '--query-model with the folder of the one that the queries were prepared with')
  if (factors.hash !== run.factorsHash) throw differs(`the factor set "${run.factors}"`, 'score again under a new --run name')
}
