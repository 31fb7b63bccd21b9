import assert from 'node:assert/strict'
import { test } from 'node:test'
import { canonicalForm, rabin } from '../../src/log/avro-schema.js'
import { Serdes, declaredTopics, type AvroSchema } from '../../src/log/index.js'

const fingerprint = (schema: AvroSchema): bigint => BigInt.asIntN(64, rabin(Buffer.from(canonicalForm(schema))))

test('fingerprints of the primitive types are those of the Avro project’s own test data', () => {
  const published: readonly [string, bigint][] = [
    ['null', 7195948357588979594n],
    ['boolean', -6970731678124411036n],
    ['int', 8247732601305521295n],
    ['long', -3434872931120570953n],
    ['float', 5583340709985441680n],
    ['double', -8181574048448539266n],
    ['bytes', 5746618253357095269n],
    ['string', -8142146995180207161n],
  ]
  for (const [name, value] of published) {
    assert.equal(fingerprint(name), value, name)
    assert.equal(fingerprint({ type: name, doc: 'the same schema' }), value, name)
  }
})

test('the canonical form resolves names, orders attributes and drops what a parser does not need', () => {
  const schema: AvroSchema = {
    doc: 'gone',
    fields: [
      { name: 'a', type: { type: 'int' }, default: 3, order: 'ignore' },
      { name: 'b', type: ['null', { type: 'fixed', size: 16, name: 'Hash' }] },
      { name: 'c', type: { items: 'Hash', type: 'array' }, aliases: ['d'] },
      { name: 'e', type: { type: 'enum', name: 'other.Kind', symbols: ['X', 'Y'], default: 'X' } },
      { name: 'f', type: { type: 'map', values: 'other.Kind' } },
    ],
    namespace: 'n.s',
    name: 'R',
    type: 'record',
  }
  assert.equal(
    canonicalForm(schema),
    '{"name":"n.s.R","type":"record","fields":[{"name":"a","type":"int"},' +
      '{"name":"b","type":["null",{"name":"n.s.Hash","type":"fixed","size":16}]},' +
      '{"name":"c","type":{"type":"array","items":"n.s.Hash"}},' +
      '{"name":"e","type":{"name":"other.Kind","type":"enum","symbols":["X","Y"]}},' +
      '{"name":"f","type":{"type":"map","values":"other.Kind"}}]}',
  )
})

const point = (...fields: readonly unknown[]): AvroSchema => ({ type: 'record', name: 'Point', fields })
const x = { name: 'x', type: 'double' }

const encoded = (serdes: Serdes, value: object): Buffer => {
  const target = Buffer.alloc(1000)
  return target.subarray(0, serdes.encode(value, target, 0))
}

test('a value is C3 01, the fingerprint in little-endian, the body', () => {
  const bytes = encoded(new Serdes(point({ name: 'n', type: 'long' }), () => undefined), { n: -2 })
  assert.equal(bytes.toString('hex', 0, 2), 'c301')
  assert.equal(BigInt.asIntN(64, bytes.readBigUInt64LE(2)), fingerprint(point({ name: 'n', type: 'long' })))
  assert.equal(bytes.toString('hex', 10), '03')
})

test('values written with an older schema, or a newer one, are resolved', () => {
  const old = new Serdes(point(x), () => undefined)
  const grown = new Serdes(point({ name: 'y', type: 'double', default: 7 }, x), () => old.schemaText)
  const bytes = encoded(old, { x: 1 })
  assert.deepEqual(grown.decode(bytes, 0, bytes.length), { value: { x: 1, y: 7 } })
  const reader = new Serdes(point(x), () => grown.schemaText)
  const newer = encoded(grown, { x: 2, y: 3 })
  assert.deepEqual(reader.decode(newer, 0, newer.length), { value: { x: 2 } })
})

test('bytes that are no value say why, and nothing is thrown', () => {
  const serdes = new Serdes(point(x, { name: 's', type: 'string' }), () => undefined)
  const good = encoded(serdes, { x: 1, s: 'abc' })
  const problem = (bytes: Buffer): string => {
    const decoded = serdes.decode(bytes, 0, bytes.length)
    return 'problem' in decoded ? decoded.problem : 'none'
  }
  assert.equal(problem(good), 'none')
  assert.match(problem(Buffer.from('{"x":1}')), /C3 01/)
  assert.match(problem(good.subarray(0, -1)), /cut short/)
  assert.match(problem(Buffer.concat([good, Buffer.from([0])])), /1 bytes too many/)
  const within = serdes.decode(Buffer.concat([good, good]), 0, good.length - 2)
  assert.match('problem' in within ? within.problem : 'none', /cut short/, 'what stands behind a record is no part of it')
  const foreign = Buffer.from(good)
  foreign[5] ^= 1
  assert.match(problem(foreign), /not known here/)
  const unresolvable = new Serdes(point({ name: 'z', type: 'int' }), () => serdes.schemaText)
  assert.ok('problem' in unresolvable.decode(good, 0, good.length))
  for (let cut = 0; cut < good.length; cut++) assert.notEqual(problem(good.subarray(0, cut)), 'none')
})

test('floats of 32 bits come back bit by bit, NaN and infinities too', () => {
  const serdes = new Serdes(declaredTopics().get('influence')?.schema ?? 'null', () => undefined)
  const influence = [...new Float32Array([0.1, -0, 1e-45, 3.4e38, Infinity, -Infinity, NaN])]
  const value = {
    run: 'r', document: 'd', source: 's', partition: 0, offset: 0, piece: 0, pieces: 1, tokens: 1, tokensTotal: 1,
    loss: NaN, gradientNorm: 0.1, influence,
  }
  const bytes = encoded(serdes, value)
  assert.deepEqual(serdes.decode(bytes, 0, bytes.length), { value })
})

test('every declared schema is one that values can be written with', () => {
  for (const [name, { schema }] of declaredTopics()) assert.doesNotThrow(() => new Serdes(schema, () => undefined), name)
})
