/** @file Routes: search within the documents, one document, its scores on every query, and its explanation. */
import { z } from 'zod'
import { perNat } from '../../pipeline/top-k.js'
import type { Moments } from '../../table/index.js'
import { readMoments } from '../moments.js'
import { queryOf, runOf, type ApiParts } from '../parts.js'
import { HttpProblem } from '../problem.js'
import { nameText, route, whole, type Route } from '../route.js'
import * as schemas from '../schemas.js'
import { cursorPattern, searchDocuments } from '../search.js'

const hitsMax = 100
const searchBudgetMs = 400
const excerptLength = 280
/** Characters of a document's text in one answer. */
const textMax = 1_000_000
/** Pieces of one document whose scores are answered. */
const piecesMax = 200

const finite = (value: number | null): number | null => (value !== null && Number.isFinite(value) ? value : null)

/** How many standard deviations above the mean. */
const zOf = (moments: Moments | undefined, q: number, value: number): number | null =>
  moments === undefined ? null : finite((value - moments.mean(q)) / Math.sqrt(moments.variance(q)))

export const documentRoutes = (parts: ApiParts): readonly Route[] => {
  const { log, watch, now } = parts
  const recordAt = async (partition: number, offset: number) => {
    const info = (await log.describe()).find(({ topic }) => topic === 'documents')
    if (info === undefined || partition >= info.partitions) throw new HttpProblem(404, `there is no partition ${partition}`)
    if (offset < info.starts[partition]) throw new HttpProblem(410, `document ${offset} of partition ${partition} is no longer kept`)
    const [record] = offset < info.ends[partition] ? await log.read('documents', partition, offset, { recordsMax: 1, bytesMax: 1 }) : []
    if (record?.offset !== offset) throw new HttpProblem(404, `there is no document ${offset} in partition ${partition}`)
    return record
  }
  // Explaining is as dear as scoring: one at a time, and few wait.
  const explaining = oneAtATime(8)
  return [
    route({
      path: '/documents', name: 'documents', summary: 'Search within the documents',
      description: 'Scans the documents for some time and answers with what it found; where `cursor` is not null, ask again with it for what follows.',
      params: {},
      query: {
        search: z.string().max(1000).default('').describe('words that must all stand in the text or the id, in any case; "in quotes" as they stand'),
        source: nameText.optional().describe('only documents of this source'),
        limit: whole({ min: 1, max: hitsMax }).default(20),
        cursor: z.string().regex(cursorPattern).optional(),
      },
      result: z.object({ hits: z.array(schemas.hit), searched: z.int(), left: z.int(), cursor: z.string().nullable() }),
      handle: async ({ query, signal }) => {
        const info = (await log.describe()).find(({ topic }) => topic === 'documents')
        const result = await searchDocuments(log, info, { ...query, excerptLength, budgetMs: searchBudgetMs, now, signal })
        return {
          ...result,
          hits: result.hits.map(({ excerpt, ...hit }) => ({ ...hit, excerpt: { ...excerpt, marks: excerpt.marks.map(([from, to]): [number, number] => [from, to]) } })),
        }
      },
    }),
    route({
      path: '/documents/{partition}/{offset}', name: 'document', summary: 'A document',
      params: schemas.placeParams,
      query: { characters: whole({ min: 0, max: textMax }).default(200_000).describe('of its text at most') },
      result: schemas.documentDetail,
      handle: async ({ params: { partition, offset }, query: { characters } }) => {
        const { value, timestampMs, problem } = await recordAt(partition, offset)
        if (value === undefined) throw new HttpProblem(409, `document ${offset} of partition ${partition} cannot be read: ${problem ?? ''}`)
        const { id, source, shard, index, text, tokens, extra } = value
        return {
          partition, offset, document: id, source, shard, index, appendedMs: timestampMs, text: text?.slice(0, characters) ?? null,
          isCut: text !== null && text.length > characters, characters: text?.length ?? 0, tokens: tokens?.length ?? null, extra: extra?.slice(0, textMax) ?? null,
        }
      },
    }),
    route({
      path: '/runs/{run}/documents/{partition}/{offset}', name: 'documentScores', summary: "A document's scores on every query of a run",
      params: { ...schemas.runParam, ...schemas.placeParams }, query: {}, result: schemas.documentScores,
      handle: async ({ params: { run: name, partition, offset }, signal }) => {
        const run = await runOf(parts, name)
        await recordAt(partition, offset)
        await watch.look()
        let values = await watch.influence.find(name, partition, offset)
        if (values.length === 0) {
          await Promise.race([watch.catchUp(signal), new Promise((resolve) => setTimeout(resolve, catchUpMs).unref())])
          values = await watch.influence.find(name, partition, offset)
        }
        const moments = values.length === 0 ? undefined : await readMoments(log, run)
        return {
          run: name,
          isRead: (await watch.progress(name)).unread === 0,
          pieces: values.slice(0, piecesMax).map(({ piece, pieces, tokens, tokensTotal, loss, gradientNorm, influence }) => ({
            piece, pieces, tokens, tokensTotal, loss, gradientNorm,
            scores: run.queries.map(({ id, informationNats }, q) => ({
              query: id,
              raw: finite(influence[q]),
              perNat: perNat(influence[q], informationNats),
              normed: finite(influence[q] / gradientNorm),
              z: zOf(moments?.raw, q, influence[q]),
              zNormed: zOf(moments?.normed, q, influence[q] / gradientNorm),
            })),
          })),
        }
      },
    }),
    route({
      path: '/runs/{run}/explain', name: 'explain', summary: "Where a score comes from: a document's influence on a query, by token and by layer",
      description: 'Computed on demand, one at a time; a server that computes nothing answers 501.',
      params: schemas.runParam,
      query: { query: nameText.describe('id of the query'), ...schemas.placeParams, piece: whole({ max: 1_000_000 }).default(0) },
      result: schemas.explanation,
      handle: async ({ params, query: { query: id, partition, offset, piece }, signal }) => {
        const { explain } = parts
        if (explain === undefined) throw new HttpProblem(501, 'this server computes nothing', { fix: 'tributary explain' })
        const run = await runOf(parts, params.run)
        const query = queryOf(run, id)
        await recordAt(partition, offset)
        const { score, tokens, layers } = await explaining(() => explain({ run, query, partition, offset, piece, signal }))
        return { run: run.run, query: id, score, tokens: tokens.map(({ text, term }) => ({ text, term })), layers: layers.map(({ layer, term }) => ({ layer, term })) }
      },
    }),
  ]
}

/** How long a request waits for the index to be read on. */
const catchUpMs = 2_000

/** Runs work in turn. @throws HttpProblem 503 where too many wait already */
const oneAtATime = (waitingMax: number): (<T>(work: () => Promise<T>) => Promise<T>) => {
  let last: Promise<unknown> = Promise.resolve()
  let waiting = 0
  return async (work) => {
    if (waiting > waitingMax) throw new HttpProblem(503, `${waiting} explanations are waited for already`, { fix: 'try again later' })
    waiting++
    const result = last.then(work)
    last = result.catch(() => undefined)
    try {
      return await result
    } finally {
      waiting--
    }
  }
}
