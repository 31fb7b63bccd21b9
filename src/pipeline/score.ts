/**
 * @file Score: every document of `documents` against the queries of a run → `influence`, `tables`, `moments`.
 * The operators are in score-chunk.ts, the shell that pulls and commits in score-partitions.ts.
 */
import { runId, UserError } from '../base/index.js'
import type { Assignment } from '../log/index.js'
import type { ScoreSettings } from '../settings/index.js'
import { onnxEngine } from '../tensor/index.js'
import { beginRun, type BegunRun } from './begin-run.js'
import type { PipelineContext, WorkResult } from './context.js'
import { measureAccuracy, rescore } from './rescore.js'
import { scorePartitions, type Tally } from './score-partitions.js'
import { openScorer } from './scorer.js'
import type { Pipeline } from './steps.js'

export const steps: Pipeline = {
  name: 'score',
  about: '`documents` → influence on every query, running tables and moments',
  steps: [
    { name: 'toPieces', in: 'topic documents', out: ['piece', 'rejected'], note: 'decodes and tokenizes; what is longer than the context is split or truncated' },
    { name: 'batchByTokens', in: 'piece', out: 'batch', note: 'sorts a chunk by length and cuts it into batches of about equal tokens' },
    { name: 'scoreBatch', in: ['batch', 'artifact query cache'], out: 'scores', note: 'forward, backward down to the lowest tracked layer, join: one program on the engine' },
    { name: 'insert', in: 'scores', out: ['tables and moments', 'rejected'], note: 'top-k and bottom-k, raw and normed; exact sums; what is no number is rejected' },
    { name: 'commit', in: ['scores', 'tables and moments', 'rejected'], out: ['topic influence', 'topic tables', 'topic moments', 'topic dead-letters'], note: 'records, state and position in one transaction' },
    { name: 'rescore', in: ['topic tables', 'topic documents'], out: 'topic rescored', note: 'the first rows of each table again, with full-rank queries' },
  ],
}

/** @throws UserError for whatever does not fit together, before any document is scored */
export const score = async (settings: ScoreSettings, context: PipelineContext): Promise<WorkResult> => {
  const { log, progress, signal, now } = context
  const startedMs = now()
  const run = runId(settings.run)
  const release = new AbortController()
  try {
    const partitions: Assignment[] = []
    for await (const assignment of log.assignments(run, { signal: release.signal })) partitions.push(assignment)
    await using engine = onnxEngine({ threads: settings.threads ?? undefined })
    const begun = await beginRun(settings, engine, context)
    if (!begun.goesOn) progress.log(`join ${begun.record.joinReason}`)
    const notes: string[] = begun.goesOn ? [`run "${run}" goes on; join ${begun.record.join}`] : [`join ${begun.record.joinReason}`]
    const done = await pass(settings, begun, partitions, context)
    const finished = done.left === 0 && !signal.aborted
    if (finished) {
      const parts = { settings, begun, engine, log, progress, signal }
      context.observer?.quiet('rescore')
      const rescored = context.observer?.time('rescore')
      notes.push(...(await measureAccuracy(parts)), ...(await rescore(parts)))
      rescored?.()
    }
    progress.stop()
    return {
      documents: done.documents, tokens: done.tokens, deadLetters: done.deadLetters, documentsLeft: done.left,
      finished: done.left === 0 && (finished || settings.follow), seconds: (now() - startedMs) / 1000, notes,
    }
  } catch (error) {
    if (signal.aborted && error === signal.reason) throw new UserError('stopped while the queries were prepared; what is ready is cached', { fix: 'start again: it goes on from there' })
    throw error
  } finally {
    release.abort()
  }
}

/** The pass over the corpus. */
const pass = async (
  settings: ScoreSettings, begun: BegunRun, partitions: readonly Assignment[], { log, progress, signal, now, observer }: PipelineContext,
): Promise<Tally & { readonly left: number }> => {
  await using open = await openScorer(begun, begun.join, settings)
  const { record } = begun
  progress.start(null, 'documents')
  return await scorePartitions(partitions, {
    log,
    run: runId(record.run),
    queries: record.queries.map(({ id }) => id),
    k: settings.k,
    scorer: open.scorer,
    tokenizer: open.tokenizer,
    options: open.options,
    bounds: open.bounds,
    follow: settings.follow,
    signal,
    now,
    commitEveryMs: settings.commitEveryMs,
    observer,
    onProgress: ({ documents, tokens, deadLetters }, left) =>
      progress.update(
        documents + deadLetters,
        `${tokens.toLocaleString('en-US')} tokens${deadLetters > 0 ? `, ${deadLetters} dead letters` : ''}`,
        documents + deadLetters + left,
      ),
  })
}
