/** @file Documents by their places, read in the order of the topic: what lies between is skipped where it is much. */
import { offsetOfPlace, partitionOfPlace, type Place } from '../analysis/index.js'
import type { DocumentValue, Log } from '../log/index.js'

/** Records of one read at most, and their bytes. */
const BOUNDS = { recordsMax: 256, bytesMax: 8 << 20 }
/** So many records that nobody wants are read along rather than skipped. */
const GAP_MAX = 32

/**
 * The documents at some places, ascending. One that the log keeps no longer, or that cannot be decoded, is left out.
 * @param places ascending, each once
 */
export async function* documentsAt(log: Log, places: readonly Place[]): AsyncGenerator<{ readonly place: Place; readonly value: DocumentValue }> {
  for (let from = 0; from < places.length; ) {
    const partition = partitionOfPlace(places[from])
    const first = offsetOfPlace(places[from])
    let to = from + 1
    while (
      to < places.length && partitionOfPlace(places[to]) === partition &&
      offsetOfPlace(places[to]) - offsetOfPlace(places[to - 1]) <= GAP_MAX && offsetOfPlace(places[to]) - first < BOUNDS.recordsMax
    )
      to++
    const wanted = new Map(places.slice(from, to).map((place) => [offsetOfPlace(place), place]))
    const last = offsetOfPlace(places[to - 1])
    for (let offset = first; offset <= last; ) {
      const records = await log.read('documents', partition, offset, { ...BOUNDS, recordsMax: last - offset + 1 })
      if (records.length === 0) break
      for (const record of records) {
        const place = wanted.get(record.offset)
        if (place !== undefined && record.value !== undefined) yield { place, value: record.value }
      }
      offset = records[records.length - 1].offset + 1
    }
    from = to
  }
}

/** The names in a field of a line's other fields: one text, or a list of them. Nothing where it is neither. */
export const namesIn = (extra: string | null, field: string): readonly string[] => {
  const value = fieldOf(extra, field)
  return typeof value === 'string' ? [value] : Array.isArray(value) ? value.filter((name): name is string => typeof name === 'string') : []
}

/** A field of a line's other fields (`DocumentValue.extra`, `QueryValue.extra`); undefined where there is none. */
export const fieldOf = (extra: string | null, field: string): unknown => {
  if (extra === null) return undefined
  try {
    const fields: unknown = JSON.parse(extra)
    return typeof fields === 'object' && fields !== null && Object.hasOwn(fields, field) ? (fields as Readonly<Record<string, unknown>>)[field] : undefined
  } catch {
    return undefined
  }
}
