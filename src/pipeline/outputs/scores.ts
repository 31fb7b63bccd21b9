/**
 * @file The scores of a run as they come out of the log: one row per document (or piece of one), with its three kinds
 * of scores against every query.
 */
import { UserError } from '../../base/index.js'
import type { InfluenceValue, Log, TopicInfo } from '../../log/index.js'
import type { RunRecord } from '../../settings/index.js'

/** A document's scores: f32 [Q] each, in the order of the run's queries. */
export interface ScoreRow extends Omit<InfluenceValue, 'influence'> {
  readonly influence: Float32Array
  /** influence / information (docs/method.md §1); NaN where a completion's information is not positive. */
  readonly influencePerNat: Float32Array
  /** influence / ‖∇L(z)‖; NaN for a document without gradient. */
  readonly influenceNormed: Float32Array
}

const BOUNDS = { recordsMax: 512, bytesMax: 8 * 1024 ** 2 }

/** `[start, end)` of every partition of the topic `influence`: what is there grows, a snapshot does not. */
export type Snapshot = readonly { readonly start: number; readonly end: number }[]

export const snapshotOf = async (log: Log): Promise<Snapshot> => {
  const info: TopicInfo | undefined = (await log.describe()).find(({ topic }) => topic === 'influence')
  return (info?.ends ?? []).map((end, at) => ({ start: info?.starts[at] ?? 0, end }))
}

/**
 * Every row of a run in a snapshot, by partition and offset. Holds some hundred records.
 * @throws UserError for a record that cannot be decoded, or that has another number of scores than the run has queries
 */
export async function* scoreRows(log: Log, run: RunRecord, snapshot: Snapshot): AsyncGenerator<ScoreRow> {
  const information = run.queries.map(({ informationNats }) => (informationNats > 0 ? informationNats : Number.NaN))
  for (const [partition, { start, end }] of snapshot.entries()) {
    for (let offset = start; offset < end; ) {
      const records = await log.read('influence', partition, offset, BOUNDS)
      if (records.length === 0) break
      for (const record of records) {
        if (record.offset >= end) break
        if (record.value === undefined)
          throw new UserError(`record ${record.offset} of influence, partition ${partition}, cannot be read: ${record.problem ?? ''}`)
        if (record.value.run !== run.run) continue
        yield rowOf(record.value, run, information)
      }
      offset = records[records.length - 1].offset + 1
    }
  }
}

const rowOf = (value: InfluenceValue, run: RunRecord, information: readonly number[]): ScoreRow => {
  const { influence, ...about } = value
  if (influence.length !== information.length)
    throw new UserError(
      `document "${value.document}" of run "${run.run}" has ${influence.length} scores, the run ${information.length} queries`,
    )
  const raw = Float32Array.from(influence)
  const norm = value.gradientNorm > 0 ? value.gradientNorm : Number.NaN
  return {
    ...about,
    influence: raw,
    influencePerNat: raw.map((score, q) => score / information[q]),
    influenceNormed: raw.map((score) => score / norm),
  }
}
