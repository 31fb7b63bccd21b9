/**
 * @file Bodies of Avro values (Avro 1.11, "Data Serialization and Deserialization") by avsc 5.7, which also resolves what
 * another schema wrote ("Schema Resolution"). What stands before a body, and says which schema wrote it, is a matter of the
 * formats over this one: single-object.ts and registry/wire-format.ts.
 */
import avro from 'avsc'
import type { AvroSchema } from './avro-schema.js'

/** Decoded, or what was wrong with the bytes. */
export type Decoded = { readonly value: unknown } | { readonly problem: string }

/** Reads bodies that one writer's schema wrote. */
export interface BodyReader {
  readonly resolver: ReturnType<avro.Type['createResolver']> | undefined
}

/** Bodies of one schema, which must be a record's. */
export class AvroBody {
  /** Of bodies that this very schema wrote. */
  readonly own: BodyReader = { resolver: undefined }
  readonly #type: avro.Type
  readonly #bytesFields: readonly string[]
  readonly #plain: (value: unknown) => unknown

  constructor(schema: AvroSchema) {
    this.#type = typeOf(schema)
    if (!avro.Type.isType(this.#type, 'record')) throw new Error('the value of a topic must be an Avro record')
    this.#bytesFields = fieldsOf(this.#type).filter((field) => field.type.typeName === 'bytes').map((field) => field.name)
    this.#plain = plainer(this.#type)
  }

  /** The reader of what another schema wrote. Throws if the two cannot be resolved, naming the field. */
  readerOf(writerSchema: string): BodyReader {
    return { resolver: this.#type.createResolver(typeOf(JSON.parse(writerSchema) as AvroSchema)) }
  }

  /**
   * Writes a body at `start`. Returns where it ends, or, negative, by how many bytes `target` is too short.
   * Throws if the value does not fit the schema, naming the field.
   */
  encode(value: object, target: Buffer, start: number): number {
    return this.#type.encode(this.#bytesFields.length === 0 ? value : withBuffers(value, this.#bytesFields), target, start)
  }

  /** Reads the body that fills `bytes` from `start` to `end`. Never throws: what cannot be decoded says why. */
  decode(bytes: Buffer, start: number, end: number, { resolver }: BodyReader): Decoded {
    try {
      // avsc knows no end but the buffer's: a body that runs over into what follows is seen by where it stopped.
      const { value, offset } = this.#type.decode(bytes, start, resolver)
      if (offset < 0 || offset > end) return { problem: 'the Avro body is cut short' }
      if (offset < end) return { problem: `${end - offset} bytes too many behind the Avro body` }
      return { value: this.#plain(value) }
    } catch (error) {
      return { problem: error instanceof Error ? error.message : String(error) }
    }
  }
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
