/**
 * @file The wire format of Confluent's schema registry ("Schema Registry: Wire format"):
 *
 *     00 | id of the schema, 4 bytes big-endian | body
 *
 * The schema of topic T stands under the subject `T-value` (TopicNameStrategy), so that Kafka Connect, Kafka UI, ksqlDB and
 * kcat read the topics. Values in single-object encoding, from before a registry was used, are read as well.
 */
import { canonicalForm, type AvroSchema } from '../avro-schema.js'
import { AvroBody, type BodyReader, type Decoded } from '../avro.js'
import type { CodecFactory, SchemaStore, ValueCodec } from '../codec.js'
import { isSingleObject, singleObject } from '../single-object.js'
import type { SchemaRegistry } from './client.js'

/** Magic byte and id. */
export const WIRE_HEAD_BYTES = 5
const MAGIC = 0
/** Writer schemas kept by a codec; broken records may name any id. */
const READERS_MAX = 1_000

/** Codecs of the wire format. @param store where schemas of single-object encoding are looked up, of older values */
export const wireFormat = (registry: SchemaRegistry, store: SchemaStore): CodecFactory => {
  const older = singleObject(store)
  return (topic) => new WireCodec(registry, `${topic.name}-value`, topic.schema, older(topic))
}

class WireCodec implements ValueCodec {
  readonly headBytes = WIRE_HEAD_BYTES
  readonly #registry: SchemaRegistry
  readonly #subject: string
  readonly #schemaText: string
  readonly #canonical: string
  readonly #body: AvroBody
  readonly #older: ValueCodec
  /** Of what each schema wrote, or why it cannot be read. */
  readonly #readers = new Map<number, BodyReader | string>()
  #id: number | undefined
  #registering: Promise<void> | undefined

  constructor(registry: SchemaRegistry, subject: string, schema: AvroSchema, older: ValueCodec) {
    this.#registry = registry
    this.#subject = subject
    this.#schemaText = JSON.stringify(schema)
    this.#canonical = canonicalForm(schema)
    this.#body = new AvroBody(schema)
    this.#older = older
  }

  prepareToWrite(): Promise<void> | undefined {
    if (this.#id !== undefined) return undefined
    this.#registering ??= this.#register().finally(() => (this.#registering = undefined))
    return this.#registering
  }

  async #register(): Promise<void> {
    const id = await this.#registry.register(this.#subject, this.#schemaText)
    this.#readers.set(id, this.#body.own)
    this.#id = id
  }

  encode(value: object, target: Buffer, start: number): number {
    if (this.#id === undefined) throw new Error(`the schema of ${this.#subject} is not registered yet: prepareToWrite comes first`)
    if (target.length < start + WIRE_HEAD_BYTES) return target.length - start - WIRE_HEAD_BYTES
    target[start] = MAGIC
    target.writeInt32BE(this.#id, start + 1)
    return this.#body.encode(value, target, start + WIRE_HEAD_BYTES)
  }

  prepareToRead(values: Iterable<Uint8Array | null>): Promise<void> | undefined {
    const unknown = new Set<number>()
    const singles: Uint8Array[] = []
    for (const bytes of values) {
      if (bytes === null) continue
      if (isSingleObject(bytes, 0, bytes.length)) singles.push(bytes)
      else if (isWire(bytes, 0, bytes.length)) {
        const id = idOf(bytes)
        if (!this.#readers.has(id)) unknown.add(id)
      }
    }
    const older = singles.length === 0 ? undefined : this.#older.prepareToRead(singles)
    return unknown.size === 0 ? older : this.#find(unknown, older)
  }

  async #find(ids: ReadonlySet<number>, older: Promise<void> | undefined): Promise<void> {
    await older
    for (const id of ids) this.#keep(id, await this.#registry.schema(id))
  }

  #keep(id: number, text: string | undefined): void {
    if (this.#readers.size >= READERS_MAX)
      for (const [other] of this.#readers) if (other !== this.#id) this.#readers.delete(other)
    this.#readers.set(id, this.#readerOf(id, text))
  }

  #readerOf(id: number, text: string | undefined): BodyReader | string {
    if (text === undefined) return `written with schema ${id}, which ${this.#registry.url} has not as one of Avro that stands alone`
    try {
      // The same schema in other words writes the same bytes, and needs no resolving.
      if (canonicalForm(JSON.parse(text) as AvroSchema) === this.#canonical) return this.#body.own
      return this.#body.readerOf(text)
    } catch (error) {
      return `written with schema ${id}, which this version cannot read: ${error instanceof Error ? error.message : String(error)}`
    }
  }

  decode(bytes: Buffer, start: number, end: number): Decoded {
    if (isSingleObject(bytes, start, end)) return this.#older.decode(bytes, start, end)
    if (!isWire(bytes, start, end))
      return { problem: 'neither the wire format of a schema registry (00 and an id of 4 bytes) nor Avro single-object encoding (C3 01)' }
    const id = bytes.readInt32BE(start + 1)
    const reader = this.#readers.get(id)
    if (reader === undefined) return { problem: `written with schema ${id}, which was not looked up` }
    return typeof reader === 'string' ? { problem: reader } : this.#body.decode(bytes, start + WIRE_HEAD_BYTES, end, reader)
  }
}

const isWire = (bytes: Uint8Array, start: number, end: number): boolean => end - start >= WIRE_HEAD_BYTES && bytes[start] === MAGIC

const idOf = (bytes: Uint8Array): number => Buffer.from(bytes.buffer, bytes.byteOffset, WIRE_HEAD_BYTES).readInt32BE(1)
