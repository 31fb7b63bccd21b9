/**
 * @file A run in the form of the demo that Ruis et al. published with their paper: what its page, or a reader's notebook,
 * loads. Matrices are queries × documents, ranks from 0 over all documents scored, 0 the greatest.
 *
 *     OUT/training_ids.json         [N] ids of documents (with "#PIECE" for a piece of a split one, from 1 on)
 *     OUT/training_sequences.json   [N] their texts; null where the log keeps none
 *     OUT/training_sources.json     [N]
 *     OUT/test_ids.json, prompts.json, completions.json   [Q]
 *     OUT/influences_dot.npy        f32 [Q, N] raw influence
 *     OUT/influences_cos.npy        f32 [Q, N] influence / ‖∇L(z)‖
 *     OUT/ranks.npy, ranks_normed.npy   u32 [Q, N]
 *     OUT/meta.json                 the run, its queries, offsets, and the number of documents that ranks are over
 *
 * The documents are those among the first or last `rows` of any query, raw or normed, by (partition, offset, piece). Ranks
 * are counted in a second reading: how many documents score greater, in memory of Q × N numbers.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DeepTable, placeOf, type Place } from '../../analysis/index.js'
import type { Log } from '../../log/index.js'
import type { RunRecord } from '../../settings/index.js'
import type { Progress } from '../context.js'
import { documentsAt } from '../documents-at.js'
import { writeFolderWhole } from './files.js'
import { Interrupted } from './index.js'
import { npyHeader } from './npy.js'
import { scoreRows, snapshotOf, type ScoreRow } from './scores.js'

const lists = ['training_ids', 'training_sequences', 'training_sources', 'test_ids', 'prompts', 'completions'] as const
const matrices = ['influences_dot', 'influences_cos', 'ranks', 'ranks_normed'] as const
const names: readonly string[] = [...lists.map((name) => `${name}.json`), ...matrices.map((name) => `${name}.npy`), 'meta.json']

export interface WriteRuisDemoOptions {
  /** A folder. */
  readonly out: string
  readonly force: boolean
  /** Documents of each end of each query. */
  readonly rows: number
  readonly progress: Progress
  readonly signal: AbortSignal
}

interface Chosen {
  readonly id: string
  readonly source: string
  readonly place: Place
  readonly piece: number
  readonly raw: Float32Array
  readonly normed: Float32Array
}

/** Writes the folder, whole or not at all. @throws UserError for a place that is taken; Interrupted on an abort */
export const writeRuisDemo = async (
  log: Log, run: RunRecord, { out, force, rows, progress, signal }: WriteRuisDemoOptions,
): Promise<{ readonly documents: number; readonly queries: number; readonly scored: number }> => {
  const snapshot = await snapshotOf(log)
  async function* reading(): AsyncGenerator<ScoreRow> {
    progress.start(null, 'documents')
    let done = 0
    for await (const row of scoreRows(log, run, snapshot)) {
      if (signal.aborted) throw new Interrupted('interrupted; nothing was written')
      progress.update(++done)
      yield row
    }
  }
  const result = { documents: 0, queries: run.queries.length, scored: 0 }
  await writeFolderWhole(out, { force, names }, async (folder) => {
    const wanted = await choose(reading(), run.queries.length, rows)
    const chosen = new Map<string, Chosen>()
    for await (const row of reading()) {
      const place = placeOf(row.partition, row.offset)
      if (!wanted.has(keyOf(place, row.piece))) continue
      chosen.set(keyOf(place, row.piece), {
        id: row.piece === 0 ? row.document : `${row.document}#${row.piece}`, source: row.source, place, piece: row.piece, raw: row.influence, normed: row.influenceNormed,
      })
    }
    const documents = [...chosen.values()].sort((a, b) => a.place - b.place || a.piece - b.piece)
    const { ranks, ranksNormed, scored } = await rank(reading(), documents, run.queries.length)
    const texts = new Map<Place, string | null>()
    for await (const { place, value } of documentsAt(log, [...new Set(documents.map(({ place: at }) => at))])) texts.set(place, value.text)

    const json = (name: string, value: unknown): Promise<void> => writeFile(join(folder, `${name}.json`), `${JSON.stringify(value)}\n`)
    await json('training_ids', documents.map(({ id }) => id))
    await json('training_sequences', documents.map(({ place }) => texts.get(place) ?? null))
    await json('training_sources', documents.map(({ source }) => source))
    await json('test_ids', run.queries.map(({ id }) => id))
    await json('prompts', run.queries.map(({ prompt }) => prompt))
    await json('completions', run.queries.map(({ completion }) => completion))
    const shape = [run.queries.length, documents.length]
    const scores = (kind: 'raw' | 'normed'): Float32Array => {
      const matrix = new Float32Array(shape[0] * shape[1])
      documents.forEach((document, d) => document[kind].forEach((score, q) => (matrix[q * shape[1] + d] = score)))
      return matrix
    }
    const npy = (name: string, values: Float32Array | Uint32Array): Promise<void> =>
      writeFile(join(folder, `${name}.npy`), Buffer.concat([headerOf(values, shape), Buffer.from(values.buffer, values.byteOffset, values.byteLength)]))
    await npy('influences_dot', scores('raw'))
    await npy('influences_cos', scores('normed'))
    await npy('ranks', ranks)
    await npy('ranks_normed', ranksNormed)
    await json('meta', { run: run.run, checkpoint: run.checkpoint, factors: run.factorsHash, scored, offsets: snapshot, queries: run.queries })
    Object.assign(result, { documents: documents.length, scored })
  })
  progress.stop()
  return result
}

const keyOf = (place: Place, piece: number): string => `${place} ${piece}`

/** The head that `npyHeader` makes is of f32; a u32 has the same size and another letter. */
const headerOf = (values: Float32Array | Uint32Array, shape: readonly number[]): Buffer =>
  values instanceof Float32Array ? npyHeader(shape) : Buffer.from(npyHeader(shape).toString('latin1').replace("'<f4'", "'<u4'"), 'latin1')

/** The documents among the first or last `rows` of any query. */
const choose = async (reading: AsyncIterable<ScoreRow>, queries: number, rows: number): Promise<ReadonlySet<string>> => {
  const tables = Array.from({ length: 4 * queries }, () => new DeepTable(rows))
  for await (const { partition, offset, piece, influence, influenceNormed } of reading) {
    const place = placeOf(partition, offset)
    for (let q = 0; q < queries; q++) {
      tables[4 * q].offer(influence[q], place, piece, 0)
      tables[4 * q + 1].offer(-influence[q], place, piece, 0)
      tables[4 * q + 2].offer(influenceNormed[q], place, piece, 0)
      tables[4 * q + 3].offer(-influenceNormed[q], place, piece, 0)
    }
  }
  return new Set(tables.flatMap((table) => {
    const { size, places, pieces } = table.rows()
    return Array.from({ length: size }, (_, i) => keyOf(places[i], pieces[i]))
  }))
}

/** Ranks of the chosen documents: of each score of the reading, how many chosen ones are less, by their sorted scores. */
const rank = async (reading: AsyncIterable<ScoreRow>, documents: readonly Chosen[], queries: number): Promise<{ ranks: Uint32Array; ranksNormed: Uint32Array; scored: number }> => {
  const kinds = ['raw', 'normed'] as const
  const columns = kinds.map((kind) => Array.from({ length: queries }, (_, q) => {
    const order = documents.map((_document, d) => d).sort((a, b) => documents[b][kind][q] - documents[a][kind][q])
    // Documents of greater score than the i-th of the order, but not greater than the one before it.
    return { order, scores: Float32Array.from(order, (d) => documents[d][kind][q]), greater: new Float64Array(documents.length + 1) }
  }))
  let scored = 0
  for await (const { influence, influenceNormed } of reading) {
    scored++
    columns.forEach((of, k) => of.forEach(({ scores, greater }, q) => {
      const score = k === 0 ? influence[q] : influenceNormed[q]
      let [low, high] = [0, scores.length] // the first place whose score is less
      while (low < high) {
        const middle = (low + high) >> 1
        if (scores[middle] < score) high = middle
        else low = middle + 1
      }
      greater[low]++
    }))
  }
  const [ranks, ranksNormed] = columns.map((of) => {
    const matrix = new Uint32Array(queries * documents.length)
    of.forEach(({ order, greater }, q) => {
      let before = 0
      order.forEach((d, at) => (matrix[q * documents.length + d] = before += greater[at]))
    })
    return matrix
  })
  return { ranks, ranksNormed, scored }
}
