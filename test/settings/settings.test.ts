import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { packageRoot, UserError } from '../../src/base/index.js'
import type { QueryValue } from '../../src/log/index.js'
import {
  assertSameSettings,
  canonicalJson,
  engineIdentity,
  engineOfIdentity,
  commandFields,
  flagOf,
  kafkaAccess,
  kebab,
  parseBytes,
  readRunFile,
  resolveGlobalSettings,
  resolveSettings,
  runFileJsonSchema,
  settingsRecord,
  UsageError,
  variableOf,
  type KafkaAccess,
  type RunFacts,
} from '../../src/settings/index.js'

const folder = mkdtempSync(join(tmpdir(), 'tributary-settings-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const runFile = (text: string): string => {
  const path = join(folder, 'run.yaml')
  writeFileSync(path, text)
  return path
}
const scoreFlags = { run: 'r', model: 'm', factors: 'f' }

test('a flag goes before a variable, a variable before the run file, its section before what is common, all before defaults', () => {
  const config = runFile('batch-tokens: 11\nscore:\n  batch-tokens: 22\n')
  const of = (flags: object, env: Record<string, string>): number | null =>
    resolveSettings('score', { flags: { ...scoreFlags, ...flags }, env }).batchTokens
  assert.equal(of({}, {}), null)
  assert.equal(of({ config: runFile('batch-tokens: 11\n') }, {}), 11)
  runFile('batch-tokens: 11\nscore:\n  batch-tokens: 22\n')
  assert.equal(of({ config }, {}), 22)
  assert.equal(of({ config }, { TRIBUTARY_BATCH_TOKENS: '33' }), 33)
  assert.equal(of({ config, batchTokens: '44' }, { TRIBUTARY_BATCH_TOKENS: '33' }), 44)
  assert.equal(of({}, { TRIBUTARY_CONFIG: config }), 22)
})

test('the section of another command says nothing', () => {
  const config = runFile('fit:\n  batch-tokens: 22\n')
  assert.equal(resolveSettings('score', { flags: { ...scoreFlags, config }, env: {} }).batchTokens, null)
})

test('a switch that a run file turns on can be turned off', () => {
  const config = runFile('score:\n  follow: true\n')
  const follow = (flags: object, env = {}): boolean =>
    resolveSettings('score', { flags: { ...scoreFlags, config, ...flags }, env }).follow
  assert.equal(follow({}), true)
  assert.equal(follow({ follow: false }), false)
  assert.equal(follow({}, { TRIBUTARY_FOLLOW: 'no' }), false)
})

test('every setting has a flag, a variable and a key of one name', () => {
  assert.equal(kebab('batchTokens'), 'batch-tokens')
  assert.equal(flagOf('batchTokens'), '--batch-tokens')
  assert.equal(variableOf('batchTokens'), 'TRIBUTARY_BATCH_TOKENS')
  assert.equal(flagOf('k'), '-k')
})

test('values become what they mean', () => {
  const settings = resolveSettings('score', {
    flags: { ...scoreFlags, damping: '0.25x', memory: '6GiB', queries: ['a', 'b,c'] },
    env: { TRIBUTARY_GROUP: 'facts, sums' },
  })
  assert.deepEqual(settings.damping, { kind: 'relative', factor: 0.25 })
  assert.equal(settings.memory, 6 * 1024 ** 3)
  assert.deepEqual(settings.queries, ['a', 'b,c'])
  assert.deepEqual(settings.group, ['facts', 'sums'])
  const absolute = resolveSettings('score', { flags: { ...scoreFlags, damping: '1e-8' }, env: {} })
  assert.deepEqual(absolute.damping, { kind: 'absolute', value: 1e-8 })
  assert.equal(parseBytes('1.5 kib'), 1536)
  assert.equal(parseBytes('2GB'), 2e9)
  assert.equal(parseBytes('2 parsecs'), undefined)
})

for (const [flags, message] of [
  [{ batchTokens: '12x' }, /--batch-tokens: "12x"/],
  [{ batchTokens: '1' }, /--batch-tokens: "1"/],
  [{ batchTokens: '2.5' }, /--batch-tokens: "2.5"/],
  [{ join: 'denes' }, /--join: "denes"/],
  [{ damping: '-1' }, /--damping: "-1"/],
  [{ damping: '0x' }, /--damping: "0x"/],
  [{ memory: '6 potatoes' }, /--memory: "6 potatoes"/],
  [{ memory: '1' }, /--memory: "1"/],
  [{ run: '../other' }, /--run: "\.\.\/other"/],
  [{ k: '0' }, /-k: "0"/],
  [{ run: undefined }, /--run NAME is missing/],
] as const)
  test(`${JSON.stringify(flags)} is refused with what was given and what is allowed`, () => {
    assert.throws(
      () => resolveSettings('score', { flags: { ...scoreFlags, ...flags }, env: {} }),
      (error: unknown) => error instanceof UsageError && message.test(error.message) && /allowed: /.test(error.fix ?? ''),
    )
  })

test('a regular expression that is none is refused', () => {
  const flags = { model: 'm', factors: 'f', documents: '5' }
  assert.throws(() => resolveSettings('fit', { flags: { ...flags, track: 'model.(' }, env: {} }), UsageError)
  assert.equal(resolveSettings('fit', { flags: { ...flags, track: 'model.layers.(0|10).mlp.*' }, env: {} }).track.length, 25)
})

for (const [text, message] of [
  ['home: h\nbatch-token: 5\n', /run\.yaml:2: there is no setting "batch-token"; did you mean "batch-tokens"\?/],
  ['score:\n  run: r\n  blocks: 2\n', /run\.yaml:3: there is no setting "blocks" in "score"/],
  ['scroe:\n  run: r\n', /run\.yaml:1: there is no setting "scroe"; did you mean "score"\?/],
  ['\n\nbatch-tokens: many\n', /run\.yaml:3: batch-tokens is "many"; allowed: a whole number/],
  ['score: [1]\n', /run\.yaml:1: "score" must be a map/],
  ['home: a\nhome: b\n', /run\.yaml:2: .*unique/],
  ['home: "a\n', /run\.yaml:\d+: /],
  ['- a\n', /run\.yaml:1: the file must be a map/],
  ['batch_tokens: 5\n', /did you mean "batch-tokens"/],
] as const)
  test(`a run file is refused with its line: ${JSON.stringify(text)}`, () => {
    assert.throws(() => readRunFile(runFile(text)), (error: unknown) => error instanceof UsageError && message.test(error.message))
  })

test('an empty run file says nothing', () => {
  assert.equal(readRunFile(runFile('# nothing yet\n')).common.size, 0)
  assert.equal(readRunFile(runFile('score:\n')).sections.get('score')?.size, 0)
})

test('a run file that is not there is refused', () => {
  assert.throws(() => readRunFile(join(folder, 'none.yaml')), /none\.yaml" cannot be read/)
})

test('schemas/run.schema.json is the schema of the run file', () => {
  const kept: unknown = JSON.parse(readFileSync(join(packageRoot(), 'schemas', 'run.schema.json'), 'utf8'))
  assert.deepEqual(
    kept,
    JSON.parse(JSON.stringify(runFileJsonSchema())),
    'write it anew: node -e "import(\'./dist/src/settings/index.js\').then((s) => ' +
      "fs.writeFileSync('schemas/run.schema.json', JSON.stringify(s.runFileJsonSchema(), null, 2) + '\\n'))\"",
  )
})

test('no two commands mean different things by one key outside of sections', () => {
  const kinds = new Map<string, string>()
  for (const fields of Object.values(commandFields))
    for (const [key, { kind, file }] of Object.entries(fields)) {
      if (file === false) continue // given by flag only
      assert.equal(kinds.get(key) ?? kind.allowed, kind.allowed, key)
      kinds.set(key, kind.allowed)
    }
})

/* ---------------------------------------------------- identity ----------------------------------------------------- */

const query = (id: string, completion = ' x'): QueryValue => ({
  id, prompt: 'p', completion, group: null, task: null, answer: null, steps: null, extra: null,
})
const facts: RunFacts = {
  checkpoint: 'c', queryCheckpoint: 'c', factorsHash: 'h', queries: [query('a'), query('b')],
}
const settingsWith = (flags: object, env: Readonly<Record<string, string>> = {}): Parameters<typeof settingsRecord>[0] => {
  const settings = resolveSettings('score', { flags: { ...scoreFlags, ...flags }, env })
  return { ...settings, batchTokens: settings.batchTokens ?? 512 }
}

test('a run goes on under the same settings, whatever threads, memory, home or paths are', () => {
  const recorded = settingsRecord(settingsWith({}), facts)
  const now = settingsWith({ threads: '3', memory: '1GiB', home: 'elsewhere', model: 'moved/m', follow: true, quiet: true })
  assertSameSettings('r', recorded, settingsRecord(now, facts))
})

for (const [flags, line] of [
  [{ k: '5' }, 'k: 100 then, 5 now'],
  [{ rank: '64' }, 'rank: 32 then, 64 now'],
  [{ damping: '0.2x' }, 'damping: {"factor":0.1,"kind":"relative"} then, {"factor":0.2,"kind":"relative"} now'],
  [{ long: 'split' }, 'long: "truncate" then, "split" now'],
  [{ context: '64' }, 'context: null then, 64 now'],
  [{ seed: '1' }, 'seed: 0 then, 1 now'],
] as const)
  test(`a run does not go on under another ${Object.keys(flags).join()}`, () => {
    assert.throws(
      () => assertSameSettings('r', settingsRecord(settingsWith({}), facts), settingsRecord(settingsWith(flags), facts)),
      (error: unknown) =>
        error instanceof UserError && error.message.includes(line) && error.message.split('\n').length === 2 &&
        /new --run name/.test(error.fix ?? ''),
    )
  })

test('a run stays on its device: the error says which, and how to get it back', () => {
  const [cpu, cuda, tfjs] = [{}, { device: 'cuda' }, { engine: 'tfjs' }].map((flags) => settingsRecord(settingsWith(flags), facts))
  const refused = (was: string, is: string, line: string, fix: RegExp): void =>
    assert.throws(() => assertSameSettings('r', was, is), (error: unknown) => error instanceof UserError && error.message.includes(line) && fix.test(error.fix ?? ''))
  refused(cuda, cpu, 'engine: "onnx/cuda" then, "onnx" now', /--device cuda, on a machine that has it/)
  refused(cpu, cuda, 'engine: "onnx" then, "onnx/cuda" now', /--engine onnx --device cpu/)
  refused(tfjs, cuda, 'engine: "tfjs" then, "onnx/cuda" now', /--engine tfjs/)
  for (const [engine, device] of [['onnx', 'cpu'], ['onnx', 'cuda'], ['onnx', 'webgpu'], ['tfjs', 'auto']] as const)
    assert.deepEqual(engineOfIdentity(engineIdentity(engine, device)), { engine, device })
  assert.deepEqual(engineOfIdentity(undefined), { engine: 'onnx', device: 'cpu' }, 'runs that were begun when there was one engine')
})

for (const [queries, words] of [
  [[query('a')], 'removed b'],
  [[query('a'), query('b'), query('c')], 'added c'],
  [[query('a'), query('b', ' y')], 'changed b'],
  [[query('b'), query('a')], 'in another order'],
] as const)
  test(`a run does not go on with other queries: ${words}`, () => {
    const settings = settingsWith({})
    assert.throws(
      () => assertSameSettings('r', settingsRecord(settings, facts), settingsRecord(settings, { ...facts, queries })),
      (error: unknown) => error instanceof UserError && error.message.includes(words),
    )
  })

test('a difference behind the eightieth character is a difference', () => {
  const long = 'x'.repeat(200)
  assert.throws(() => assertSameSettings('r', canonicalJson({ a: `${long}1` }), canonicalJson({ a: `${long}2` })), UserError)
})

test('canonical JSON knows no order of keys', () => {
  assert.equal(canonicalJson({ b: [1, { d: null, c: 'x' }], a: true }), '{"a":true,"b":[1,{"c":"x","d":null}]}')
})

describe('the log', () => {
  const log = (flags: Readonly<Record<string, unknown>>, env: Record<string, string> = {}): KafkaAccess | undefined => kafkaAccess(resolveGlobalSettings({ flags, env }))

  test('is embedded unless it is said to be on a cluster', () => {
    assert.equal(log({}), undefined)
    assert.deepEqual(log({ log: 'kafka://a,b.example:9093,[::1]:9094' }), { brokers: ['a:9092', 'b.example:9093', '[::1]:9094'], tls: null, sasl: null, schemaRegistry: null, prefix: '', sessionMs: 30_000 })
    assert.deepEqual(log({}, { TRIBUTARY_LOG: 'kafka://c', TRIBUTARY_SCHEMA_REGISTRY: 'http://r:8081' })?.schemaRegistry, 'http://r:8081')
    for (const wrong of ['kafka:/a', 'kafka://', 'kafka://a,', 'kafka://a:b', 'kafka://user:secret@a:1', 'lmdb', 'kafka://a:123456'])
      assert.throws(() => log({ log: wrong }), /--log: .* is not allowed/, wrong)
  })

  test('on a cluster is reached as the section "kafka" of the run file says, with the password of a variable', () => {
    const [ca, cert, key] = ['ca', 'cert', 'key'].map((name) => {
      writeFileSync(join(folder, name), `-----BEGIN ${name}-----`)
      return join(folder, name)
    })
    const config = runFile(`log: kafka://a\nkafka:\n  ca: ${ca}\n  cert: ${cert}\n  key: ${key}\n  sasl: scram-sha-512\n  username: me\n`)
    const access = log({ config }, { TRIBUTARY_KAFKA_PASSWORD: 'hush' })
    assert.deepEqual(access?.tls, { ca: '-----BEGIN ca-----', cert: '-----BEGIN cert-----', key: '-----BEGIN key-----' })
    assert.deepEqual(access?.sasl, { mechanism: 'scram-sha-512', username: 'me', password: 'hush' })
    assert.throws(() => log({ config }), /credentials lack password/)
    assert.throws(() => log({ log: 'kafka://a' }, { TRIBUTARY_KAFKA_CERT: cert }), /certificate is given without its key/)
    assert.throws(() => log({ log: 'kafka://a' }, { TRIBUTARY_KAFKA_CA: join(folder, 'none') }), /kafka ca: .* cannot be read/)
    assert.deepEqual(log({ log: 'kafka://a' }, { TRIBUTARY_KAFKA_TLS: 'on' })?.tls, { ca: null, cert: null, key: null })
    assert.equal(log({ config: runFile('log: kafka://a\nkafka:\n  session-timeout-ms: 6000\n') })?.sessionMs, 6000)
    assert.throws(() => log({ config: runFile('kafka:\n  user: me\n') }), /no setting "user" in "kafka"/)
  })

  test('does not tell its password: not in messages, not in a run', () => {
    for (const secret of ['123456789', '[123456789]'])
      assert.throws(() => log({ config: runFile(`kafka:\n  password: ${secret}\n`) }), (error: Error) => !`${error.message}${error.stack}`.includes('123456789'))
    const settings = settingsWith({}, { TRIBUTARY_KAFKA_PASSWORD: '123456789' })
    assert.ok(!settingsRecord(settings, { checkpoint: '', queryCheckpoint: '', factorsHash: '', queries: [] }).includes('123456789'))
  })
})
