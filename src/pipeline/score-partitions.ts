/**
 * @file The shell around `scoreChunk`: takes up the partitions that are assigned to this worker, has a chunk of each in
 * turn scored and committed (partition-worker.ts), and drops those that are lost.
 */
import { TransientError } from '../base/index.js'
import type { Assignment, Log } from '../log/index.js'
import { hasCaughtUp, leftOf } from './caught-up.js'
import { silentObserver } from './observer.js'
import type { Ownership } from './ownership.js'
import { partitionWorker, type PartitionWorker, type ScoreParts } from './partition-worker.js'
import { nothing, sum, type Tally } from './tally.js'

export type { ScoreParts } from './partition-worker.js'
export type { Tally } from './tally.js'

/** How often the ends of `documents` are asked for, ms. */
const endsEveryMs = 1_000
/** How often a worker without work asks whether the others are done, ms. */
const waitMsMax = 500
/** How often one that follows looks again at what it owns, and for retries, whether anything was told or not, ms. */
const followMsMax = 5_000

export interface PassResult extends Tally {
  /** Records of the whole run that are not scored; 0 when it has caught up. */
  readonly left: number
}

/**
 * Scores what the partitions hold that this worker owns, as they come and go. Without `follow` it ends when the run as a
 * whole has caught up, whichever workers do it. Resolves to what this worker did (and committed).
 *
 * In memory at a time: two chunks (one in hand, one read ahead), however many partitions are owned; and of each partition that
 * is, its tables and moments, what waits for a commit and what is on its way in one. No commit is on its way when this ends,
 * whether it resolves or rejects.
 * @throws what the scorer, or the log for good, rejects with: a worker that cannot go on ends
 */
export const scorePartitions = async (owned: Ownership, parts: ScoreParts): Promise<PassResult> => {
  const { log, run, signal, follow, observer = silentObserver } = parts
  const workers = new Map<Assignment, PartitionWorker>()
  /** Assignments that were taken up, whatever became of them: one that was dropped is not taken up again. */
  const known = new WeakSet<Assignment>()
  const restoring = new Set<Promise<void>>()
  let failure: { readonly error: unknown } | undefined
  let total: Tally = nothing
  let left = 0
  let countedMs = -Infinity
  /** Commits of workers that were dropped while these were on their way: they may count. */
  const leaving = new Set<Promise<void>>()

  const drop = (worker: PartitionWorker): void => {
    workers.delete(worker.assignment)
    observer.lost(worker.partition)
    const gone = worker.settled().then(() => {
      total = sum(total, worker.uncommitted, -1)
      leaving.delete(gone)
    })
    leaving.add(gone)
  }
  const restore = async (assignment: Assignment): Promise<void> => {
    try {
      const worker = await partitionWorker(assignment, parts)
      if (assignment.lost.aborted) observer.lost(assignment.partition)
      else workers.set(assignment, worker)
    } catch (error) {
      if (isLoss(error, assignment)) observer.lost(assignment.partition)
      else failure ??= { error }
    }
  }
  /** Takes up what was assigned, drops what was lost with all that was not committed. The workers, by partition. */
  const reconcile = (): readonly PartitionWorker[] => {
    if (failure !== undefined) throw failure.error
    const current = owned.current()
    for (const worker of [...workers.values()]) if (!current.includes(worker.assignment)) drop(worker)
    for (const assignment of current) {
      if (known.has(assignment)) continue
      known.add(assignment)
      const restored = restore(assignment).finally(() => restoring.delete(restored))
      restoring.add(restored)
    }
    return [...workers.values()].sort((a, b) => a.partition - b.partition)
  }
  /** Undefined if the partition was lost over it. */
  const unlessLost = async <T>(worker: PartitionWorker, work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work()
    } catch (error) {
      if (!isLoss(error, worker.assignment)) throw error
      drop(worker) // if it is offered again, then as another assignment
      return undefined
    }
  }
  const report = async (done: Tally): Promise<void> => {
    total = sum(total, done)
    // The topic may be growing: its ends are asked for now and then.
    if (parts.now() - countedMs > endsEveryMs) {
      left = await leftOf(log, run, workers.values())
      countedMs = parts.now()
    } else left = Math.max(0, left - done.reached)
    parts.onProgress?.(total, left)
  }

  const commitAll = async (): Promise<void> => {
    await Promise.all(reconcile().map((worker) => unlessLost(worker, worker.commit)))
  }
  /** Resolves to the records of the run that are left. */
  const pass = async (): Promise<number> => {
    reconcile()
    await Promise.all(restoring)
    reconcile()
    observer.ready()
    for (;;) {
      let idle = true
      // A chunk of each in turn, so that no partition waits for another's end.
      const turn = reconcile()
      for (const [at, worker] of turn.entries()) {
        if (signal.aborted) break
        if (!workers.has(worker.assignment) || worker.assignment.lost.aborted) continue
        const next = turn[(at + 1) % turn.length]
        const worked = await unlessLost(worker, () => worker.chunk({
          onOutcome: report,
          // While this chunk is computed, the next one is read and tokenized.
          meanwhile: () => next.prepare(next === worker),
        }))
        idle &&= worked === false
      }
      if (signal.aborted) break
      if (!idle) continue
      await commitAll()
      if (restoring.size > 0) await Promise.race([...restoring, owned.changed({ signal, msMax: waitMsMax })])
      else if (!follow && (await hasCaughtUp(log, run))) return 0
      else {
        if (follow) parts.onProgress?.(total, 0)
        observer.idle()
        await waited(log, owned, signal, follow)
      }
    }
    await commitAll()
    return (await hasCaughtUp(log, run)) ? 0 : Math.max(1, await leftOf(log, run, workers.values()))
  }

  try {
    const behind = await pass()
    await Promise.all(leaving)
    return { ...total, left: behind }
  } finally {
    await Promise.all([...workers.values()].map((worker) => worker.settled()))
    await Promise.all(leaving)
  }
}

/** Until something may be there to do: more documents, another partition; or, without `follow`, others may be done. */
const waited = async (log: Log, owned: Ownership, signal: AbortSignal, follow: boolean): Promise<void> => {
  const over = new AbortController()
  const end = (): void => over.abort()
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  const grown = log.grown({ signal: over.signal })
  try {
    await Promise.race([grown, owned.changed({ signal: over.signal, msMax: follow ? followMsMax : waitMsMax })])
  } finally {
    signal.removeEventListener('abort', end)
    end()
    await grown
  }
}

/** Whether an error only says that the partition is not ours any more, or has to be taken up anew. */
const isLoss = (error: unknown, { lost }: Assignment): boolean => lost.aborted || error instanceof TransientError
