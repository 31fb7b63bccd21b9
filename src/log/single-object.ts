/**
 * @file Avro's single-object encoding (Avro 1.11, "Single-object encoding"):
 *
 *     C3 01 | fingerprint, 8 bytes little-endian | body
 *
 * The fingerprint is CRC-64-AVRO of the Parsing Canonical Form of the schema that wrote the body.
 */
import { canonicalForm, rabin, type AvroSchema } from './avro-schema.js'
import { AvroBody, type BodyReader, type Decoded } from './avro.js'
import type { CodecFactory, SchemaStore, ValueCodec } from './codec.js'

/** Marker and fingerprint. */
export const HEAD_BYTES = 10
/** What begins with 00 may have been written by way of a schema registry (registry/wire-format.ts). */
const FOREIGN = 'no Avro single-object encoding (begins with 00, not C3 01; values written with a schema registry need --schema-registry URL)'
/** Writer schemas remembered to be known to nobody, so that broken records do not ask for theirs again and again. */
const MISSING_MAX = 256

/**
 * One topic's values to bytes and back. Schemas of other versions are looked up without waiting by `writerSchema`; where
 * they have to be asked for, `singleObject` is the codec.
 */
export class Serdes implements ValueCodec {
  readonly headBytes = HEAD_BYTES
  readonly fingerprint: bigint
  /** The fingerprint as it stands in a record's head: 8 bytes in hexadecimal, in the order of the bytes. */
  readonly id: string
  readonly schemaText: string
  readonly #body: AvroBody
  readonly #head = Buffer.alloc(HEAD_BYTES)
  readonly #readers = new Map<string, BodyReader | string>()
  readonly #writerSchema: (id: string) => string | undefined

  /**
   * @param schema the reader's and writer's schema; a record
   * @param writerSchema the text of a schema that older (or newer) records were written with, by its `id`
   */
  constructor(schema: AvroSchema, writerSchema: (id: string) => string | undefined) {
    this.#body = new AvroBody(schema)
    this.fingerprint = rabin(Buffer.from(canonicalForm(schema)))
    this.schemaText = JSON.stringify(schema)
    this.#head[0] = 0xc3
    this.#head[1] = 0x01
    this.#head.writeBigUInt64LE(this.fingerprint, 2)
    this.id = this.#head.toString('hex', 2)
    this.#writerSchema = writerSchema
    this.#readers.set(this.id, this.#body.own)
  }

  prepareToWrite(): undefined {}

  prepareToRead(): undefined {}

  encode(value: object, target: Buffer, start: number): number {
    if (target.length < start + HEAD_BYTES) return target.length - start - HEAD_BYTES
    this.#head.copy(target, start)
    return this.#body.encode(value, target, start + HEAD_BYTES)
  }

  decode(bytes: Buffer, start: number, end: number): Decoded {
    if (!isSingleObject(bytes, start, end)) return { problem: end - start > 5 && bytes[start] === 0 ? FOREIGN : 'no Avro single-object encoding (does not begin with C3 01)' }
    // Nearly every record was written with this very schema: its head is compared as bytes, without a string.
    const own = bytes.compare(this.#head, 0, HEAD_BYTES, start, start + HEAD_BYTES) === 0
    const reader = own ? this.#body.own : this.#reader(bytes.toString('hex', start + 2, start + HEAD_BYTES))
    return typeof reader === 'string' ? { problem: reader } : this.#body.decode(bytes, start + HEAD_BYTES, end, reader)
  }

  /** Whether values of a writer's schema can be read, or cannot be for good. */
  knows(id: string): boolean {
    return this.#readers.has(id)
  }

  /** The reader of a writer's values, or why they cannot be read. */
  #reader(id: string): BodyReader | string {
    const known = this.#readers.get(id)
    if (known !== undefined) return known
    const text = this.#writerSchema(id)
    if (text === undefined) return `written with an Avro schema that is not known here (fingerprint ${id})`
    const reader = attempt(() => this.#body.readerOf(text), id)
    this.#readers.set(id, reader)
    return reader
  }
}

const attempt = (action: () => BodyReader, id: string): BodyReader | string => {
  try {
    return action()
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return `written with an Avro schema (fingerprint ${id}) that this version cannot read: ${why}`
  }
}

/** Whether bytes begin as single-object encoding does. */
export const isSingleObject = (bytes: Uint8Array, start: number, end: number): boolean =>
  end - start >= HEAD_BYTES && bytes[start] === 0xc3 && bytes[start + 1] === 0x01

/** Codecs of single-object encoding over a store that has to be waited for. */
export const singleObject = (store: SchemaStore): CodecFactory => ({ schema }) => new StoredSerdes(schema, store)

class StoredSerdes implements ValueCodec {
  readonly headBytes = HEAD_BYTES
  readonly #serdes: Serdes
  readonly #store: SchemaStore
  /** Texts that were found, and undefined for those that nobody had when they were asked for. */
  readonly #found = new Map<string, string | undefined>()
  #written = false

  constructor(schema: AvroSchema, store: SchemaStore) {
    this.#serdes = new Serdes(schema, (id) => this.#found.get(id))
    this.#store = store
  }

  prepareToWrite(): Promise<void> | undefined {
    return this.#written ? undefined : this.#put()
  }

  async #put(): Promise<void> {
    await this.#store.put(this.#serdes.id, this.#serdes.schemaText)
    this.#written = true
  }

  prepareToRead(values: Iterable<Uint8Array | null>): Promise<void> | undefined {
    let unknown: Set<string> | undefined
    let last: Uint8Array | undefined
    for (const bytes of values) {
      // Neighbours mostly have one schema: their heads are compared as bytes, without a text of each.
      if (bytes === null || !isSingleObject(bytes, 0, bytes.length) || (last !== undefined && sameHead(bytes, last))) continue
      last = bytes
      const id = hexOf(bytes)
      if (this.#serdes.knows(id) || this.#found.has(id)) continue
      unknown = (unknown ?? new Set()).add(id)
    }
    return unknown === undefined ? undefined : this.#find(unknown)
  }

  async #find(ids: ReadonlySet<string>): Promise<void> {
    for (const id of ids) {
      const text = await this.#store.find(id)
      if (text === undefined && this.#found.size >= MISSING_MAX) {
        for (const [old, known] of this.#found) if (known === undefined) this.#found.delete(old)
      }
      this.#found.set(id, text)
    }
  }

  encode(value: object, target: Buffer, start: number): number {
    return this.#serdes.encode(value, target, start)
  }

  decode(bytes: Buffer, start: number, end: number): Decoded {
    return this.#serdes.decode(bytes, start, end)
  }
}

const sameHead = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = 2; i < HEAD_BYTES; i++) if (a[i] !== b[i]) return false
  return true
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset + 2, 8).toString('hex')
