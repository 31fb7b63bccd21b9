/**
 * @file The self-check of docs/method.md §6: every query's own text scored as though it were a document, by the checkpoint
 * and factors of the run. Needs the engine; everything else of the analyses does not.
 */
import { ownTextOf, type OwnScores } from '../analysis/index.js'
import { UserError } from '../base/index.js'
import type { QueryValue } from '../log/index.js'
import { engineOfIdentity, laterOfRecord, scoreSettings, type Damping, type RunRecord } from '../settings/index.js'
import type { Progress } from './context.js'
import { prepareScoring, scoreDocuments, type DocumentScore } from './score-documents.js'

/** @throws UserError where checkpoint or factors of the run are not there any more, or are others */
export const scoreOwnTexts = async (
  run: RunRecord, { home, threads, progress, signal }: { readonly home: string; readonly threads: number | null; readonly progress: Progress; readonly signal: AbortSignal },
): Promise<OwnScores> => {
  const settings = scoreSettings({
    home, threads, engine: engineOfIdentity(run.settings.engine).engine, run: run.run, model: run.model, factors: run.factors, join: run.join,
    ...(run.queryModel === run.model ? {} : { queryModel: run.queryModel }),
    ...pick(run, 'rank', 'sharedRank', 'seed', 'context', 'batchTokens', 'stageMemory'), damping: run.settings.damping as unknown as Damping,
    later: laterOfRecord(run.settings.later),
  })
  const queries = run.queries.map(({ id, prompt, completion, group, task, answer, steps }): QueryValue => ({ id, prompt, completion, group, task, answer, steps, extra: null }))
  await using scoring = await prepareScoring(settings, queries, { progress, signal })
  // Another checkpoint or other factors under the same names would make other queries: their information tells.
  run.queries.forEach(({ id, informationNats }, q) => {
    const now = scoring.queries[q].informationNats
    if (Math.abs(now - informationNats) > 1e-3 * Math.abs(informationNats))
      throw new UserError(`query "${id}" has ${now.toFixed(4)} nats under "${run.model}", it had ${informationNats.toFixed(4)} when the run began`, { fix: 'put the checkpoint of the run in its place again' })
  })
  const scores = run.queries.map((): { raw: number; normed: number; promptRaw: number | null } => ({ raw: NaN, normed: NaN, promptRaw: null }))
  // Own texts, and behind them their prompts.
  const documents = [...queries.map(ownTextOf), ...queries.map(({ prompt }) => prompt)].map((text, at) => ({ id: String(at), text }))
  const [own, prompts] = [new Map<number, DocumentScore>(), new Map<number, DocumentScore>()]
  for await (const score of scoreDocuments(scoring, documents, { signal, onRejected: () => undefined }))
    if (score.piece === 0) (score.index < queries.length ? own : prompts).set(score.index % queries.length, score)
  for (const [q, { influence, gradientNorm, loss }] of own) {
    const prompt = prompts.get(q)
    // The losses tell whether the text's tokens are the prompt's and the completion's, one after the other.
    const isPart = prompt !== undefined && Math.abs(loss - prompt.loss - scoring.queries[q].informationNats) <= 1e-4 * Math.max(1, loss)
    scores[q] = { raw: influence[q], normed: Math.fround(influence[q] / gradientNorm), promptRaw: isPart ? prompt.influence[q] : null }
  }
  return scores
}

/** Settings that the run was begun with, where it has them. */
const pick = (run: RunRecord, ...names: readonly ('rank' | 'sharedRank' | 'seed' | 'context' | 'batchTokens' | 'stageMemory')[]): Readonly<Record<string, number>> =>
  Object.fromEntries(names.flatMap((name) => (typeof run.settings[name] === 'number' ? [[name, run.settings[name]]] : [])))
