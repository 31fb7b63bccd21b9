/** @file Which documents a run is about, where it is not about all of them. */
import type { LogRecord } from '../log/index.js'
import type { ScoreSettings } from '../settings/index.js'

export type SliceSettings = Pick<ScoreSettings, 'fromOffset' | 'fromTime' | 'onlyPartition' | 'onlySource'>

/** Whether a record of `documents` is wanted. Records that are not are passed over: the run's position goes behind them. */
export const inSlice = ({ fromOffset, fromTime, onlyPartition, onlySource }: SliceSettings): ((record: LogRecord<'documents'>) => boolean) => {
  const fromMs = fromTime === null ? -Infinity : Date.parse(fromTime)
  const partitions = new Set(onlyPartition.map(Number))
  const sources = new Set(onlySource)
  return ({ partition, offset, timestampMs, value, key }) =>
    offset >= fromOffset && timestampMs >= fromMs
    && (partitions.size === 0 || partitions.has(partition))
    // A key begins with the source, also of a record that cannot be decoded.
    && (sources.size === 0 || sources.has(value?.source ?? key.split('\u001f')[0]))
}
