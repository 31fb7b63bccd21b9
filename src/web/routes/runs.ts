/** @file Routes: what there is, runs, their queries and how far they are. */
import { z } from 'zod'
import { runId } from '../../base/index.js'
import type { Log, TopicInfo } from '../../log/index.js'
import { placeOfId } from '../../pipeline/dead-letters.js'
import { readRetries } from '../../pipeline/retries.js'
import { readRun } from '../../pipeline/runs.js'
import type { RunRecord } from '../../settings/index.js'
import { runNames, runOf, type ApiParts } from '../parts.js'
import { route, type Route } from '../route.js'
import * as schemas from '../schemas.js'

/** Runs that are listed at most, newest first. */
const runsMax = 1000

const lagOf = async (log: Log, run: string, documents: TopicInfo | undefined): Promise<number> => {
  const positions = await log.positions(runId(run))
  return (documents?.ends ?? []).reduce((sum, end, at) => sum + Math.max(0, end - Math.max(positions[at]?.offset ?? 0, documents?.starts[at] ?? 0)), 0)
}

const summaryOf = (record: RunRecord, lag: number): z.infer<typeof schemas.runSummary> => ({
  run: record.run, createdMs: record.createdMs, queries: record.queries.length, model: record.model, factors: record.factors, lag,
})

const runsOf = async (log: Log): Promise<z.infer<typeof schemas.runSummary>[]> => {
  const documents = (await log.describe()).find(({ topic }) => topic === 'documents')
  const runs: z.infer<typeof schemas.runSummary>[] = []
  for (const name of await runNames(log)) {
    // A record of another version keeps nobody from the other runs.
    const record = await readRun(log, name).catch(() => undefined)
    if (record !== undefined) runs.push(summaryOf(record, await lagOf(log, name, documents)))
  }
  return runs.sort((a, b) => b.createdMs - a.createdMs || (a.run < b.run ? -1 : 1)).slice(0, runsMax)
}

export const runRoutes = (parts: ApiParts): readonly Route[] => {
  const { log, watch, version } = parts
  return [
    route({
      path: '/status', name: 'status', summary: 'Topics and runs',
      params: {}, query: {}, result: schemas.status,
      handle: async () => {
        await watch.look()
        const topics = (await log.describe()).map(({ topic, partitions, ends, starts }) => ({
          topic, partitions, records: ends.reduce((sum, end, at) => sum + end - starts[at], 0), ends: [...ends],
        }))
        const deadLetters = topics.find(({ topic }) => topic === 'dead-letters')?.records ?? 0
        const runs = await runsOf(log)
        const run = runs.find((one) => one.run === parts.run)?.run ?? runs[0]?.run ?? null
        return { version, topics, runs, deadLetters, run, canExplain: parts.explain !== undefined, canAnalyse: parts.analyses !== undefined }
      },
    }),
    route({
      path: '/runs', name: 'runs', summary: 'All runs, newest first',
      params: {}, query: {}, result: z.array(schemas.runSummary),
      handle: () => runsOf(log),
    }),
    route({
      path: '/runs/{run}', name: 'run', summary: 'A run: its model, factors, join and settings',
      params: schemas.runParam, query: {}, result: schemas.runDetail,
      handle: async ({ params }) => {
        const record = await runOf(parts, params.run)
        const documents = (await log.describe()).find(({ topic }) => topic === 'documents')
        const { checkpoint, queryModel, queryCheckpoint, factorsHash, join, joinReason, settings, accuracy, versions } = record
        return {
          ...summaryOf(record, await lagOf(log, params.run, documents)),
          checkpoint, queryModel, queryCheckpoint, factorsHash, join, joinReason, settings, accuracy: accuracy ?? null, versions: { ...versions },
        }
      },
    }),
    route({
      path: '/runs/{run}/queries', name: 'queries', summary: "A run's queries, in the order of its scores",
      params: schemas.runParam, query: {}, result: z.array(schemas.query),
      handle: async ({ params }) =>
        (await runOf(parts, params.run)).queries.map(({ id, prompt, completion, group, task, answer, steps, tokens, promptTokens, informationNats }) => ({
          id, prompt, completion, group, task, answer, steps: steps === null ? null : [...steps], tokens, promptTokens, informationNats,
        })),
    }),
    route({
      path: '/runs/{run}/progress', name: 'progress', summary: 'How far a run is: positions, lag, throughput',
      params: schemas.runParam, query: {}, result: schemas.progress,
      handle: async ({ params }) => {
        await runOf(parts, params.run)
        await watch.look()
        return schemas.progress.parse(await watch.progress(params.run))
      },
    }),
    route({
      path: '/dead-letters', name: 'deadLetters', summary: 'What could not be processed, newest first',
      params: {},
      query: {
        run: schemas.runParam.run.optional().describe('only those of this run; of no run: those of ingest'),
        stage: z.enum(['ingest', 'decode', 'tokenize', 'score', 'fit']).optional(),
        limit: limit.default(50),
      },
      result: schemas.deadLetters,
      handle: async ({ query }) => {
        await watch.look()
        const retries = await readRetries(log)
        const letters = watch.deadLetters.newest(query).map((letter) => ({ ...letter, retry: retries.of(placeOfId(letter.id)) }))
        return schemas.deadLetters.parse({ counts: watch.deadLetters.counts(query.run), letters })
      },
    }),
  ]
}

const limit = z.string().regex(/^\d{1,4}$/, 'not a whole number').transform(Number).pipe(z.int().min(1).max(500))
