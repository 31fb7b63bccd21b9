/**
 * @file Ingest: shards → topic `documents`. Streaming: a batch of lines is in memory at a time, whatever the shards'
 * size.
 *
 * Identity: source and id, or the hash of source and content where a line has no id. What is there already adds
 * nothing, so a shard may be ingested again, or after an interruption, without a second thought. Dead letters have an
 * identity too (shard, index, bytes).
 */
import { createHash } from 'node:crypto'
import { basename, dirname, resolve } from 'node:path'
import { DeadLetterError, UserError } from '../base/index.js'
import { keyOf, type DeadLetterValue, type DocumentValue, type Log, type NewRecord } from '../log/index.js'
import { kebab, type IngestSettings } from '../settings/index.js'
import type { PipelineContext } from './context.js'
import { silentObserver } from './observer.js'
import { findShards, readShard, type ShardLine } from './shards/index.js'
import type { Pipeline } from './steps.js'

export const steps: Pipeline = {
  name: 'ingest',
  about: 'shards → topic `documents`; a document that is there already adds nothing',
  steps: [
    { name: 'findShards', in: 'file shards', out: 'shard', note: 'files, folders and globs, in the order of their names' },
    { name: 'readShard', in: 'shard', out: 'line', note: 'streams jsonl, gz, zst, parquet and txt' },
    {
      name: 'toDocument', in: 'line', out: ['document', 'dead letter'],
      note: 'settles the source, judges the size, gives the identity',
    },
    {
      name: 'append', in: ['document', 'dead letter'], out: ['topic documents', 'topic dead-letters'],
      note: `batches of one durable transaction each; known identities add nothing`,
    },
  ],
}

/** Documents of one transaction at most, and their bytes. */
const BATCH_RECORDS_MAX = 1000
const BATCH_BYTES_MAX = 4 * 1024 ** 2
/** A key of `documents` at most: with the name of a run before it, it must fit into a key of the log. */
const KEY_BYTES_MAX = 600
/** What a dead letter keeps of the original. */
export const ORIGINAL_BYTES_MAX = 1024 ** 2
/** How a line becomes a document. */
export type DocumentOptions = Pick<IngestSettings, 'source' | 'textField' | 'idField' | 'maxBytes'>

export interface IngestResult {
  readonly shards: number
  readonly appended: number
  readonly alreadyThere: number
  /** Lines that are no documents: all of them, and those that were new to `dead-letters`. */
  readonly deadLetters: number
  readonly deadLettersNew: number
  /** The shards that could not be read to their end, and why; what was whole of them is in. */
  readonly failed: readonly { readonly shard: string; readonly problem: string; readonly fix: string | null }[]
  /** False when it was interrupted: `stoppedAt` says where. */
  readonly finished: boolean
  readonly stoppedAt: string | null
  readonly seconds: number
}

/**
 * Ingests all shards that the paths name. A shard that is torn, or has no line with the text field, does not keep the
 * others from being ingested: `failed` tells.
 * @throws UserError for paths that name no shard, and a log that cannot be written
 */
export const ingest = async (settings: IngestSettings, { log, progress, signal, now, observer = silentObserver }: PipelineContext): Promise<IngestResult> => {
  const startedMs = now()
  const shards = await findShards(settings.paths)
  const total = { appended: 0, alreadyThere: 0, deadLetters: 0, deadLettersNew: 0 }
  const failed: { shard: string; problem: string; fix: string | null }[] = []
  let stoppedAt: string | null = null
  let done = 0
  progress.start(null, 'documents')
  observer.ready()
  for (const [at, shard] of shards.entries()) {
    if (signal.aborted) {
      stoppedAt ??= `${shard}, line 1`
      break
    }
    // Named or not, a text field that no line has is an error: it would dead-letter the whole corpus.
    const idField = settings.idField === 'id' ? {} : { idField: settings.idField }
    const lines = readShard(shard, { textField: settings.textField, ...idField })[Symbol.asyncIterator]()
    for (let ended = false; !ended; ) {
      const batch: ShardLine[] = []
      let bytes = 0
      const wasRead = observer.time('read')
      while (batch.length < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX && !ended) {
        try {
          const next = await lines.next()
          if (next.done === true) ended = true
          else {
            batch.push(next.value)
            bytes += next.value.bytes
          }
        } catch (error) {
          if (!(error instanceof UserError)) throw error
          failed.push({ shard, problem: error.message, fix: error.fix ?? null })
          ended = true
        }
      }
      wasRead()
      const records = batch.map((line) => toRecord(line, shard, settings))
      const appended = observer.time('append')
      const counts = await append(log, records)
      appended()
      observer.documents({ documents: counts.appended, tokens: 0 })
      observer.duplicates(counts.alreadyThere)
      observer.deadLetters(records.flatMap(({ value }) => (value !== null && 'stage' in value ? [value] : [])))
      total.appended += counts.appended
      total.alreadyThere += counts.alreadyThere
      total.deadLetters += counts.deadLetters
      total.deadLettersNew += counts.deadLettersNew
      done += batch.length
      progress.update(done, `shard ${at + 1} of ${shards.length}`)
      if (signal.aborted && !ended) {
        const last = batch[batch.length - 1]
        stoppedAt = `${shard}, line ${last === undefined ? 1 : last.index + 2}`
        await lines.return?.()
        break
      }
    }
    if (stoppedAt !== null) break
  }
  progress.stop()
  return { shards: shards.length, ...total, failed, finished: stoppedAt === null, stoppedAt, seconds: (now() - startedMs) / 1000 }
}

/** Appends documents and dead letters, each durable and known identities left out. */
const append = async (
  log: Log,
  records: readonly NewRecord[],
): Promise<Pick<IngestResult, 'appended' | 'alreadyThere' | 'deadLetters' | 'deadLettersNew'>> => {
  const deadLetters = records.filter(({ topic }) => topic === 'dead-letters')
  const documents = records.filter(({ topic }) => topic === 'documents')
  // Dead letters first: a document that is in says that those before it are, too.
  const dead = await log.append(deadLetters, { unique: true })
  const { appended, duplicates } = await log.append(documents, { unique: true })
  return { appended, alreadyThere: duplicates, deadLetters: deadLetters.length, deadLettersNew: dead.appended }
}

/** A line as the record that it becomes: of `documents`, or of `dead-letters`. */
export const toRecord = (line: ShardLine, shard: string, options: DocumentOptions): NewRecord => {
  try {
    const value = toDocument(line, shard, options)
    return { topic: 'documents', key: keyOfDocument(value), value }
  } catch (error) {
    if (!(error instanceof DeadLetterError)) throw error
    return deadLetterOf(line, shard, options, error)
  }
}

/**
 * A line as a document.
 * @throws DeadLetterError with what is wrong with the line
 */
export const toDocument = (line: ShardLine, shard: string, { source: given, idField, maxBytes }: DocumentOptions): DocumentValue => {
  if ('problem' in line) throw new DeadLetterError('ingest', line.problem)
  const { id, text, extra } = line.ok
  const source = line.ok.source ?? given ?? sourceOf(shard)
  const extraJson = Object.keys(extra).length === 0 ? null : JSON.stringify(extra)
  const bytes = Buffer.byteLength(text) + Buffer.byteLength(extraJson ?? '')
  if (bytes > maxBytes)
    throw new DeadLetterError(
      'ingest',
      `it has ${bytes.toLocaleString('en-US')} bytes, over the bound of ${maxBytes.toLocaleString('en-US')} (--${kebab('maxBytes')})`,
    )
  const value: DocumentValue = {
    id: id === undefined ? contentHash(source, text) : printable(id),
    idGiven: id !== undefined,
    source: printable(source),
    text,
    tokens: null,
    shard: basename(shard),
    index: line.index,
    extra: extraJson,
  }
  if (Buffer.byteLength(keyOfDocument(value)) > KEY_BYTES_MAX)
    throw new DeadLetterError('ingest', `its source and "${idField}" together have over ${KEY_BYTES_MAX} bytes`)
  return value
}

/** The key of a document: what makes it the same document when it comes again. */
export const keyOfDocument = ({ source, id }: Pick<DocumentValue, 'source' | 'id'>): string => keyOf(source, id)

/** sha256 of source and text, hex. */
const contentHash = (source: string, text: string): string =>
  createHash('sha256').update(source).update('\u001f').update(text).digest('hex')

/** Control characters as their pictures (U+001F → ␟), so that no id can hold what separates keys. */
const printable = (id: string): string =>
  id.replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/\u007f/g, '\u2421')

/** Whether a shard is one document as a whole. */
export const isTextShard = (shard: string): boolean => /\.txt$/i.test(shard)

/**
 * The source of a shard's documents that name none: the file's name without extensions and without the number of a
 * part, so that the parts of one corpus are one source ("wiki-00012-of-00400.jsonl.gz" → "wiki"). Of a .txt file, which
 * is one document, the name of its folder.
 */
export const sourceOf = (shard: string): string => {
  if (isTextShard(shard)) return basename(dirname(resolve(shard))) || 'unknown'
  const name = basename(shard).replace(/(\.(jsonl|parquet|gz|zst))+$/i, '')
  return name.replace(/[-_.]\d+([-_.]of[-_.]\d+)?$/i, '') || name || 'unknown'
}

const deadLetterOf = (
  line: ShardLine,
  shard: string,
  { textField, idField }: DocumentOptions,
  { stage, message }: DeadLetterError,
): NewRecord<'dead-letters'> => {
  const original = originalOf(line, shard, { textField, idField })
  const name = basename(shard)
  const value: DeadLetterValue = {
    run: null,
    stage,
    cause: message,
    topic: null,
    partition: null,
    offset: null,
    shard: name,
    index: line.index,
    document: 'problem' in line ? idIn(original, idField) : (line.ok.id ?? null),
    piece: null,
    original: original.subarray(0, ORIGINAL_BYTES_MAX),
  }
  const hash = createHash('sha256').update(original).digest('hex')
  return { topic: 'dead-letters', key: keyOf('ingest', printable(name).slice(0, 100), line.index, hash), value }
}

/** A line that could be read and is refused all the same (size, length of its id) is written out again, with the fields that it had. */
const originalOf = (line: ShardLine, shard: string, { textField, idField }: Pick<DocumentOptions, 'textField' | 'idField'>): Uint8Array => {
  if ('problem' in line) return line.original
  const { id, text, source, extra } = line.ok
  if (isTextShard(shard)) return Buffer.from(text)
  return Buffer.from(JSON.stringify({ ...extra, [idField]: id, [textField]: text, source }))
}

/** The id of a line that is JSON and no document; null if it has none. */
const idIn = (original: Uint8Array, idField: string): string | null => {
  try {
    const id = (JSON.parse(Buffer.from(original).toString('utf8')) as Record<string, unknown> | null)?.[idField]
    return typeof id === 'string' || typeof id === 'number' ? String(id) : null
  } catch {
    return null
  }
}
