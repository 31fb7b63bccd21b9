/** @file Which documents a fit draws on. */
import { uniformAt } from '../base/index.js'
import type { Log, LogRecord } from '../log/index.js'

export interface Place {
  readonly partition: number
  readonly offset: number
}

/** Below this mean distance between sampled offsets a run of records is read at once and the others are dropped. */
const strideScanned = 16

/**
 * At most `count` of the records [start, end) of every partition, spread evenly over each with a seeded place in every
 * stride (stratified): a topic into which one source was ingested after the other gives all of them their share.
 */
export const samplePlaces = (
  starts: readonly number[], ends: readonly number[], { count, seed }: { readonly count: number; readonly seed: number },
): readonly Place[] => {
  const total = ends.reduce((sum, end, p) => sum + end - starts[p], 0)
  const wanted = Math.min(count, total)
  // Stratum j covers [j·total/wanted, (j + 1)·total/wanted) of all records laid end to end, so no place comes twice.
  const places: Place[] = []
  let partition = 0
  let before = 0
  for (let j = 0; j < wanted; j++) {
    const from = Math.floor((j * total) / wanted)
    const to = Math.floor(((j + 1) * total) / wanted)
    const at = from + Math.floor(uniformAt(seed, j) * (to - from))
    while (at - before >= ends[partition] - starts[partition]) before += ends[partition] - starts[partition++]
    places.push({ partition, offset: starts[partition] + at - before })
  }
  return places
}

/** The records at places, in their order; places are ordered by partition and offset. */
export const readPlaces = async (log: Log, places: readonly Place[]): Promise<readonly LogRecord<'documents'>[]> => {
  const records: LogRecord<'documents'>[] = []
  for (let i = 0; i < places.length; ) {
    const { partition, offset } = places[i]
    let next = i + 1
    while (next < places.length && places[next].partition === partition && places[next].offset - places[next - 1].offset <= strideScanned) next++
    const wanted = new Set(places.slice(i, next).map((place) => place.offset))
    const end = places[next - 1].offset + 1
    for (let from = offset; from < end; ) {
      const read = await log.read('documents', partition, from, { recordsMax: Math.min(end - from, 512), bytesMax: 8 << 20 })
      if (read.length === 0) break
      records.push(...read.filter((record) => wanted.has(record.offset)))
      from = read[read.length - 1].offset + 1
    }
    i = next
  }
  return records
}
