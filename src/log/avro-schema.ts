/**
 * @file Avro schemas as the specification compares them (Avro 1.11): the Parsing Canonical Form and the fingerprint
 * CRC-64-AVRO (Rabin). avsc 5.7 has neither; a test holds both to the specification's published values.
 */

/** The JSON of an Avro schema. */
export type AvroSchema = string | readonly AvroSchema[] | { readonly [attribute: string]: unknown }

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
