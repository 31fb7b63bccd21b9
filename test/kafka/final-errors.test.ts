/**
 * @file What no other try mends ends a worker, with what is wrong and the fix: an ACL that is missing, a topic that was
 * deleted under the run, a certificate that names another host. And the ACLs of docs/kafka.md are all that a worker needs.
 */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import kafkajsFace from 'kafkajs'
import { UserError } from '../../src/base/index.js'
import { kafkaLog } from '../../src/log/kafka/index.js'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { temporaryFolder, tributaryIn, writeLines, type Ended } from '../cli/tributary.js'
import { USERS, withBroker } from '../log/kafka/broker.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { scoreCheaply } from './cheap-parts.js'
import { appendDocuments } from './documents.js'

const { AclOperationTypes: Operation, AclPermissionTypes: Permission, AclResourceTypes: Resource, ResourcePatternTypes: Pattern } = kafkajsFace
type Kind = 'TOPIC' | 'GROUP' | 'TRANSACTIONAL_ID'
type Verb = 'DESCRIBE' | 'READ' | 'WRITE' | 'DELETE' | 'CREATE' | 'DESCRIBE_CONFIGS' | 'ALTER_CONFIGS' | 'ALTER'

const prefix = 'acl.'
const documents = 40
const host = 'kafka.lan'
const sasl = { mechanism: 'scram-sha-512', username: 'worker', password: USERS.worker } as const

/** docs/kafka.md, ACLs: what a worker needs, on everything that begins with the prefix. */
const ofWorkers: readonly (readonly [Kind, Verb])[] = [
  ['TOPIC', 'DESCRIBE'], ['TOPIC', 'READ'], ['TOPIC', 'WRITE'], ['GROUP', 'DESCRIBE'], ['GROUP', 'READ'], ['TRANSACTIONAL_ID', 'DESCRIBE'], ['TRANSACTIONAL_ID', 'WRITE'],
]
/** What `topics apply`, the first `ingest`, and `reset` need beside. */
const ofOwners: readonly (readonly [Kind, Verb])[] = [
  ['TOPIC', 'CREATE'], ['TOPIC', 'DESCRIBE_CONFIGS'], ['TOPIC', 'ALTER_CONFIGS'], ['TOPIC', 'ALTER'], ['GROUP', 'DELETE'],
]

await withBroker('a worker that cannot go on', { secure: true, hosts: [host] }, (broker) => {
  const admin = new kafkajsFace.Kafka({ brokers: [broker.plaintext], logLevel: kafkajsFace.logLevel.NOTHING }).admin()
  const owner = kafkajsClient({ brokers: [broker.plaintext] })
  before(() => admin.connect(), { timeout: 60_000 })
  after(async () => {
    await owner[Symbol.asyncDispose]()
    await admin.disconnect()
  }, { timeout: 60_000 })

  const base = { principal: 'User:worker', host: '*' }
  const nameOf = (kind: Kind): string => (kind === 'TOPIC' ? prefix : `${prefix}tributary-`)
  const allow = async (rights: readonly (readonly [Kind, Verb])[]): Promise<void> => {
    await admin.createAcls({ acl: rights.map(([kind, verb]) => ({
      ...base, resourceType: Resource[kind], resourceName: nameOf(kind), resourcePatternType: Pattern.PREFIXED, operation: Operation[verb], permissionType: Permission.ALLOW,
    })) })
  }
  /** Takes away one right, on one thing, while something is done. */
  const without = async (kind: Kind, name: string, verb: Verb, work: () => Promise<void>): Promise<void> => {
    const acl = { ...base, resourceType: Resource[kind], resourceName: name, resourcePatternType: Pattern.LITERAL, operation: Operation[verb], permissionType: Permission.DENY }
    await admin.createAcls({ acl: [acl] })
    try {
      await work()
    } finally {
      await admin.deleteAcls({ filters: [acl] })
    }
  }
  /** A worker with these credentials, until it ends. */
  const work = async (run: string): Promise<number> => {
    await using log = await kafkaLog(kafkajsClient({ brokers: [broker.sasl], sasl }), { cluster: 'the cluster', prefix })
    return (await scoreCheaply({ log, run, queries: ['a', 'b'], k: 5 })).documents
  }
  const refused = async (run: string, what: RegExp, fix: RegExp): Promise<void> => {
    await assert.rejects(work(run), (error) => {
      assert.ok(error instanceof UserError, `a UserError is wanted, not ${String(error)}`)
      assert.match(error.message, what)
      assert.match(error.fix ?? '', fix)
      return true
    })
  }

  test('with the ACLs of the page it runs; without one of them it ends and says which', { timeout: 240_000 }, async (t) => {
    await using log = await kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'the cluster', prefix })
    await log.ensureTopics({ partitions: 2 })
    await appendDocuments(log, documents)
    await refused('none', /has no topic "acl\./, /an ACL is missing/)
    await allow(ofWorkers)
    // The first one to write a value of its kind writes its schema.
    await without('TOPIC', `${prefix}schemas`, 'WRITE', () => refused('all', /these credentials may not do this at the cluster/, /on topic "acl\.schemas"/))
    assert.equal(await work('all'), documents)

    const cases: readonly (readonly [Kind, string, Verb, RegExp])[] = [
      ['TOPIC', `${prefix}documents`, 'READ', /allow Describe, Read and Write on topic "acl\.documents"/],
      ['TOPIC', `${prefix}tables`, 'READ', /on topic "acl\.tables"/],
      ['TOPIC', `${prefix}influence`, 'WRITE', /on topic "acl\.influence"/],
      ['TOPIC', `${prefix}positions`, 'WRITE', /on topic "acl\.positions"/],
      ['GROUP', `${prefix}tributary-bad`, 'READ', /allow Describe and Read on group "acl\.tributary-bad"/],
      ['GROUP', `${prefix}tributary-bad`, 'DESCRIBE', /on group "acl\.tributary-bad"/],
      ['TRANSACTIONAL_ID', `${prefix}tributary-bad-0`, 'WRITE', /allow Describe and Write on transactional id "acl\.tributary-bad-0"/],
      ['TRANSACTIONAL_ID', `${prefix}tributary-bad-0`, 'DESCRIBE', /on transactional id "acl\.tributary-bad-0"/],
    ]
    for (const [kind, name, verb, fix] of cases)
      await t.test(`${verb} on ${kind} ${name}`, { timeout: 40_000 }, () => without(kind, name, verb, () => refused('bad', /these credentials may not do this at the cluster/, fix)))
    await t.test(`DESCRIBE on TOPIC ${prefix}influence`, { timeout: 40_000 }, () =>
      without('TOPIC', `${prefix}influence`, 'DESCRIBE', () => refused('bad', /has no topic "acl\.influence" yet/, /an ACL is missing, Describe/)))
    assert.equal(await work('bad'), documents, 'what was refused has left nothing in the way')
  })

  test('so does the command line, over TLS; topics and reset need the ACLs that the page lists for them', { timeout: 240_000 }, async () => {
    const folder = temporaryFolder()
    await tinyCheckpoint(join(folder, 'model'))
    writeFileSync(join(folder, 'ca.pem'), broker.authority?.certificate ?? '')
    const tributary = tributaryIn(folder)
    const env = {
      TRIBUTARY_LOG: `kafka://${broker.saslTls}`, TRIBUTARY_KAFKA_PREFIX: prefix, TRIBUTARY_KAFKA_CA: 'ca.pem', TRIBUTARY_KAFKA_SERVERNAME: host,
      TRIBUTARY_KAFKA_SASL: sasl.mechanism, TRIBUTARY_KAFKA_USERNAME: sasl.username, TRIBUTARY_KAFKA_PASSWORD: sasl.password,
    }
    const on = (line: string): Promise<Ended> => tributary([...line.split(' '), '--quiet'], env)
    const done = async (line: string): Promise<void> => {
      const { code, stderr } = await on(line)
      assert.equal(code, 0, `${line}: ${stderr}`)
    }
    const denied = async (line: string, pattern: RegExp): Promise<void> => {
      const { code, stderr } = await on(line)
      assert.equal(code, 1, `${line}: ${stderr}`)
      assert.match(stderr, pattern)
    }
    writeLines(folder, 'more.jsonl', [{ id: 'more', text: 'water of the river' }])
    writeLines(folder, 'queries.jsonl', [{ id: 'water', prompt: 'the river of', completion: ' water' }])
    await allow(ofWorkers)
    await done('ingest more.jsonl')
    await done('queries add queries.jsonl')
    await done('fit --model model --factors f --documents 20 --strategy identity --batch-tokens 128')
    await done('score --model model --factors f --run real --batch-tokens 128')
    await done('topk --run real')
    await denied('topics apply', /may not do this/)
    await denied('reset --run real --yes', /may not do this[^]*group "acl\.tributary-real"/)
    await allow(ofOwners)
    await done('topics apply')
    await done('reset --run real --yes')
  })

  test('a certificate that names another host than the address is refused, unless the settings say the name', { timeout: 120_000 }, async () => {
    const tls = { ca: broker.authority?.certificate ?? null, cert: null, key: null }
    const topicsWith = async (servername?: string): Promise<number> => {
      await using log = await kafkaLog(kafkajsClient({
        brokers: [broker.saslTls], sasl: { ...sasl, username: 'writer', password: USERS.writer }, tls: { ...tls, ...(servername === undefined ? {} : { servername }) },
      }), { cluster: 'the cluster' })
      return (await log.describe()).length
    }
    const isRefused = (error: unknown): boolean => error instanceof UserError && /refuses TLS[^]*altnames/.test(error.message) && /kafka: \{servername: NAME\}/.test(error.fix ?? '')
    await assert.rejects(topicsWith(), isRefused)
    await assert.rejects(topicsWith('other.lan'), isRefused)
    assert.equal(await topicsWith(host), 0)
  })

  test('a command that only reads says at once that no broker is there', { timeout: 60_000 }, async () => {
    const { code, stderr } = await tributaryIn(temporaryFolder())('status --log kafka://127.0.0.1:1')
    assert.equal(code, 1)
    assert.match(stderr, /no broker of kafka:\/\/127\.0\.0\.1:1 answers[^]*fix: start the broker/)
  })

  test('a topic that is deleted under a run ends its workers', { timeout: 120_000 }, async () => {
    for (const [name, run] of [['influence', 'writes'], ['documents', 'reads']] as const) {
      const own = `${name}-gone.`
      await using log = await kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'the cluster', prefix: own })
      await log.ensureTopics({ partitions: 2 })
      await appendDocuments(log, documents)
      await using worker = await kafkaLog(kafkajsClient({ brokers: [broker.plaintext] }), { cluster: 'the cluster', prefix: own })
      const ended = assert.rejects(scoreCheaply({ log: worker, run, queries: ['a'], k: 5, batchMs: 100, follow: true }), (error) => {
        assert.ok(error instanceof UserError, String(error))
        assert.match(error.message, new RegExp(`has no topic \\(?"(${own})?${name}"`))
        assert.match(error.fix ?? '', /tributary topics apply/)
        return true
      })
      await owner.admin.deleteTopics([own + name])
      await ended
    }
  })
})
