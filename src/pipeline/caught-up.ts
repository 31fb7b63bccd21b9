/** @file How far a run is as a whole, whichever workers brought it there. */
import type { RunId } from '../base/index.js'
import type { Log } from '../log/index.js'
import { readRetries } from './retries.js'

/**
 * Whether every record of `documents` is scored and committed, and every retry that was asked for is answered, by
 * whichever worker. Offsets alone do not tell: on a
 * cluster the end lies behind the last record, with the marks of transactions between.
 */
export const hasCaughtUp = async (log: Log, run: RunId): Promise<boolean> => {
  const ends = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends ?? []
  const positions = await log.positions(run)
  for (const [partition, end] of ends.entries()) {
    const { offset = 0, detail } = positions[partition] ?? {}
    if (detail !== undefined) return false
    if (offset < end && (await log.read('documents', partition, offset, { recordsMax: 1, bytesMax: 1 })).length > 0) return false
  }
  return (await readRetries(log, run)).open.length === 0
}

/** Records behind the positions: those of the workers here, and the committed ones of other partitions. */
export const leftOf = async (log: Log, run: RunId, workers: Iterable<{ readonly partition: number; readonly reached: number }>): Promise<number> => {
  const ends = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends ?? []
  const here = new Map([...workers].map(({ partition, reached }) => [partition, reached]))
  const positions = here.size === ends.length ? [] : await log.positions(run)
  return ends.reduce((left, end, partition) => left + Math.max(0, end - (here.get(partition) ?? positions[partition]?.offset ?? 0)), 0)
}
