/**
 * @file Score: every document of `documents` against the queries of a run → `influence`, `tables`, `moments`.
 * The operators are in score-chunk.ts, the shell that pulls and commits in score-partitions.ts.
 */
import { runId, UserError } from '../base/index.js'
import type { ScoreSettings } from '../settings/index.js'
import { beginRun, type BegunRun } from './begin-run.js'
import type { PipelineContext, WorkResult } from './context.js'
import { chooseEngine } from './engine.js'
import { ownership, type Ownership } from './ownership.js'
import { finalise, isFinal, type RescoreParts } from './rescore.js'
import { scorePartitions, type PassResult } from './score-partitions.js'
import { openScorer } from './scorer.js'
import { inSlice } from './slice.js'
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
    { name: 'retryLetters', in: ['topic retries', 'topic documents'], out: ['topic influence', 'topic tables', 'topic moments', 'topic retries'], note: 'dead letters that were replayed take the same way, committed with the answer' },
    { name: 'rescore', in: ['topic tables', 'topic documents'], out: 'topic rescored', note: 'the first rows of each table again, with full-rank queries' },
  ],
}

/** @throws UserError for whatever does not fit together, before any document is scored */
export const score = async (given: ScoreSettings, context: PipelineContext): Promise<WorkResult> => {
  const { log, progress, signal, now } = context
  const startedMs = now()
  const run = runId(given.run)
  const release = new AbortController()
  try {
    const owned = ownership(log.assignments(run, { signal: release.signal }))
    // Whoever may not work on this run is told before the long preparations; on a cluster partitions may come later.
    await owned.changed({ signal, msMax: 1_000 })
    owned.current()
    const { device, note, open } = await chooseEngine(given)
    const settings: ScoreSettings = { ...given, device }
    if (note !== undefined) progress.log(note)
    await using engine = open()
    const begun = await beginRun(settings, engine, context)
    if (!begun.goesOn) progress.log(`join ${begun.record.joinReason}`)
    const notes: string[] = begun.goesOn ? [`run "${run}" goes on; join ${begun.record.join}`] : [`join ${begun.record.joinReason}`]
    const done = await pass(settings, begun, owned, context)
    const finished = done.left === 0 && !signal.aborted
    if (finished) notes.push(...(await finaliseOnce({ settings, begun, engine, log, progress, signal }, owned, context)))
    progress.stop()
    return {
      documents: done.documents, pieces: done.pieces, tokens: done.tokens, deadLetters: done.deadLetters, documentsLeft: done.left,
      finished: done.left === 0 && (finished || settings.follow), seconds: (now() - startedMs) / 1000, notes,
    }
  } catch (error) {
    if (signal.aborted && error === signal.reason) throw new UserError('stopped while the queries were prepared; what is ready is cached', { fix: 'start again: it goes on from there' })
    throw error
  } finally {
    release.abort()
  }
}

/** How often a worker asks whether another one has finalised, ms. */
const finalEveryMs = 1_000

/**
 * Accuracy and rescoring, done by the owner of partition 0. The other workers of a cluster wait for it: if it dies, the
 * partition goes to one of them.
 */
const finaliseOnce = async (parts: RescoreParts, owned: Ownership, { observer }: PipelineContext): Promise<readonly string[]> => {
  const { signal } = parts
  while (!signal.aborted && !owned.current().some(({ partition }) => partition === 0) && !(await isFinal(parts))) {
    observer?.idle()
    await owned.changed({ signal, msMax: finalEveryMs })
  }
  if (signal.aborted) return []
  observer?.quiet('rescore')
  const rescored = observer?.time('rescore')
  const notes = await finalise(parts)
  rescored?.()
  return notes
}

/** The pass over the corpus. */
const pass = async (
  settings: ScoreSettings, begun: BegunRun, owned: Ownership, { log, progress, signal, now, observer }: PipelineContext,
): Promise<PassResult> => {
  await using open = await openScorer(begun, begun.join, { ...settings, batchTokens: begun.batchTokens })
  const { record } = begun
  progress.start(null, 'documents')
  return await scorePartitions(owned, {
    log,
    run: runId(record.run),
    queries: record.queries.map(({ id }) => id),
    k: settings.k,
    scorer: open.scorer,
    together: open.together,
    tokenizer: open.tokenizer,
    options: open.options,
    wanted: inSlice(settings),
    bounds: open.bounds,
    follow: settings.follow,
    signal,
    now,
    commitEveryMs: settings.commitEveryMs,
    observer,
    onProgress: ({ documents, pieces, tokens, deadLetters, reached }, left) =>
      progress.update(
        reached,
        [
          ...(pieces === documents ? [] : [`${pieces.toLocaleString('en-US')} pieces`]),
          `${tokens.toLocaleString('en-US')} tokens`,
          ...(deadLetters > 0 ? [`${deadLetters} dead letters`] : []),
        ].join(', '),
        reached + left,
      ),
  })
}
