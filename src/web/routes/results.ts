/** @file Routes: tables, the correlation of queries, curves of scores over ranks. */
import { z } from 'zod'
import { readTopK } from '../../pipeline/top-k.js'
import { rankedOf, type RunQuery } from '../../settings/index.js'
import { readMoments } from '../moments.js'
import { queryOf, runOf, type ApiParts } from '../parts.js'
import { HttpProblem } from '../problem.js'
import { nameText, route, whole, type Route } from '../route.js'
import * as schemas from '../schemas.js'
import { excerptOf, standsIn } from '../text.js'

/** Rows of a table, characters of an excerpt, queries of a heatmap and of a set of curves, at most. */
const rowsMax = 200
const excerptLength = 280
const correlatedMax = 200
const curvesMax = 60
/** Points of a curve, about evenly spread over the logarithm of the rank. */
const pointsMax = 48

const finite = (value: number | null): number | null => (value !== null && Number.isFinite(value) ? value : null)

/** Ranks 0, 1, 2, ... and then about evenly in log(rank + 1), the last one included. */
export const ranksOf = (rows: number): readonly number[] => {
  const ranks = new Set<number>()
  for (let at = 0; at < pointsMax && rows > 0; at++) ranks.add(Math.round((rows ** (at / (pointsMax - 1)) - 1) * (rows > 1 ? 1 : 0)))
  return [...ranks].filter((rank) => rank < rows)
}

export const resultRoutes = (parts: ApiParts): readonly Route[] => {
  const { log } = parts
  const excerptAt = async (partition: number, offset: number, { answer }: RunQuery) => {
    const [record] = await log.read('documents', partition, offset, { recordsMax: 1, bytesMax: 1 })
    const text = record?.offset === offset ? record.value?.text : undefined
    if (text === undefined || text === null) return { excerpt: null, hasAnswer: false }
    const terms = answer === null ? [] : [answer]
    const { marks, ...excerpt } = excerptOf(text, { length: excerptLength, terms, words: true })
    return {
      excerpt: { ...excerpt, marks: marks.map(([from, to]): [number, number] => [from, to]) },
      hasAnswer: answer !== null && standsIn(text, answer),
    }
  }
  return [
    route({
      path: '/runs/{run}/table', name: 'table', summary: "A query's table: the documents of greatest or least influence",
      params: schemas.runParam,
      query: { query: nameText.describe('id of the query'), ...schemas.sideQuery, k: whole({ min: 1, max: rowsMax }).default(20).describe('rows at most') },
      result: schemas.table,
      handle: async ({ params, query: { query: id, end, by, k }, signal }) => {
        const run = await runOf(parts, params.run)
        const query = queryOf(run, id)
        const [table] = await readTopK(log, run, { query: [id], rows: k, bottom: end === 'bottom', normed: by === 'normed', texts: false })
        const rows: z.infer<typeof schemas.table>['rows'] = []
        // Texts one after another: of each only the excerpt is kept.
        for (const { rank, document, source, partition, offset, piece, score, scorePerNat, rescored } of table.rows) {
          if (signal.aborted) break
          rows.push({
            rank, document, source, partition, offset, piece, score: finite(score), scorePerNat: finite(scorePerNat), rescored,
            ...(await excerptAt(partition, offset, query)),
          })
        }
        return { query: id, end, by, scored: table.scored, ranked: rankedOf(run), isRescoreStale: table.isRescoreStale, rows }
      },
    }),
    route({
      path: '/runs/{run}/correlation', name: 'correlation', summary: "Pearson's correlation of queries over all documents",
      description: `From the run's exact moments. Of the queries named, or of the first ${correlatedMax}.`,
      params: schemas.runParam,
      query: { query: schemas.queryList(correlatedMax).optional().describe('ids of queries; repeat it for each'), by: schemas.sideQuery.by },
      result: schemas.correlation,
      handle: async ({ params, query: { query: ids, by }, signal }) => {
        const run = await runOf(parts, params.run)
        const chosen = ids === undefined ? run.queries.slice(0, correlatedMax) : ids.map((id) => queryOf(run, id))
        const places = chosen.map(({ id }) => run.queries.findIndex((query) => query.id === id))
        const moments = await readMoments(log, run)
        const pearson: (number | null)[][] = places.map(() => places.map(() => null))
        for (let i = 0; i < places.length && moments !== undefined; i++) {
          if (signal.aborted) throw new HttpProblem(503, 'the client has gone')
          for (let j = i; j < places.length; j++) pearson[i][j] = pearson[j][i] = finite(moments[by].correlation(places[i], places[j]))
          // Exact sums take their time: others come between.
          await new Promise((resolve) => setImmediate(resolve))
        }
        return { by, count: moments?.count ?? 0, ranked: rankedOf(run), queries: chosen.map(({ id }) => id), pearson }
      },
    }),
    route({
      path: '/runs/{run}/analyses', name: 'analyses', summary: "The papers' figures of a run, as of when they were computed last",
      description: 'The first request waits until they are computed; later ones get the newest that there is, and whether it is of now.',
      params: schemas.runParam, query: {}, result: schemas.analysesAnswer,
      handle: async ({ params }) => {
        const { analyses, watch } = parts
        if (analyses === undefined) throw new HttpProblem(501, 'this server computes no analyses', { fix: `tributary analyses --run ${params.run}` })
        await runOf(parts, params.run)
        await watch.look()
        const { result, isCurrent } = await analyses.get(params.run, (await watch.progress(params.run)).id)
        return { ...schemas.analyses.parse(result), isCurrent }
      },
    }),
    route({
      path: '/runs/{run}/curves', name: 'curves', summary: 'How scores fall with rank, as far as the tables reach',
      params: schemas.runParam,
      query: { query: schemas.queryList(curvesMax).describe('ids of queries; repeat it for each'), ...schemas.sideQuery },
      result: schemas.curves,
      handle: async ({ params, query: { query: ids, by, end }, signal }) => {
        const run = await runOf(parts, params.run)
        const curves: z.infer<typeof schemas.curves>['curves'] = []
        for (const id of ids) {
          queryOf(run, id)
          if (signal.aborted) break
          const [{ rows }] = await readTopK(log, run, { query: [id], rows: 1_000_000, bottom: end === 'bottom', normed: by === 'normed', texts: false })
          const ranks = ranksOf(rows.length)
          curves.push({
            query: id, ranks: [...ranks], scores: ranks.map((rank) => finite(rows[rank].score)), perNat: ranks.map((rank) => finite(rows[rank].scorePerNat)),
          })
        }
        return { by, end, curves }
      },
    }),
  ]
}
