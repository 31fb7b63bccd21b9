/**
 * @file Avro values in single-object encoding (Avro 1.11 specification, "Single-object encoding"):
 *
 *     C3 01 | fingerprint, 8 bytes little-endian | body
 *
 * The fingerprint is CRC-64-AVRO (Rabin) of the writer schema's Parsing Canonical Form. avsc 5.7 writes and reads the
 * bodies and resolves schemas, but has neither the canonical form of the specification nor Rabin fingerprints: both
 * are here, and a test holds them to the specification's published values.
 */
import avro from 'avsc'

/** The JSON of an Avro schema. */
export type AvroSchema = string | readonly AvroSchema[] | { readonly [attribute: string]: unknown }

/** Decoded, or what was wrong with the bytes. */
export type Decoded = { readonly value: unknown } | { readonly problem: string }

/** Bytes of marker and fingerprint before the body. */
export const HEAD_BYTES = 10

/**
 * One topic's values to bytes and back. `writerSchema` finds the text of a schema that older (or newer) records were
 * written with, by its fingerprint in hexadecimal; they are resolved to this schema.
 */
export class Serdes {
  readonly fingerprint: bigint
  /** The fingerprint as it stands in a record's head: 8 bytes in hexadecimal, in the order of the bytes. */
  readonly id: string
  readonly schemaText: string
  readonly #type: avro.Type
  readonly #head = Buffer.alloc(HEAD_BYTES)
  readonly #bytesFields: readonly string[]
  readonly #plain: (value: unknown) => unknown
  readonly #own: Reader
  readonly #resolvers = new Map<string, Reader>()
  readonly #writerSchema: (id: string) => string | undefined

  /** @param schema the reader's and writer's schema; a record */
  constructor(schema: AvroSchema, writerSchema: (id: string) => string | undefined) {
    this.#type = typeOf(schema)
    if (!avro.Type.isType(this.#type, 'record')) throw new Error('the value of a topic must be an Avro record')
    this.fingerprint = rabin(Buffer.from(canonicalForm(schema)))
    this.schemaText = JSON.stringify(schema)
    this.#head[0] = 0xc3
    this.#head[1] = 0x01
    this.#head.writeBigUInt64LE(this.fingerprint, 2)
    this.id = this.#head.toString('hex', 2)
    this.#bytesFields = fieldsOf(this.#type).filter((field) => field.type.typeName === 'bytes').map((field) => field.name)
    this.#plain = plainer(this.#type)
    this.#writerSchema = writerSchema
    this.#own = { type: this.#type, resolver: undefined }
    this.#resolvers.set(this.id, this.#own)
  }

  /**
   * Writes a value at `start`. Returns where it ends, or, negative, by how many bytes `target` is too short.
   * Throws if the value does not fit the schema, naming the field.
   */
  encode(value: object, target: Buffer, start: number): number {
    if (target.length < start + HEAD_BYTES) return target.length - start - HEAD_BYTES
    this.#head.copy(target, start)
    return this.#type.encode(this.#bytesFields.length === 0 ? value : withBuffers(value, this.#bytesFields), target,
      start + HEAD_BYTES)
  }

  /** Reads the value that fills `bytes` from `start` to `end`. Never throws: what cannot be decoded says why. */
  decode(bytes: Buffer, start: number, end: number): Decoded {
    if (end - start < HEAD_BYTES || bytes[start] !== 0xc3 || bytes[start + 1] !== 0x01)
      return { problem: 'no Avro single-object encoding (does not begin with C3 01)' }
    try {
      // Nearly every record was written with this very schema: its head is compared as bytes, without a string.
      const { type, resolver } = bytes.compare(this.#head, 0, HEAD_BYTES, start, start + HEAD_BYTES) === 0
        ? this.#own : this.#reader(bytes.toString('hex', start + 2, start + HEAD_BYTES))
      // avsc knows no end but the buffer's: a body that runs over into what follows is seen by where it stopped.
      const { value, offset } = type.decode(bytes, start + HEAD_BYTES, resolver)
      if (offset < 0 || offset > end) return { problem: 'the Avro body is cut short' }
      if (offset < end) return { problem: `${end - offset} bytes too many behind the Avro body` }
      return { value: this.#plain(value) }
    } catch (error) {
      return { problem: error instanceof Error ? error.message : String(error) }
    }
  }

  #reader(id: string): Reader {
    const known = this.#resolvers.get(id)
    if (known !== undefined) return known
    const text = this.#writerSchema(id)
    if (text === undefined) throw new Error(`written with an Avro schema that is not known here (fingerprint ${id})`)
    const reader = { type: this.#type, resolver: this.#type.createResolver(typeOf(JSON.parse(text))) }
    this.#resolvers.set(id, reader)
    return reader
  }
}

interface Reader {
  readonly type: avro.Type
  readonly resolver: ReturnType<avro.Type['createResolver']> | undefined
}

/** avsc writes names into the schema that it is given and resolves them in a registry: each type gets its own. */
const typeOf = (schema: AvroSchema): avro.Type =>
  avro.Type.forSchema(structuredClone(schema) as Parameters<typeof avro.Type.forSchema>[0], { omitRecordMethods: true })

interface Field {
  readonly name: string
  readonly type: avro.Type
}

const fieldsOf = (type: avro.Type): readonly Field[] => (type as avro.types.RecordType).fields as readonly Field[]

/** avsc takes bytes as Buffer alone; ours are plain Uint8Array. A view, not a copy. */
const withBuffers = (value: object, fields: readonly string[]): object => {
  const copy: Record<string, unknown> = { ...value }
  for (const name of fields) {
    const bytes = copy[name]
    if (bytes instanceof Uint8Array) copy[name] = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
  return copy
}

/**
 * avsc's records are instances of generated classes and its bytes are views of the batch that was read; ours are plain
 * objects, and bytes are copies at offset 0 of their own memory (so that they can be viewed as wider numbers).
 */
const plainer = (type: avro.Type): ((value: unknown) => unknown) => {
  const inner: { readonly name: string; readonly plain: (value: unknown) => unknown }[] = []
  for (const field of fieldsOf(type)) {
    if (field.type.typeName === 'bytes') inner.push({ name: field.name, plain: (bytes) => new Uint8Array(bytes as Buffer) })
    else if (avro.Type.isType(field.type, 'record')) inner.push({ name: field.name, plain: plainer(field.type) })
    else if (avro.Type.isType(field.type, 'array')) {
      const items = (field.type as avro.types.ArrayType).itemsType
      if (!avro.Type.isType(items, 'record')) continue
      const plain = plainer(items)
      inner.push({ name: field.name, plain: (rows) => (rows as unknown[]).map(plain) })
    }
  }
  return (value) => {
    const copy: Record<string, unknown> = { ...(value as object) }
    for (const { name, plain } of inner) copy[name] = plain(copy[name])
    return copy
  }
}

/* ------------------------------------------------- the specification ------------------------------------------------ */

const PRIMITIVES = new Set(['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string'])

/**
 * The Parsing Canonical Form (Avro 1.11, "Parsing Canonical Form for Schemas"): full names, no attributes that do not
 * matter to a parser, a fixed order of those that do, no white space.
 */
export const canonicalForm = (schema: AvroSchema, namespace = ''): string => {
  if (typeof schema === 'string') return JSON.stringify(PRIMITIVES.has(schema) ? schema : fullName(schema, namespace))
  if (isUnion(schema)) return `[${schema.map((branch) => canonicalForm(branch, namespace)).join(',')}]`
  const { type } = schema
  if (typeof type !== 'string') return canonicalForm(type as AvroSchema, namespace) // { "type": { "type": ... } }
  switch (type) {
    case 'record':
    case 'error': {
      const name = definedName(schema, namespace)
      const inside = name.slice(0, Math.max(0, name.lastIndexOf('.')))
      const fields = (schema['fields'] as readonly { readonly name: string; readonly type: AvroSchema }[]).map(
        (field) => `{"name":${JSON.stringify(field.name)},"type":${canonicalForm(field.type, inside)}}`,
      )
      return `{"name":${JSON.stringify(name)},"type":"${type}","fields":[${fields.join(',')}]}`
    }
    case 'enum': {
      const symbols = (schema['symbols'] as readonly string[]).map((symbol) => JSON.stringify(symbol))
      return `{"name":${JSON.stringify(definedName(schema, namespace))},"type":"enum","symbols":[${symbols.join(',')}]}`
    }
    case 'fixed':
      return `{"name":${JSON.stringify(definedName(schema, namespace))},"type":"fixed","size":${Number(schema['size'])}}`
    case 'array':
      return `{"type":"array","items":${canonicalForm(schema['items'] as AvroSchema, namespace)}}`
    case 'map':
      return `{"type":"map","values":${canonicalForm(schema['values'] as AvroSchema, namespace)}}`
    default:
      return canonicalForm(type, namespace) // { "type": "int" } is "int"
  }
}

const isUnion = (schema: AvroSchema): schema is readonly AvroSchema[] => Array.isArray(schema)

const fullName = (name: string, namespace: string): string =>
  name.includes('.') || namespace === '' ? name : `${namespace}.${name}`

const definedName = (schema: { readonly [attribute: string]: unknown }, namespace: string): string => {
  const own = schema['namespace']
  return fullName(String(schema['name']), typeof own === 'string' ? own : namespace)
}

/** The fingerprint of nothing; also the polynomial (Avro 1.11, "Schema Fingerprints"). */
const EMPTY = 0xc15d213aa4d7a795n

const rabinTable: readonly bigint[] = Array.from({ length: 256 }, (_, byte) => {
  let fingerprint = BigInt(byte)
  for (let bit = 0; bit < 8; bit++) fingerprint = (fingerprint >> 1n) ^ (fingerprint & 1n ? EMPTY : 0n)
  return fingerprint
})

/** CRC-64-AVRO: the 64-bit Rabin fingerprint of bytes, unsigned. */
export const rabin = (bytes: Uint8Array): bigint => {
  let fingerprint = EMPTY
  for (const byte of bytes) fingerprint = (fingerprint >> 8n) ^ rabinTable[Number((fingerprint ^ BigInt(byte)) & 0xffn)]
  return fingerprint
}
