/**
 * @file What follows the pass over the corpus: the first rows of each table scored again with full-rank queries (Grosse
 * et al. 2023, §3.2.2, did so for the top 100: it removes outliers), and the measured accuracy of an approximate join.
 */
import { uniformAt } from '../base/index.js'
import { compileInStages, joinCost, runsTogether, scoreBatch, scoreProgram } from '../influence/index.js'
import { keyOf, type InfluenceValue, type Log, type LogRecord, type NewRecord, type TableRowValue } from '../log/index.js'
import type { Accuracy, RunRecord, ScoreSettings } from '../settings/index.js'
import type { Row } from '../table/index.js'
import type { Engine } from '../tensor/index.js'
import { planScoring, type BegunRun } from './begin-run.js'
import type { Progress } from './context.js'
import { mergedTables, scoredAgainst } from './merged-tables.js'
import { batchesByTokens } from './operators/batch-by-tokens.js'
import { isPiece, piecesOf, type Piece } from './operators/to-pieces.js'
import { prepareQueries, type RunQueryTokens } from './prepare.js'
import { readRun } from './runs.js'
import { scoredAtOnceMax } from './score-batches.js'

export interface RescoreParts {
  readonly settings: ScoreSettings
  readonly begun: BegunRun
  readonly engine: Engine
  readonly log: Log
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** Documents and queries of the sample that accuracy is measured on. */
const accuracyDocuments = 16
const accuracyQueriesMax = 8
/** The share of the run's memory that full-rank queries may take at a time. */
const denseShare = 0.25

/** Everything that follows the pass. Returns sentences for the reader; may be repeated: what is done is not done again. */
export const finalise = async (parts: RescoreParts): Promise<readonly string[]> => [...(await measureAccuracy(parts)), ...(await rescore(parts))]

/** Whether somebody has finalised the run as it is now. */
export const isFinal = async ({ settings, begun: { record }, log }: RescoreParts): Promise<boolean> => {
  if (record.join === 'dense') return true
  if ((await readRun(log, record.run)).accuracy === undefined) return false
  return settings.rescore === 0 || isRescored(log, record, await documentsScored(log, record))
}

const isRescored = async (log: Log, { run, queries }: RunRecord, scored: number): Promise<boolean> => {
  const known = await log.latest('rescored', keyOf(run, ''))
  return known.length === queries.length && known.every(({ value }) => value?.scored === scored)
}

/** Scores the first rows again and keeps them in `rescored`. Returns sentences for the reader. */
export const rescore = async (parts: RescoreParts): Promise<readonly string[]> => {
  const { settings, begun, log, progress } = parts
  const { record, queries } = begun
  if (settings.rescore === 0) return []
  if (record.join === 'dense') return ['--rescore: the dense join is exact already']
  const scored = await documentsScored(log, record)
  if (await isRescored(log, record, scored)) return []
  const tables = await Promise.all(queries.map(async ({ value }) => (await mergedTables(log, record.run, value.id)).tables))
  const groups = inGroups(queries, parts)
  let done = 0
  for (const group of groups) {
    const own = group.map((query) => tables[queries.indexOf(query)])
    const rows = own.flatMap(({ top, bottom, topNormed, bottomNormed }) => [top, bottom, topNormed, bottomNormed].flatMap((ends) => ends.slice(0, settings.rescore)))
    const exact = await denseScores(group, rows, parts)
    const records = group.map((query, q): NewRecord<'rescored'> => {
      const again = (ends: readonly Row[], of: 'raw' | 'normed', sign: 1 | -1): TableRowValue[] =>
        ends
          .slice(0, settings.rescore)
          .flatMap((row) => {
            const score = exact.get(placeOf(row))
            return score === undefined ? [] : [{ ...row, score: of === 'raw' ? score.influence[q] : score.influence[q] / score.gradientNorm }]
          })
          .sort((a, b) => sign * (b.score - a.score) || (a.document < b.document ? -1 : Number(a.document > b.document)) || a.piece - b.piece)
      const { top, bottom, topNormed, bottomNormed } = own[q]
      return {
        topic: 'rescored',
        key: keyOf(record.run, query.value.id),
        value: {
          run: record.run, query: query.value.id, scored, rows: settings.rescore,
          top: again(top, 'raw', 1), bottom: again(bottom, 'raw', -1), topNormed: again(topNormed, 'normed', 1), bottomNormed: again(bottomNormed, 'normed', -1),
        },
      }
    })
    await log.append(records)
    progress.update((done += group.length))
  }
  return [`the first ${settings.rescore} rows of each table were scored again with full-rank queries`]
}

/** Measures an approximate join against full-rank queries, once a run, and keeps it in the run's record. */
export const measureAccuracy = async (parts: RescoreParts): Promise<readonly string[]> => {
  const { begun, log, settings } = parts
  const { record, queries } = begun
  if (record.join === 'dense') return []
  const { accuracy: known } = await readRun(log, record.run) // another worker may have measured it
  if (known !== undefined) return [sentence(record, known)]
  const sample = await sampledInfluence(log, record.run, settings.seed)
  if (sample.length < 2) return []
  const count = Math.min(accuracyQueriesMax, queries.length, groupSize(parts))
  const chosen = Array.from({ length: count }, (_, i) => Math.floor((i * queries.length) / count))
  const exact = await denseScores(chosen.map((q) => queries[q]), sample, parts)
  const pairs = chosen.map((q, i) =>
    sample.flatMap((value) => {
      const score = exact.get(placeOf(value))
      return score === undefined ? [] : [[value.influence[q], score.influence[i]] as const]
    }),
  )
  const correlations = pairs.map(pearson)
  const norm = (of: (pair: readonly [number, number]) => number): number => Math.sqrt(pairs.flat().reduce((sum, pair) => sum + of(pair) ** 2, 0))
  const accuracy: Accuracy = {
    documents: sample.length, queries: count,
    pearsonMean: correlations.reduce((sum, r) => sum + r, 0) / count, pearsonMin: Math.min(...correlations),
    relativeError: norm(([approximate, wanted]) => approximate - wanted) / norm(([, wanted]) => wanted),
  }
  const measured: RunRecord = { ...record, accuracy }
  await log.append([{ topic: 'runs', key: record.run, value: { run: record.run, createdMs: record.createdMs, settings: JSON.stringify(measured) } }])
  return [sentence(record, accuracy)]
}

const sentence = ({ join }: RunRecord, { documents, queries, pearsonMean, pearsonMin, relativeError }: Accuracy): string =>
  `the ${join} join against full-rank queries, on ${documents} documents and ${queries} queries: Pearson ${pearsonMean.toFixed(4)} (least ${pearsonMin.toFixed(4)}), relative error ${relativeError.toPrecision(2)}`

const pearson = (pairs: readonly (readonly [number, number])[]): number => {
  const n = pairs.length
  const [mx, my] = [pairs.reduce((sum, [x]) => sum + x, 0) / n, pairs.reduce((sum, [, y]) => sum + y, 0) / n]
  const moment = (of: (dx: number, dy: number) => number): number => pairs.reduce((sum, [x, y]) => sum + of(x - mx, y - my), 0)
  return moment((dx, dy) => dx * dy) / Math.sqrt(moment((dx) => dx * dx) * moment((_, dy) => dy * dy))
}

/** How many full-rank queries fit at a time. */
const groupSize = ({ settings, begun }: RescoreParts): number =>
  Math.max(1, Math.floor((settings.memory * denseShare) / joinCost('dense', begun.factors.layers, { queries: 1, rank: 0 }, 1).bytes))

const inGroups = (queries: readonly RunQueryTokens[], parts: RescoreParts): readonly (readonly RunQueryTokens[])[] => {
  const size = groupSize(parts)
  return Array.from({ length: Math.ceil(queries.length / size) }, (_, g) => queries.slice(g * size, (g + 1) * size))
}

interface PiecePlace {
  readonly partition: number
  readonly offset: number
  readonly piece: number
}

const placeOf = ({ partition, offset, piece }: PiecePlace): string => `${partition}/${offset}/${piece}`

interface ExactScore {
  readonly influence: Float32Array
  readonly gradientNorm: number
}

/** Full-rank influence of documents of the topic on some queries, by place. Those that the log keeps no longer are left out. */
const denseScores = async (
  queries: readonly RunQueryTokens[], places: readonly PiecePlace[], { settings, begun, engine, log }: RescoreParts,
): Promise<ReadonlyMap<string, ExactScore>> => {
  const { checkpoint, factors, context, prepareParts } = begun
  const pieces = await piecesAt(places, log, begun, settings)
  const { tensors } = await prepareQueries(queries, { kind: 'dense', rank: 0 }, prepareParts, { keep: false })
  await using program = await compileInStages(engine, checkpoint, factors.layers, (tracked, stage) =>
    scoreProgram(checkpoint.model, checkpoint.tensors, tracked, 'dense', { queries: queries.length, rank: 0 }, { tokensMax: context, stage }))
  await program.bind(tensors)
  const exact = new Map<string, ExactScore>()
  // Full-rank queries take more memory than the run's own: its batches may be too long beside them.
  const { batchTokens } = planScoring({ ...begun, queries }, { ...settings, join: 'dense', batchTokens: null })
  const tokensMax = Math.max(Math.min(batchTokens, begun.batchTokens), context)
  const lengthMax = checkpoint.model.positionsMax
  const batches = batchesByTokens(pieces, { tokensMax, sequencesMax: scoredAtOnceMax(factors.layers), lengthMax })
  const together = runsTogether(checkpoint, tokensMax)
  for (let from = 0; from < batches.length; from += together) {
    await Promise.all(batches.slice(from, from + together).map(async (batch) => {
      const { influence, gradientNorms } = await scoreBatch(program, batch, { lengthMax })
      batch.forEach((piece, b) => exact.set(placeOf(piece), { influence: influence[b], gradientNorm: gradientNorms[b] }))
    }))
  }
  return exact
}

const piecesAt = async (places: readonly PiecePlace[], log: Log, { checkpoint, context }: BegunRun, { long }: ScoreSettings): Promise<readonly Piece[]> => {
  const wanted = new Set(places.map(placeOf))
  const records = new Map(places.map((place) => [`${place.partition}/${place.offset}`, place]))
  const pieces: Piece[] = []
  for (const { partition, offset } of records.values()) {
    const [record]: readonly LogRecord<'documents'>[] = await log.read('documents', partition, offset, { recordsMax: 1, bytesMax: 1 })
    if (record?.offset !== offset) continue
    const options = { context, long, vocabulary: checkpoint.model.vocabulary }
    pieces.push(...piecesOf(record, checkpoint.tokenizer, options).filter(isPiece).filter((piece) => wanted.has(placeOf(piece))))
  }
  return pieces
}

/** A seeded sample of the run's own influence records. */
const sampledInfluence = async (log: Log, run: string, seed: number): Promise<readonly InfluenceValue[]> => {
  const { starts = [], ends = [] } = (await log.describe()).find(({ topic }) => topic === 'influence') ?? {}
  const total = ends.reduce((sum, end, p) => sum + end - starts[p], 0)
  const found = new Map<string, InfluenceValue>()
  // Other runs share the topic: so many tries, then what was found has to do.
  for (let attempt = 0; attempt < 50 * accuracyDocuments && found.size < accuracyDocuments && total > 0; attempt++) {
    let at = Math.floor(uniformAt(seed, attempt) * total)
    let partition = 0
    while (at >= ends[partition] - starts[partition]) at -= ends[partition] - starts[partition++]
    const [record] = await log.read('influence', partition, starts[partition] + at, { recordsMax: 1, bytesMax: 1 })
    if (record?.value !== undefined && record.value.run === run) found.set(placeOf(record.value), record.value)
  }
  return [...found.values()]
}

/** Documents (pieces) that the run has scored. */
export const documentsScored = (log: Log, { run, queries }: RunRecord): Promise<number> =>
  scoredAgainst(log, run, queries[0]?.id ?? '')
