/**
 * @file One run scored by several processes over a real cluster, against the embedded log: every score, the tables and
 * what is rescored have the same bits, with 1, 2 and 4 workers, over 1 and 8 partitions, and where workers come and go.
 */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { packageRoot } from '../../src/base/index.js'
import { openLogForReading } from '../../src/pipeline/home.js'
import { readRun } from '../../src/pipeline/runs.js'
import { readTopK } from '../../src/pipeline/top-k.js'
import type { GlobalSettings } from '../../src/settings/index.js'
import { writeCorpus } from '../../demo/corpus.js'
import { queries as demoQueries } from '../../demo/queries.js'
import { withBroker } from '../log/kafka/broker.js'
import { ended, start, tributaryIn, writeLines } from '../cli/tributary.js'
import { influenceOf, temporary } from './drive.js'

const documents = 240

await withBroker('workers on a cluster', {}, (broker) => {
  const folder = temporary()
  const home = join(folder, 'home')
  const tributary = tributaryIn(folder)
  const address = `kafka://${broker.plaintext}`
  const prefixOf = (partitions: number): string => `workers-${process.pid}-${partitions}.`
  const cluster = (partitions: number): Record<string, string> => ({ TRIBUTARY_LOG: address, TRIBUTARY_KAFKA_PREFIX: prefixOf(partitions) })
  const scoring = (run: string): string[] => [
    'score', '--run', run, '--home', 'home', '--model', join(packageRoot(), 'demo/model'), '--factors', 'f', '--join', 'low-rank', '--rank', '4', '--rescore', '3', '-k', '10',
    '--threads', '1', '--commit-every-ms', '0',
  ]
  const worker = (run: string, partitions: number): ChildProcess => start(folder, scoring(run), cluster(partitions))
  const done = async (line: string | readonly string[], env: Record<string, string> = {}): Promise<void> => {
    const { code, stdout, stderr } = await tributary(line, env)
    assert.equal(code, 0, `${String(line)}\n${stdout}${stderr}`)
  }

  /** Everything that a run came to, by names instead of places. */
  const outcomeOf = async (settings: Partial<GlobalSettings>, run: string): Promise<unknown> => {
    await using log = await openLogForReading(settings)
    const influence = (await influenceOf(log, run))
      .map(({ run: _run, partition: _partition, offset: _offset, ...value }) => value)
      .sort((a, b) => (a.source + a.document < b.source + b.document ? -1 : 1))
    const record = await readRun(log, run)
    const tables = []
    for (const bottom of [true, false])
      for (const normed of [true, false])
        for (const { query, rows, scored } of await readTopK(log, record, { query: [], rows: 10, bottom, normed }))
          tables.push({ query: query.id, bottom, normed, scored, rows: rows.map(({ document, score, rank, rescored, text }) => ({ document, score, rank, rescored, text })) })
    return { influence, tables, join: record.join, nats: record.queries.map(({ informationNats }) => informationNats) }
  }
  const onCluster = (partitions: number, run: string): Promise<unknown> => outcomeOf({ home, log: address, kafkaPrefix: prefixOf(partitions) }, run)
  let wanted: unknown

  before(async () => {
    writeCorpus(join(folder, 'corpus'), { documents })
    writeLines(folder, 'queries.jsonl', demoQueries().slice(0, 40).filter((_, i) => i % 8 === 0).map(({ id, prompt, completion }) => ({ id, prompt, completion })))
    await done('ingest corpus --home home')
    await done('queries add queries.jsonl --home home')
    await done(['fit', '--home', 'home', '--model', join(packageRoot(), 'demo/model'), '--factors', 'f', '--documents', '60', '--strategy', 'kfac', '--threads', '1'])
    await done(scoring('embedded'))
    wanted = await outcomeOf({ home }, 'embedded')
    assert.equal((wanted as { influence: unknown[] }).influence.length, documents)
    for (const partitions of [1, 8]) {
      await done(`ingest corpus --home home --partitions ${partitions}`, cluster(partitions))
      await done('queries add queries.jsonl --home home', cluster(partitions))
    }
  })

  for (const { workers, partitions } of [{ workers: 1, partitions: 1 }, { workers: 2, partitions: 1 }, { workers: 1, partitions: 8 }, { workers: 2, partitions: 8 }, { workers: 4, partitions: 8 }])
    test(`${workers} of them over ${partitions} ${partitions === 1 ? 'partition' : 'partitions'} come to the bits of the embedded log`, { timeout: 300_000 }, async () => {
      const run = `w${workers}`
      const all = await Promise.all(Array.from({ length: workers }, () => ended(worker(run, partitions))))
      for (const { code, stdout, stderr } of all) assert.equal(code, 0, `${stdout}${stderr}`)
      assert.deepEqual(await onCluster(partitions, run), wanted)
    })

  describe('that come and go', () => {
    test('one, then four, then two, end in the same bits', { timeout: 300_000 }, async () => {
      const children = [worker('scaled', 8)]
      const ends = [ended(children[0])]
      const scored = async (): Promise<number> => {
        await using log = await openLogForReading({ home, log: address, kafkaPrefix: prefixOf(8) })
        return (await influenceOf(log, 'scaled')).length
      }
      const until = async (count: number): Promise<void> => {
        while ((await scored()) < count && children.some(({ exitCode }) => exitCode === null)) await new Promise((resolve) => setTimeout(resolve, 50))
      }
      await until(1)
      for (let i = 1; i < 4; i++) {
        children.push(worker('scaled', 8))
        ends.push(ended(children[i]))
      }
      await until(documents / 2)
      for (const child of children.slice(0, 2)) child.kill('SIGTERM')
      for (const { code, stdout, stderr } of await Promise.all(ends)) assert.ok(code === 0 || code === 143, `${code}: ${stdout}${stderr}`)
      assert.deepEqual(await onCluster(8, 'scaled'), wanted)
    })
  })
})
