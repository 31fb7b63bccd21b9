/** @file An observer that counts. */
import type { Observer } from '../pipeline/observer.js'
import { causeClass } from './causes.js'
import { ScoreDrift } from './drift.js'
import type { Metrics } from './metrics.js'

/** Whose work is counted: labels of every metric. */
export interface Work {
  /** `ingest`, `fit`, `score`, `sum`, `analyses`, `report`. */
  readonly pipeline: string
  /** The run; of a fit its factor set; empty for an ingest. */
  readonly run: string
}

/**
 * @param clock  milliseconds, never backwards; of durations
 * @param now    milliseconds since the epoch; of latencies
 */
export const metricsObserver = (
  metrics: Metrics, { pipeline, run }: Work, { clock, now }: { readonly clock: () => number; readonly now: () => number },
): { readonly observer: Observer; readonly collect: () => void } => {
  const work = { pipeline, run }
  const drift = new ScoreDrift()
  let engineFreeMs = -Infinity
  let owned = 0
  const partitionOf = (partition: number | undefined): string => (partition === undefined ? '' : String(partition))
  metrics.ready.set(work, 0)
  metrics.healthy.set(work, 1)
  for (const counter of [metrics.duplicates, metrics.padding]) counter.inc(work, 0)
  const observer: Observer = {
    ready: () => metrics.ready.set(work, 1),
    idle: () => {},
    quiet: () => {},
    time: (stage) => {
      const beganMs = clock()
      return () => metrics.stages.observe({ ...work, stage }, (clock() - beganMs) / 1000)
    },
    batch: ({ sequences, tokens, padded }) => {
      const beganMs = clock()
      return () => {
        const endedMs = clock()
        // Two are handed over at a time and the engine computes one: what the second waits is not its own.
        metrics.stages.observe({ ...work, stage: 'compute' }, (endedMs - Math.max(beganMs, engineFreeMs)) / 1000)
        engineFreeMs = endedMs
        metrics.batchSequences.observe(work, sequences)
        metrics.batchTokens.observe(work, tokens)
        metrics.padding.inc(work, padded - tokens)
      }
    },
    documents: ({ partition, documents, pieces = documents, tokens }) => {
      const labels = { ...work, partition: partitionOf(partition) }
      metrics.documents.inc(labels, documents)
      metrics.pieces.inc(labels, pieces)
      metrics.tokens.inc(labels, tokens)
    },
    duplicates: (count) => metrics.duplicates.inc(work, count),
    deadLetters: (letters) => {
      for (const letter of letters) metrics.deadLetters.inc({ ...work, stage: letter.stage, cause: causeClass(letter) })
    },
    scores: ({ partition, scored, normed, tableChanges }) => {
      drift.insert(partition, scored, normed)
      metrics.tableChanges.inc({ run, partition }, tableChanges)
    },
    committed: ({ partition, records, offset, appendedMs }) => {
      const labels = { run, partition: String(partition) }
      metrics.commits.inc({ ...labels, result: 'committed' })
      metrics.records.inc(labels, records)
      metrics.position.set(labels, offset)
      const nowMs = now()
      for (const ms of appendedMs) metrics.latency.observe(labels, Math.max(0, nowMs - ms) / 1000)
    },
    notCommitted: ({ partition, reason }) => metrics.commits.inc({ run, partition: String(partition), result: reason }),
    assigned: (partition) => {
      metrics.assigned.set({ run }, ++owned)
      metrics.assignments.inc({ run, change: 'assigned' })
      metrics.assignments.inc({ run, change: 'lost' }, 0)
      // From zero on, so that a rate sees the first of each.
      for (const result of ['committed', 'fenced', 'failed']) metrics.commits.inc({ run, partition: String(partition), result }, 0)
      for (const counter of [metrics.documents, metrics.pieces, metrics.tokens]) counter.inc({ ...work, partition: String(partition) }, 0)
    },
    lost: (partition) => {
      metrics.assigned.set({ run }, --owned)
      metrics.assignments.inc({ run, change: 'lost' })
      drift.forget(partition)
      // What another worker tells of now.
      metrics.lag.remove({ run, partition: String(partition) })
      metrics.position.remove({ run, partition: String(partition) })
    },
    cache: ({ kind, hits, misses }) => {
      metrics.cache.inc({ run, kind, result: 'hit' }, hits)
      metrics.cache.inc({ run, kind, result: 'miss' }, misses)
    },
    engine: ({ name, threads, weightsBytes, boundBytes }) => {
      const labels = { run, engine: name }
      metrics.threads.set(labels, threads)
      metrics.weights.set(labels, weightsBytes)
      metrics.bound.set(labels, boundBytes)
    },
  }
  return {
    observer,
    collect: () => {
      const read = drift.read()
      if (read === undefined) return
      metrics.shift.set({ run, over: 'max' }, read.shiftMax)
      metrics.shift.set({ run, over: 'mean' }, read.shiftMean)
      metrics.scale.set({ run }, read.scale)
    },
  }
}
