/** @file The moments of a run over all partitions. */
import { keyOf, type Log } from '../log/index.js'
import type { RunRecord } from '../settings/index.js'
import { RunningMoments, type MomentsRow } from '../table/index.js'

/** Merged over the partitions that have counted anything; undefined where none has. */
export const readMoments = async (log: Log, run: RunRecord): Promise<RunningMoments | undefined> => {
  const at = new Map(run.queries.map(({ id }, q) => [id, q]))
  const partitions = new Map<number, MomentsRow[]>()
  for (const { value } of await log.latest('moments', keyOf(run.run, ''))) {
    const q = value === undefined ? undefined : at.get(value.query)
    if (value === undefined || q === undefined) continue
    const rows = partitions.get(value.partition) ?? []
    rows[q] = value
    partitions.set(value.partition, rows)
  }
  let merged: RunningMoments | undefined
  for (const rows of partitions.values()) {
    // Of a commit that this reader sees half of (another machine's log), nothing is taken.
    const isWhole = rows.length === run.queries.length && run.queries.every((_, q) => rows[q]?.count === rows[0]?.count)
    if (!isWhole) continue
    const moments = RunningMoments.deserialize(rows)
    if (merged === undefined) merged = moments
    else merged.merge(moments)
  }
  return merged
}
