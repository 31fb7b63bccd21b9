/**
 * @file Ingest: shards → topic `documents`. Streaming: a batch of lines is in memory at a time, whatever the shards'
 * size.
 *
 * Identity: source and id, or the hash of source and content where a line has no id. What is there already adds
 * nothing, so a shard may be ingested again, or after an interruption, without a second thought. Dead letters have an
 * identity too (shard, index, bytes).
 */
import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { DeadLetterError, UserError } from '../base/index.js'
import { keyOf, type DeadLetterValue, type DocumentValue, type Log, type NewRecord } from '../log/index.js'
import { kebab, type IngestSettings } from '../settings/index.js'
import type { PipelineContext } from './context.js'
import { findShards, readShard, type ShardRecord } from './shards/index.js'
import type { Pipeline } from './steps.js'

export const steps: Pipeline = {
  name: 'ingest',
  about: 'shards → topic `documents`; a document that is there already adds nothing',
  steps: [
    { name: 'findShards', in: 'file shards', out: 'shard', note: 'files, folders and globs, in the order of their names' },
    { name: 'readShard', in: 'shard', out: 'line', note: 'streams jsonl, gz, zst, parquet and txt' },
    {
      name: 'toDocument', in: 'line', out: ['document', 'dead letter'],
      note: 'finds text, id and source; judges size and fields; gives the identity',
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
const ORIGINAL_BYTES_MAX = 1024 ** 2
/** So many lines without the text field, and none with it, are a wrong field and not so many bad lines. */
const HEAD_LINES = 100

/** How a line becomes a document. */
export type DocumentOptions = Pick<IngestSettings, 'source' | 'textField' | 'idField' | 'maxBytes'>

export interface IngestResult {
  readonly shards: number
  readonly appended: number
  readonly alreadyThere: number
  /** Lines that are no documents: all of them, and those that were new to `dead-letters`. */
  readonly deadLetters: number
  readonly deadLettersNew: number
  /** The shards that ended before their end, and why; what was whole of them is in. */
  readonly torn: readonly { readonly shard: string; readonly problem: string; readonly fix: string | null }[]
  /** False when it was interrupted: `stoppedAt` says where. */
  readonly finished: boolean
  readonly stoppedAt: string | null
  readonly seconds: number
}

/**
 * Ingests all shards that the paths name.
 * @throws UserError for paths that name no shard, a field that no line has, a log that cannot be written
 */
export const ingest = async (settings: IngestSettings, { log, progress, signal, now }: PipelineContext): Promise<IngestResult> => {
  const startedMs = now()
  const shards = await findShards(settings.paths)
  const total = { appended: 0, alreadyThere: 0, deadLetters: 0, deadLettersNew: 0 }
  const torn: { shard: string; problem: string; fix: string | null }[] = []
  let stoppedAt: string | null = null
  let done = 0
  progress.start(null, 'documents')
  for (const [at, shard] of shards.entries()) {
    if (signal.aborted) {
      stoppedAt ??= `${shard}, line 1`
      break
    }
    const lines = readShard(shard, { textField: settings.textField })[Symbol.asyncIterator]()
    const judge = fieldJudge(shard, settings)
    for (let ended = false; !ended; ) {
      const batch: ShardRecord[] = []
      let bytes = 0
      while (batch.length < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX && !ended) {
        try {
          const next = await lines.next()
          if (next.done === true) ended = true
          else {
            batch.push(next.value)
            bytes += next.value.raw.length
          }
        } catch (error) {
          if (!(error instanceof UserError)) throw error
          torn.push({ shard, problem: error.message, fix: error.fix ?? null })
          ended = true
        }
      }
      judge(batch, ended)
      const counts = await append(log, batch.map((line) => toRecord(line, shard, settings)))
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
  return { shards: shards.length, ...total, torn, finished: stoppedAt === null, stoppedAt, seconds: (now() - startedMs) / 1000 }
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
export const toRecord = (line: ShardRecord, shard: string, options: DocumentOptions): NewRecord => {
  try {
    const value = toDocument(line, shard, options)
    return { topic: 'documents', key: keyOfDocument(value), value }
  } catch (error) {
    if (!(error instanceof DeadLetterError)) throw error
    return deadLetterOf(line, shard, options, error)
  }
}

/**
 * A line as a document. Text, id and source are taken out of the line; its other fields are kept as JSON.
 * @throws DeadLetterError with what is wrong with the line
 */
export const toDocument = (line: ShardRecord, shard: string, options: DocumentOptions): DocumentValue => {
  const refuse = (problem: string): DeadLetterError => new DeadLetterError('ingest', problem)
  if (line.fields === undefined) throw refuse(line.problem ?? 'the line cannot be read')
  const { textField, idField, maxBytes } = options
  const { [textField]: givenText, [idField]: givenId, source: givenSource, ...others } = line.fields
  const { tokens: givenTokens, ...extra } = others

  const source = givenSource ?? options.source ?? sourceOf(shard)
  if (typeof source !== 'string' || source === '') throw refuse('its "source" is not text')

  const id = typeof givenId === 'bigint' || Number.isSafeInteger(givenId) ? String(givenId) : (givenId ?? '')
  if (typeof id === 'number')
    throw refuse(`its "${idField}" is the number ${id}, which is not exact; an id is text or a whole number below 2^53`)
  if (typeof id !== 'string') throw refuse(`its "${idField}" is neither text nor a number`)

  const hasText = givenText !== undefined && givenText !== null
  if (hasText && typeof givenText !== 'string') throw refuse(`its "${textField}" is not text`)
  const text = hasText ? givenText : null
  if (text === null && givenTokens === undefined) throw refuse(`it has no "${textField}"`)
  if (text === '') throw refuse(`its "${textField}" is empty`)
  const tokens = text === null ? tokensOf(givenTokens) : null
  if (text === null && tokens === null) throw refuse('its "tokens" are not a list of token ids')
  if (tokens?.length === 0) throw refuse('its "tokens" are none')

  // Where a line has both text and tokens, the tokens are one more field that is kept.
  const kept = text !== null && givenTokens !== undefined ? others : extra
  const extraJson = Object.keys(kept).length === 0 ? null : JSON.stringify(kept, plain)
  const bytes = (text === null ? 4 * (tokens?.length ?? 0) : Buffer.byteLength(text)) + Buffer.byteLength(extraJson ?? '')
  if (bytes > maxBytes)
    throw refuse(`it has ${bytes.toLocaleString('en-US')} bytes, at most ${maxBytes.toLocaleString('en-US')} are taken (--${kebab('maxBytes')})`)

  const value: DocumentValue = {
    id: id === '' ? contentHash(source, text ?? JSON.stringify(tokens)) : printable(id),
    idGiven: id !== '',
    source: printable(source),
    text,
    tokens,
    shard: basename(shard),
    index: line.index,
    extra: extraJson,
  }
  if (Buffer.byteLength(keyOfDocument(value)) > KEY_BYTES_MAX)
    throw refuse(`its source and "${idField}" together have over ${KEY_BYTES_MAX} bytes`)
  return value
}

/** The key of a document: what makes it the same document when it comes again. */
export const keyOfDocument = ({ source, id }: Pick<DocumentValue, 'source' | 'id'>): string => keyOf(source, id)

/** sha256 of source and content, hex. */
const contentHash = (source: string, content: string): string =>
  createHash('sha256').update(source).update('\u001f').update(content).digest('hex')

/** Control characters as their pictures (U+001F → ␟), so that no id can hold what separates keys. */
const printable = (id: string): string =>
  id.replace(/[\u0000-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0))).replace(/\u007f/g, '\u2421')

/**
 * The source of a shard's documents that name none: the file's name without extensions and without the number of a
 * part, so that the parts of one corpus are one source. "wiki-00012-of-00400.jsonl.gz" → "wiki".
 */
export const sourceOf = (shard: string): string => {
  const name = basename(shard).replace(/\.(jsonl|ndjson|json|parquet|txt|gz|zst)/gi, '')
  return name.replace(/[-_.]\d+([-_.]of[-_.]\d+)?$/i, '') || name || 'unknown'
}

const tokensOf = (given: unknown): readonly number[] | null => {
  const list = ArrayBuffer.isView(given) && !(given instanceof DataView) ? [...(given as unknown as Iterable<unknown>)] : given
  if (!Array.isArray(list)) return null
  const tokens = list.map((token: unknown) => (typeof token === 'bigint' ? Number(token) : token))
  return tokens.every((token) => Number.isInteger(token) && (token as number) >= 0 && (token as number) < 2 ** 31)
    ? (tokens as number[])
    : null
}

/** What JSON has no word for: whole numbers of 64 bits, bytes. */
const plain = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint'
    ? Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
    : value instanceof Uint8Array
      ? Buffer.from(value).toString('base64')
      : value

const deadLetterOf = (
  line: ShardRecord,
  shard: string,
  { idField }: DocumentOptions,
  { stage, message }: DeadLetterError,
): NewRecord<'dead-letters'> => {
  const original = line.raw.subarray(0, ORIGINAL_BYTES_MAX)
  const name = basename(shard)
  const givenId = line.fields?.[idField]
  const value: DeadLetterValue = {
    run: null,
    stage,
    cause: message,
    topic: null,
    partition: null,
    offset: null,
    shard: name,
    index: line.index,
    document: typeof givenId === 'string' ? givenId.slice(0, 500) : null,
    original,
  }
  const hash = createHash('sha256').update(line.raw).digest('hex')
  return { topic: 'dead-letters', key: keyOf('ingest', printable(name).slice(0, 100), line.index, hash), value }
}

/**
 * Looks at the head of a shard, before anything of it is appended, for a field that was named wrongly: then every line
 * would be a dead letter (text), or every document a new identity (id).
 */
const fieldJudge = (
  shard: string,
  { textField, idField }: DocumentOptions,
): ((batch: readonly ShardRecord[], ended: boolean) => void) => {
  let isJudged = false
  return (batch, ended) => {
    if (isJudged) return
    isJudged = true
    const rows = batch.flatMap(({ fields }) => (fields === undefined ? [] : [fields]))
    if (rows.length === 0 || (!ended && rows.length < HEAD_LINES)) return
    const known = [...new Set(rows.slice(0, HEAD_LINES).flatMap((fields) => Object.keys(fields)))]
    const has = (name: string): boolean => rows.some((fields) => fields[name] !== undefined && fields[name] !== null)
    const problem = (field: string, flag: string): UserError =>
      new UserError(`${shard}: no line has the field "${field}"; fields there are: ${known.map((name) => `"${name}"`).join(', ')}`, {
        fix: `name the right one: ${flag} NAME`,
      })
    if (!has(textField) && !has('tokens')) throw problem(textField, '--text-field')
    if (idField !== 'id' && !has(idField)) throw problem(idField, '--id-field')
  }
}
