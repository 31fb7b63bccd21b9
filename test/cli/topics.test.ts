/** @file `tributary topics` as a child process: in a home, and on a real broker. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { kafkajsClient } from '../../src/log/kafka/kafkajs.js'
import { withBroker } from '../log/kafka/broker.js'
import { temporaryFolder, tributaryIn } from './tributary.js'

interface Plan { steps: { kind: string; topic: string; consent: string | null }[]; refused: { topic: string }[]; applied?: boolean }
interface State { name: string; topic: string; partitions: number | null; ends: number[]; configs: Record<string, string> }

describe('topics of a home', () => {
  const tributary = tributaryIn(temporaryFolder())

  test('are made by apply, after which diff finds nothing; their number of partitions is fixed', { timeout: 120_000 }, async () => {
    const before = await tributary('topics diff --json')
    assert.equal(before.code, 1, before.stderr)
    assert.ok((JSON.parse(before.stdout) as Plan).steps.every(({ kind }) => kind === 'create'))
    const made = await tributary('topics apply --partitions 3')
    assert.equal(made.code, 0, made.stderr)
    assert.match(made.stdout, /create documents: 3 partitions/)
    const { code, stdout } = await tributary('topics diff')
    assert.deepEqual([code, stdout], [0, 'the topics are as declared\n'])
    const states = JSON.parse((await tributary('topics list --json')).stdout) as State[]
    assert.deepEqual(states.filter(({ name }) => name === 'documents' || name === 'runs').map(({ partitions }) => partitions), [3, 1])
    const other = await tributary('topics apply --partitions 4 --yes')
    assert.equal(other.code, 1)
    assert.match(other.stderr, /fixed when a home is made/)
    assert.match((await tributary('topics describe tables')).stdout, /the newest of every key is kept[^]*PARTITION/)
    const none = await tributary('topics describe nothing')
    assert.match(none.stderr, /no declared topic "nothing"\nfix: topics: /)
  })
})

await withBroker('topics of a cluster', { overrides: {} }, (broker) => {
  const tributary = tributaryIn(temporaryFolder())
  const on = async (line: string) => await tributary([...line.split(' '), '--log', `kafka://${broker.plaintext}`, '--quiet'])

  test('are made, grown with a yes, mended with all their settings; an unknown run is not deleted', { timeout: 300_000 }, async () => {
    const made = await on('topics apply --partitions 2 --replication-factor 1 --min-insync-replicas 1 --json')
    assert.equal(made.code, 0, made.stderr)
    assert.equal((JSON.parse(made.stdout) as Plan).applied, true)
    assert.equal((await on('topics diff --min-insync-replicas 1')).stdout, 'the topics are as declared\n')

    const refused = await on('topics apply --partitions 4')
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /nothing was done[^]*--yes/)
    const grown = await on('topics apply --partitions 4 --yes')
    assert.equal(grown.code, 0, grown.stderr)
    const less = await on('topics apply --partitions 2 --yes')
    assert.equal(less.code, 1)
    assert.match(less.stderr, /takes none away/)

    await using client = kafkajsClient({ brokers: [broker.plaintext] })
    await client.admin.setConfigs('tables', { 'segment.ms': '777000', 'cleanup.policy': 'delete' })
    const mended = await on('topics apply --yes')
    assert.equal(mended.code, 0, mended.stderr)
    assert.match(mended.stdout, /set tables: cleanup.policy delete → compact/)
    const states = JSON.parse((await on('topics list --json')).stdout) as State[]
    const tables = states.find(({ name }) => name === 'tables')
    assert.deepEqual([tables?.partitions, tables?.configs['segment.ms'], tables?.configs['cleanup.policy']], [4, '777000', 'compact'])

    const deleted = await on('topics delete --run nobody --yes')
    assert.equal(deleted.code, 1)
    assert.match(deleted.stderr, /no run "nobody"/)
  })
})
