import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { packageRoot } from '../../src/base/index.js'
import { canonicalForm } from '../../src/log/avro-schema.js'
import { AvroBody } from '../../src/log/avro.js'
import { Serdes, encodeValue, type AvroSchema } from '../../src/log/index.js'
import { codecsOf, untagged, type Case } from './independent/cases.js'

const folder = join(packageRoot(), 'schemas')
const read = (...path: readonly string[]): AvroSchema => JSON.parse(readFileSync(join(folder, ...path), 'utf8')) as AvroSchema
const schemasIn = (...path: readonly string[]): readonly string[] => readdirSync(join(folder, ...path)).filter((file) => file.endsWith('.avsc')).sort()
const releases = readdirSync(join(folder, 'released')).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))

/** Why a reader's schema cannot read what a writer's wrote (Avro 1.11, "Schema Resolution"), or undefined. */
const unreadable = (reader: AvroSchema, writer: AvroSchema): string | undefined => {
  try {
    new AvroBody(reader).readerOf(JSON.stringify(writer))
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

for (const release of releases)
  for (const file of schemasIn('released', release))
    test(`records that release ${release} wrote with ${file} are read by the schema of today`, () => {
      assert.ok(schemasIn().includes(file), `schemas/${file} is gone, but logs hold records of it: keep the topic, or give it another name and leave this one`)
      const why = unreadable(read(file), read('released', release, file))
      assert.equal(why, undefined, `schemas/${file} cannot read what release ${release} wrote: ${why}.\n` +
        'To mend it: give every added field a "default"; leave names, symbols and types as they are, or widen them (int to long, ' +
        'float, double; a type to a union that holds it); to change what a field means, add another field.')
    })

test('a released schema is never changed', () => {
  // Of each release, the fingerprints of its schemas in order; a new release gets a line of its own.
  const released: Readonly<Record<string, string>> = {
    '0.1.0': '7cae03cb8621f50d e9d95282c6e26b49 949a12ba48001eab 0f36779b9b04c099 4ced45f7d2fcb404 bcd953257b4b124a 3d783ed94fdef353 133af2041c4b8a55',
  }
  for (const release of releases) {
    const ids = schemasIn('released', release).map((file) => new Serdes(read('released', release, file), () => undefined).id)
    assert.equal(ids.join(' '), released[release], `schemas/released/${release}: put it back as it was released`)
  }
  assert.deepEqual(Object.keys(released), releases)
})

test('values that fastavro wrote with released schemas are read by the schemas of today', async () => {
  const golden = readFileSync(join(packageRoot(), 'test', 'log', 'independent', 'golden.jsonl'), 'utf8').trimEnd().split('\n')
  const seen = new Set<string>()
  for (const line of golden) {
    const { topic, release = '', schema, value, single, wire } = JSON.parse(line) as Case
    const file = schemasIn('released', release).find((file) => canonicalForm(read('released', release, file)) === canonicalForm(schema))
    assert.ok(file !== undefined, `${topic} of ${release} is of no released schema`)
    seen.add(`${release}/${file}`)
    const writers = { [single.slice(4, 20)]: schema, 7: schema }
    const today = await codecsOf(topic, read(file), writers)
    for (const [codec, hex] of [[today.single, single], [today.wire, wire]] as const) {
      const bytes = Buffer.from(hex, 'hex')
      await codec.prepareToRead([bytes])
      const decoded = codec.decode(bytes, 0, bytes.length)
      assert.ok('value' in decoded, 'problem' in decoded ? decoded.problem : '')
      assert.deepEqual({ ...(decoded.value as object), ...(untagged(value) as object) }, decoded.value)
    }
  }
  const all = releases.flatMap((release) => schemasIn('released', release).map((file) => `${release}/${file}`))
  assert.deepEqual([...seen].sort(), all.sort(), 'golden.jsonl has a value of every released schema')
})

/* ------------------------------------------- the rules, one by one ------------------------------------------------- */

const record = (...fields: readonly unknown[]): AvroSchema => ({ type: 'record', name: 'R', fields })
const a = { name: 'a', type: 'string' }

const resolutions: readonly (readonly [string, AvroSchema, object, AvroSchema, object])[] = [
  ['an added field has its default', record(a), { a: 'x' },
    record(a, { name: 'n', type: ['null', 'long'], default: null }, { name: 's', type: 'string', default: 'd' }, { name: 'l', type: { type: 'array', items: 'int' }, default: [] }),
    { a: 'x', n: null, s: 'd', l: [] }],
  ['a removed field is passed over', record({ name: 'gone', type: { type: 'array', items: 'double' } }, a), { gone: [1, 2], a: 'x' }, record(a), { a: 'x' }],
  ['fields are found by name in any order', record(a, { name: 'b', type: 'int' }), { a: 'x', b: 1 }, record({ name: 'b', type: 'int' }, a), { b: 1, a: 'x' }],
  ['int widens to long', record({ name: 'v', type: 'int' }), { v: -5 }, record({ name: 'v', type: 'long' }), { v: -5 }],
  ['int widens to double', record({ name: 'v', type: 'int' }), { v: 7 }, record({ name: 'v', type: 'double' }), { v: 7 }],
  ['long widens to double', record({ name: 'v', type: 'long' }), { v: 2 ** 40 }, record({ name: 'v', type: 'double' }), { v: 2 ** 40 }],
  ['float widens to double', record({ name: 'v', type: 'float' }), { v: 0.5 }, record({ name: 'v', type: 'double' }), { v: 0.5 }],
  ['items of a list widen', record({ name: 'v', type: { type: 'array', items: 'float' } }), { v: [0.5, 3] }, record({ name: 'v', type: { type: 'array', items: 'double' } }), { v: [0.5, 3] }],
  ['a type becomes a union', record(a), { a: 'x' }, record({ name: 'a', type: ['null', 'string'] }), { a: 'x' }],
  ['an enumeration grows', record({ name: 'e', type: { type: 'enum', name: 'E', symbols: ['A'] } }), { e: 'A' },
    record({ name: 'e', type: { type: 'enum', name: 'E', symbols: ['B', 'A'] } }), { e: 'A' }],
  ['rows of a list get a field', record({ name: 'rows', type: { type: 'array', items: { type: 'record', name: 'Row', fields: [a] } } }), { rows: [{ a: 'x' }] },
    record({ name: 'rows', type: { type: 'array', items: { type: 'record', name: 'Row', fields: [a, { name: 'z', type: 'int', default: 4 }] } } }), { rows: [{ a: 'x', z: 4 }] }],
]

for (const [title, writerSchema, value, readerSchema, expected] of resolutions)
  test(`${title}`, () => {
    const writer = new Serdes(writerSchema, () => undefined)
    const reader = new Serdes(readerSchema, (id) => (id === writer.id ? writer.schemaText : undefined))
    const bytes = encodeValue(writer, value)
    assert.deepEqual(reader.decode(bytes, 0, bytes.length), { value: expected })
  })

const changes: readonly (readonly [string, AvroSchema, AvroSchema, RegExp])[] = [
  ['a field added without a default', record(a), record(a, { name: 'b', type: 'int' }), /b/],
  ['a field renamed', record(a), record({ name: 'c', type: 'string' }), /c/],
  ['a type narrowed', record({ name: 'v', type: 'long' }), record({ name: 'v', type: 'int' }), /long|int/],
  ['null taken from a union', record({ name: 'a', type: ['null', 'string'] }), record(a), /null|string/],
  ['a symbol taken from an enumeration', record({ name: 'e', type: { type: 'enum', name: 'E', symbols: ['A', 'B'] } }),
    record({ name: 'e', type: { type: 'enum', name: 'E', symbols: ['A'] } }), /E/],
  ['the record renamed', record(a), { type: 'record', name: 'S', fields: [a] }, /R|S/],
]

for (const [title, writerSchema, readerSchema, says] of changes)
  test(`${title} would be refused`, () => {
    const why = unreadable(readerSchema, writerSchema)
    assert.ok(why !== undefined, 'it is readable')
    assert.match(why, says)
  })
