/** @file What the routes are made of, and what they may ask of others. */
import type { Log } from '../log/index.js'
import type { RunQuery, RunRecord } from '../settings/index.js'
import { readRun } from '../pipeline/runs.js'
import { HttpProblem } from './problem.js'
import type { AnalysesDesk } from './analyses-desk.js'
import type { LogWatch } from './watch.js'

/** A document's influence on one query, term by term (docs/method.md §6). */
export interface Explanation {
  /** The score that the terms sum to. */
  readonly score: number
  /** The document's tokens as text, in order, each with its term. */
  readonly tokens: readonly { readonly text: string; readonly term: number }[]
  /** Tracked layers in the model's order, each with its part of the score. */
  readonly layers: readonly { readonly layer: string; readonly term: number }[]
}

export interface ExplainRequest {
  readonly run: RunRecord
  readonly query: RunQuery
  readonly partition: number
  readonly offset: number
  readonly piece: number
  readonly signal: AbortSignal
}

/** Computes on demand; one at a time. @throws UserError where a checkpoint or factors are not at hand */
export type Explain = (request: ExplainRequest) => Promise<Explanation>

export interface ApiParts {
  readonly log: Log
  readonly watch: LogWatch
  readonly now: () => number
  readonly version: string
  /** The run that the page opens with; absent: the newest. */
  readonly run?: string
  /** Absent: this server computes nothing. */
  readonly explain?: Explain
  /** Absent: none are computed for it. */
  readonly analyses?: AnalysesDesk
}

/** The record of a run. @throws HttpProblem 404 */
export const runOf = async ({ log }: ApiParts, run: string): Promise<RunRecord> => {
  if (!(await runNames(log)).includes(run)) throw new HttpProblem(404, `there is no run "${run}"`, { fix: 'GET /api/runs lists them' })
  return readRun(log, run)
}

/** The runs that there are; none on a log whose topics are not there yet. */
export const runNames = async (log: Log): Promise<readonly string[]> => {
  if (!(await log.describe()).some(({ topic }) => topic === 'runs')) return []
  return (await log.latest('runs')).map(({ key }) => key)
}

/** A query of a run. @throws HttpProblem 404 */
export const queryOf = (run: RunRecord, id: string): RunQuery => {
  const query = run.queries.find((one) => one.id === id)
  if (query === undefined) throw new HttpProblem(404, `run "${run.run}" has no query "${id}"`, { fix: `GET /api/runs/${encodeURIComponent(run.run)}/queries lists them` })
  return query
}
