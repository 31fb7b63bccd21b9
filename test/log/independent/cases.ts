/** @file Values of topics with the bytes that an implementation made of them, as fastavro_values.py reads and writes them. */
import { encodeValue, singleObject, wireFormat, SchemaRegistry, type AvroSchema, type ValueCodec } from '../../../src/log/index.js'

export interface Case {
  readonly topic: string
  /** A folder of schemas/released. */
  readonly release?: string
  readonly schema: AvroSchema
  readonly value: unknown
  /** Hexadecimal: single-object encoding, and the wire format with schema id 7. */
  readonly single: string
  readonly wire: string
}

/** Codecs of both formats for a schema; the registry is one that gives it the id 7 and has no others. */
export const codecsOf = async (name: string, schema: AvroSchema, writers: Readonly<Record<string, AvroSchema>> = {}): Promise<{ single: ValueCodec; wire: ValueCodec }> => {
  const store = { put: async () => {}, find: async (id: string) => (writers[id] === undefined ? undefined : JSON.stringify(writers[id])) }
  const answers = async (_url: unknown, options?: { readonly method?: string }): Promise<Response> =>
    options?.method === 'GET' ? Response.json({ schema: JSON.stringify(writers['7'] ?? schema) }) : Response.json({ id: writers['7'] === undefined ? 7 : 8 })
  const wire = wireFormat(new SchemaRegistry('http://registry', { fetch: answers }), store)({ name, schema })
  await wire.prepareToWrite()
  return { single: singleObject(store)({ name, schema }), wire }
}

export const caseOf = ({ single, wire }: { readonly single: ValueCodec; readonly wire: ValueCodec }, topic: string, schema: AvroSchema, value: object): Case => ({
  topic, schema, value: tagged(value), single: encodeValue(single, value).toString('hex'), wire: encodeValue(wire, value).toString('hex'),
})

/** A value as JSON: bytes and numbers that JSON has not are tagged. */
export const tagged = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('hex') }
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) return { $double: Object.is(value, -0) ? '-0.0' : String(value) }
  if (Array.isArray(value)) return value.map(tagged)
  if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, tagged(item)]))
  return value
}

export const untagged = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(untagged)
  if (typeof value !== 'object' || value === null) return value
  if ('$bytes' in value) return new Uint8Array(Buffer.from(String(value.$bytes), 'hex'))
  if ('$double' in value) return Number(value.$double)
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, untagged(item)]))
}
