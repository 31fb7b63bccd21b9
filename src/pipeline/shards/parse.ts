/** @file A line, a row or a text → a document, or the reason why it is none. */
import type { RawLine } from './lines.js'
import { originalBytesMax, Torn, type ShardLine } from './types.js'

/** The names of the fields, and the source of lines that name none. */
export interface Fields {
  readonly text: string
  readonly id: string
  readonly source: string | undefined
}

/** Deeper values cannot be written as JSON again without fear for the stack. */
const depthMax = 200

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
/** Text of UTF-8 bytes without a byte order mark; undefined if they are not UTF-8. */
export const decodeUtf8 = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

/** A problem on its way to a ShardLine. */
class Problem extends Error {}

/** The fields of lines that are records; for `requireFields`. */
const fieldsByLine = new WeakMap<ShardLine, readonly string[]>()
export const fieldsOf = (line: ShardLine): readonly string[] | undefined => fieldsByLine.get(line)

/** A line of JSON; undefined if it is blank. Torn if it is the last one and breaks off. */
export const parseLine = (line: RawLine, fields: Fields, lineBytesMax: number): ShardLine | undefined => {
  const { index, bytesTotal } = line
  if (bytesTotal > lineBytesMax)
    return problem(`the line has ${bytesTotal} bytes, over the bound of ${lineBytesMax}`, index, bytesTotal, line.bytes)
  const bytes = index === 0 ? withoutMark(line.bytes) : line.bytes
  if (isBlank(bytes)) return undefined
  const text = decodeUtf8(bytes)
  if (text === undefined) {
    if (!line.isEnded && isCut(new TextDecoder().decode(bytes))) throw cutLine(line)
    return problem('the line is not UTF-8', index, bytesTotal, bytes)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    if (!line.isEnded && isCut(text)) throw cutLine(line)
    return problem(`the line is not JSON: ${error instanceof Error ? error.message : error}`, index, bytesTotal, bytes)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return problem('the line is JSON, but not an object', index, bytesTotal, bytes)
  return parseRecord(value, fields, { index, bytes: bytesTotal, original: () => bytes })
}

/** An object with named fields. `original` makes the bytes that a problem keeps. */
export const parseRecord = (
  record: object,
  fields: Fields,
  { index, bytes, original }: { readonly index: number; readonly bytes: number; readonly original: () => Uint8Array },
): ShardLine => {
  let line: ShardLine
  try {
    line = { ok: documentOf(new Map(Object.entries(record)), fields), index, bytes }
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    line = problem(error.message, index, bytes, original())
  }
  fieldsByLine.set(line, Object.keys(record))
  return line
}

/** A whole .txt file. */
export const parseText = (bytes: Uint8Array, bytesTotal: number, fields: Fields, bytesMax: number): ShardLine => {
  if (bytesTotal > bytesMax)
    return problem(`the file has ${bytesTotal} bytes, over the bound of ${bytesMax}`, 0, bytesTotal, bytes)
  const text = decodeUtf8(withoutMark(bytes))
  if (text === undefined) return problem('the file is not UTF-8', 0, bytesTotal, bytes)
  if (text === '') return problem('the file is empty', 0, bytesTotal, bytes)
  return { ok: { text, ...(fields.source === undefined ? {} : { source: fields.source }), extra: {} }, index: 0, bytes: bytesTotal }
}

const documentOf = (record: Map<string, unknown>, fields: Fields): { text: string; extra: Record<string, unknown> } => {
  const take = (field: string): unknown => {
    const value = record.get(field)
    record.delete(field)
    return value
  }
  const text = textOf(take(fields.text), fields.text)
  const id = idOf(take(fields.id), fields.id)
  const source = sourceOf(take('source')) ?? fields.source
  const extra = Object.fromEntries(record)
  if (isDeeperThan(extra, depthMax)) throw new Problem(`its fields are nested more than ${depthMax} deep`)
  return { ...(id === undefined ? {} : { id }), text, ...(source === undefined ? {} : { source }), extra }
}

const textOf = (value: unknown, field: string): string => {
  if (value === undefined) throw new Problem(`it has no field "${field}"`)
  if (value instanceof Undecoded) throw new Problem(`its field "${field}" is not UTF-8`)
  if (typeof value !== 'string') throw new Problem(`its field "${field}" is ${kindOf(value)}, not a string`)
  if (value === '') throw new Problem(`its field "${field}" is empty`)
  return value
}

const idOf = (value: unknown, field: string): string | undefined => {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value === 'string') return value
  if (typeof value !== 'number') throw new Problem(`its field "${field}" is ${kindOf(value)}, not a string or a number`)
  // A number beyond 2^53 has lost its last digits when it is read: two ids could become one.
  if (Math.abs(value) > Number.MAX_SAFE_INTEGER)
    throw new Problem(`its field "${field}" is a number beyond 2^53, ${value}; write it as a string`)
  return String(value)
}

const sourceOf = (value: unknown): string | undefined => {
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw new Problem(`its field "source" is ${kindOf(value)}, not a string`)
  return value
}

/** How a dead letter marks such bytes in the JSON of a row: {"bytes that are not UTF-8": base64}. */
export const bytesField = 'bytes that are not UTF-8'

/** A string of a row whose bytes are not UTF-8. */
export class Undecoded {
  readonly bytes: Uint8Array
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
  /** As JSON, in base64. */
  toJSON(): string {
    return Buffer.from(this.bytes).toString('base64')
  }
}

const kindOf = (value: unknown): string => {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'an array'
  if (value instanceof Undecoded) return 'not UTF-8'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

export const problem = (reason: string, index: number, bytes: number, original: Uint8Array): ShardLine => ({
  problem: reason,
  index,
  bytes,
  original: original.slice(0, originalBytesMax),
})

const cutLine = ({ index, bytesTotal }: RawLine): Torn =>
  new Torn(`line ${index + 1} breaks off after ${bytesTotal} bytes, within its JSON`)

/** Whether JSON that did not parse is the beginning of an object whose end is missing. */
const isCut = (text: string): boolean => {
  if (!text.trimStart().startsWith('{')) return false
  let depth = 0
  let isString = false
  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    if (isString) {
      if (c === '\\') at++
      else if (c === '"') isString = false
    } else if (c === '"') isString = true
    else if (c === '{' || c === '[') depth++
    else if (c === '}' || c === ']') depth--
  }
  return isString || depth > 0
}

/** Whether there is nothing but JSON's white space. */
const isBlank = (bytes: Uint8Array): boolean => {
  for (const byte of bytes) if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d) return false
  return true
}

const withoutMark = (bytes: Uint8Array): Uint8Array =>
  bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes

const isDeeperThan = (value: unknown, levels: number): boolean => {
  if (typeof value !== 'object' || value === null) return false
  if (levels === 0) return true
  for (const inner of Object.values(value)) if (isDeeperThan(inner, levels - 1)) return true
  return false
}
