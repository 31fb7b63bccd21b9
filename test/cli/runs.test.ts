import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { openLog } from '../../src/pipeline/home.js'
import { influenceOf, makeRun } from '../pipeline/made-run.js'
import { temporaryFolder, tributaryIn } from './tributary.js'

describe('a run', { concurrency: 2 }, () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  before(async () => {
    await using log = await openLog({ home: join(folder, '.tributary') }, { partitions: 2 })
    await makeRun(log, 'made', { documents: 40, queries: 2 })
    mkdirSync(join(folder, '.tributary', 'factors', 'mlp'), { recursive: true })
    writeFileSync(
      join(folder, '.tributary', 'factors', 'mlp', 'manifest.json'),
      JSON.stringify({ settings: { strategy: 'ekfac', documents: 12 }, model: 'm', stage: 'complete' }),
    )
  })

  test('topk prints tables with rank, score, source and an excerpt', async () => {
    const { code, stdout } = await tributary('topk --run made --query q1 -k 3')
    assert.equal(code, 0)
    assert.match(stdout, /^q1 {2}prompt of q1 → completion of q1\ntop by raw influence, of 44 pieces scored\nRANK +SCORE +PER NAT +SOURCE +DOCUMENT +(PIECE +)?EXCERPT\n +0 /)
    assert.match(stdout, /text of d\d+ second line/)
    assert.equal(stdout.trimEnd().split('\n').length, 6)
  })

  test('topk --json is one document with both ends to be had', async () => {
    interface Row { rank: number; document: string; score: number; scorePerNat: number; excerpt: string }
    const read = async (line: string): Promise<{ end: string; by: string; ranked: string; tables: { query: string; scored: number; rows: Row[] }[] }> =>
      JSON.parse((await tributary(line)).stdout) as never
    const top = await read('topk --run made --json -k 5')
    assert.deepEqual([top.end, top.by, top.ranked, top.tables.map(({ query }) => query)], ['top', 'raw', 'pieces', ['q0', 'q1']])
    assert.deepEqual(top.tables[0].rows.map(({ rank }) => rank), [0, 1, 2, 3, 4])
    const bottom = await read('topk --run made --json --bottom --normed --query q1')
    assert.deepEqual([bottom.end, bottom.by, bottom.tables.length], ['bottom', 'normed', 1])
    const [first, second] = bottom.tables[0].rows
    assert.ok(first.score <= second.score && first.score < 0)
    assert.equal(first.scorePerNat, first.score / 2)
  })

  test('topk and scores of a query or run that is not there say which there are', async () => {
    const query = await tributary('topk --run made --query q7')
    assert.equal(query.code, 1)
    assert.match(query.stderr, /has no query "q7"\nfix: its queries: q0, q1/)
    const run = await tributary('scores --run mad --out x')
    assert.equal(run.code, 1)
    assert.match(run.stderr, /there is no run "mad"\nfix: runs: made/)
  })

  test('scores go to a file, or as lines to standard output alone', async () => {
    const toFile = await tributary('scores --run made --format jsonl --out scores.jsonl --json')
    assert.equal(toFile.code, 0, toFile.stderr)
    assert.deepEqual(JSON.parse(toFile.stdout), {
      run: 'made', format: 'jsonl', out: 'scores.jsonl', queries: 2, documents: 40, pieces: 44, scores: 88,
    })
    const { stdout } = await tributary('scores --run made --out -')
    assert.equal(stdout, readFileSync(join(folder, 'scores.jsonl'), 'utf8'))
    for (const line of stdout.trimEnd().split('\n')) {
      const { query, document, piece, influence } = JSON.parse(line) as { query: string; document: string; piece: number; influence: number }
      assert.equal(influence, influenceOf(Number(document.slice(1)) + piece, Number(query.slice(1))))
    }
    assert.equal((await tributary('scores --run made --out scores.jsonl')).code, 1)
    assert.equal((await tributary('scores --run made --out scores.jsonl --force')).stdout, 'scores.jsonl: 40 documents, 44 pieces, 2 queries\n')
    for (const format of ['npy', 'parquet'])
      assert.equal((await tributary(`scores --run made --format ${format} --out scores.${format} --quiet`)).stderr, '')
  })

  test('status tells topics, runs with their lag, factors and dead letters', async () => {
    const { code, stdout } = await tributary('status --json')
    assert.equal(code, 0)
    interface Status {
      topics: { topic: string; partitions: number; ends: number[] }[]
      runs: { run: string; positions: number[]; lags: number[]; lag: number }[]
      factors: unknown[]
      deadLetters: unknown[]
      bytes: number
    }
    const status = JSON.parse(stdout) as Status
    const documents = status.topics.find(({ topic }) => topic === 'documents')
    assert.equal(documents?.partitions, 2)
    const [{ run, positions, lags, lag }] = status.runs
    assert.deepEqual([run, positions, lags, lag], ['made', [0, 0], documents?.ends, 40])
    assert.deepEqual(status.factors, [{ name: 'mlp', strategy: 'ekfac', model: 'm', documents: 12, stage: 'complete', complete: true }])
    assert.deepEqual(status.deadLetters, [])
    assert.ok(status.bytes > 1000)
    const text = (await tributary('status')).stdout
    for (const part of [/^home \.tributary, /, /\nmade +2023-11-14 22:13:20 +40 +0 \(\d+\) 0 \(\d+\)\n/, /\nmlp +ekfac +12 +complete +m\n/, /no dead letters/])
      assert.match(text, part)
  })
})
