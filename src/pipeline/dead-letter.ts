/** @file What cannot be processed, as a record of `dead-letters`. */
import { keyOf, type LogRecord, type NewRecord } from '../log/index.js'
import type { Rejected } from './operators/to-pieces.js'

/** What a dead letter keeps of the original. */
const originalBytesMax = 1 << 20

/**
 * @param run the run, or the factor set, that could not use the document
 * @param piece which piece of it, from 0; null: the document as a whole
 */
export const deadLetter = (run: string, { record, stage, cause }: Rejected, piece: number | null = null): NewRecord<'dead-letters'> => ({
  topic: 'dead-letters',
  key: keyOf(run, record.key),
  value: {
    run,
    stage,
    cause,
    topic: 'documents',
    partition: record.partition,
    offset: record.offset,
    shard: record.value?.shard ?? null,
    index: record.value?.index ?? null,
    document: record.value?.id ?? null,
    piece,
    original: originalOf(record).subarray(0, originalBytesMax),
  },
})

const originalOf = ({ raw, value }: LogRecord<'documents'>): Uint8Array =>
  raw ?? Buffer.from(value === undefined ? '' : (value.text ?? JSON.stringify(value.tokens)))
