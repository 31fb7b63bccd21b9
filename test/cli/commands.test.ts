import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import { describe, test } from 'node:test'
import { ended, mainPath, start, temporaryFolder, tributaryIn, writeLines } from './tributary.js'

/** Tests of this file run side by side; each has a folder of its own. */
const options = { concurrency: 2 }

describe('ingest', options, () => {
  test('adds a shard once, with sources, ids, hashes and what else a line holds', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'wiki-00001-of-00009.jsonl', [
      { id: 'a', text: 'one' },
      { id: 7, text: 'two', source: 'web', url: 'http://x', n: [1] },
      { text: 'three' },
      { id: 'b', text: 'one' },
    ])
    const first = await tributary('ingest --json wiki-00001-of-00009.jsonl')
    assert.equal(first.code, 0, first.stderr)
    const { seconds, ...result } = JSON.parse(first.stdout) as Record<string, unknown>
    assert.equal(typeof seconds, 'number')
    assert.deepEqual(result, {
      shards: 1, appended: 4, alreadyThere: 0, deadLetters: 0, deadLettersNew: 0, failed: [], finished: true, stoppedAt: null,
    })
    const second = await tributary('ingest --quiet wiki-00001-of-00009.jsonl')
    assert.match(second.stdout, /^0 appended, 4 already there, 0 dead letters; 1 shard in /)
    assert.equal(second.stderr, '')
    assert.ok(existsSync(join(folder, '.tributary')))
  })

  test('sends what is no document to dead-letters, once, and ends with 0', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'a.jsonl', [
      { id: 'good', text: 'fine' }, '{"id": "torn', '[1]', { id: 'empty', text: '' }, { id: 'number', text: 5 }, { id: 'none' },
      { id: {}, text: 'x' }, { id: 'big', text: 'x'.repeat(2000) }, { id: 's', text: 'x', source: 5 }, { id: 'also good', text: 'fine' },
    ])
    for (const fresh of [8, 0]) {
      const { code, stdout } = await tributary('ingest --json --max-bytes 1000 a.jsonl')
      assert.equal(code, 0)
      const result = JSON.parse(stdout) as Record<string, number>
      assert.deepEqual([result.appended + result.alreadyThere, result.deadLetters, result.deadLettersNew], [2, 8, fresh])
    }
    const status = JSON.parse((await tributary('status --json')).stdout) as { deadLetters: { stage: string; count: number }[] }
    assert.equal(status.deadLetters.reduce((sum, { count }) => sum + count, 0), 8)
  })

  test('a field that no line has is an error that names those there are, and nothing is added', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'a.jsonl', [{ key: 'a', content: 'one' }, { key: 'b', content: 'two' }])
    const wrongText = await tributary('ingest a.jsonl')
    assert.equal(wrongText.code, 1)
    assert.match(wrongText.stderr, /has a field "text"; the fields there are: content, key\nfix: .*--text-field/)
    const wrongId = await tributary('ingest a.jsonl --text-field content --id-field name')
    assert.equal(wrongId.code, 1)
    assert.match(wrongId.stderr, /has a field "name"/)
    const right = await tributary('ingest a.jsonl --text-field content --id-field key')
    assert.match(right.stdout, /^2 appended/)
  })

  test('what is whole of a torn shard is in, the other shards too, and it ends with 1', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'b.jsonl', [{ text: 'three' }])
    writeFileSync(join(folder, 'a.jsonl'), '{"text":"one"}\n{"text":"two"}\n{"text":"tor')
    const { code, stdout, stderr } = await tributary('ingest a.jsonl b.jsonl')
    assert.equal(code, 1)
    assert.match(stdout, /^3 appended, 0 already there, 0 dead letters/)
    assert.match(stderr, /error: 1 of 2 shards could not be read to the end:\n.*a\.jsonl" is torn: line 3 .*\nfix: .*again/)
    writeLines(folder, 'a.jsonl', [{ text: 'one' }, { text: 'two' }, { text: 'torn' }])
    assert.match((await tributary('ingest a.jsonl b.jsonl')).stdout, /^1 appended, 3 already there/)
  })

  test('a path that names nothing is an error', async () => {
    const { code, stderr } = await tributaryIn(temporaryFolder())('ingest nothing.jsonl')
    assert.equal(code, 1)
    assert.match(stderr, /^error: .*nothing\.jsonl/m)
    assert.doesNotMatch(stderr, /\n {4}at /)
  })

  test('partitions are settled when the topic is made', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'a.jsonl', [{ text: 'one' }])
    assert.equal((await tributary('ingest --partitions 2 a.jsonl')).code, 0)
    assert.equal((await tributary('ingest --partitions 2 a.jsonl')).code, 0)
    const other = await tributary('ingest --partitions 3 a.jsonl')
    assert.equal(other.code, 1)
    assert.match(other.stderr, /has 2 partitions, not 3/)
  })

  test('Ctrl-C ends after the batch in hand with 130 and says where; starting again adds the rest once', async () => {
    const folder = temporaryFolder()
    const lines = Array.from({ length: 40_000 }, (_, i) => ({ id: String(i), text: `document ${i}` }))
    writeLines(folder, 'a.jsonl', lines)
    const child = start(folder, ['ingest', 'a.jsonl'])
    const end = ended(child)
    // The log is made when the work begins.
    while (!existsSync(join(folder, '.tributary', 'log', 'data.mdb'))) await new Promise((resolve) => setTimeout(resolve, 20))
    child.kill('SIGINT')
    const { code, stdout, stderr } = await end
    assert.equal(code, 130, stderr)
    assert.match(stdout, /stopped at .*a\.jsonl, line [\d]+; the same command goes on from there/)
    const { stdout: again } = await tributaryIn(folder)('ingest --json a.jsonl')
    const { appended, alreadyThere } = JSON.parse(again) as { appended: number; alreadyThere: number }
    assert.equal(appended + alreadyThere, lines.length)
    assert.equal(stdout.startsWith(`${alreadyThere.toLocaleString('en-US')} appended`), true, stdout)
  })
})

describe('queries', options, () => {
  const good = [
    { id: 'mali', prompt: 'The capital of Mali is', completion: ' Bamako.', group: 'facts', answer: 'Bamako', mood: 'calm' },
    { id: 'sum', prompt: '1 + 1 =', completion: ' 2', group: 'sums', task: 'add', steps: ['2', 4] },
  ]

  test('are added, listed and removed', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'q.jsonl', good)
    assert.equal((await tributary('queries add q.jsonl')).stdout, '2 added, 0 already there\n')
    assert.equal((await tributary('queries add q.jsonl')).stdout, '0 added, 2 already there\n')
    assert.deepEqual(JSON.parse((await tributary('queries list --json')).stdout), [
      { mood: 'calm', ...good[0], task: null, steps: null },
      { ...good[1], answer: null, steps: ['2', '4'] },
    ])
    assert.match((await tributary('queries list')).stdout, /^ID +GROUP +TASK +PROMPT +COMPLETION\nmali +facts +The capital of Mali is +Bamako\.\n/)
    const wrong = await tributary('queries remove mali nobody')
    assert.equal(wrong.code, 1)
    assert.match(wrong.stderr, /there is no query "nobody"; none was removed/)
    assert.equal((await tributary('queries remove mali')).stdout, '1 removed\n')
    assert.equal((JSON.parse((await tributary('queries list --json')).stdout) as unknown[]).length, 1)
  })

  test('of one id and other content are refused, or replaced', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'q.jsonl', good)
    writeLines(folder, 'other.jsonl', [{ ...good[0], completion: ' Gao.' }, { id: 'new', prompt: 'a', completion: 'b' }])
    await tributary('queries add q.jsonl')
    const refused = await tributary('queries add other.jsonl')
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /other content: mali; none was added/)
    assert.deepEqual(JSON.parse((await tributary('queries add other.jsonl --replace --json')).stdout), {
      added: 1, replaced: 1, alreadyThere: 0,
    })
  })

  test('are added whole or not at all, and every wrong line is named', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'q.jsonl', [
      good[0], '', '{', { id: 'a', prompt: 'x', completion: '' }, { id: 'b', prompt: 'x' }, good[0], { prompt: 'x', completion: 'y' },
    ])
    const { code, stderr } = await tributary('queries add q.jsonl')
    assert.equal(code, 1)
    assert.match(stderr, /5 lines are no query; none was added/)
    for (const part of [/line 3 is not JSON/, /line 4 has an empty "completion"/, /line 5 has no "completion"/, /line 6 has the "id" of line 1: mali/, /line 7 has no "id"/])
      assert.match(stderr, part)
    assert.ok(!existsSync(join(folder, '.tributary')))
  })
})

describe('usage', options, () => {
  test('global options stand before or after the command', async () => {
    const folder = temporaryFolder()
    const tributary = tributaryIn(folder)
    writeLines(folder, 'a.jsonl', [{ text: 'one' }])
    for (const line of ['--home h1 --json ingest a.jsonl', 'ingest --home h2 a.jsonl --json', 'ingest a.jsonl --json --home h3']) {
      const { code, stdout } = await tributary(line)
      assert.equal(code, 0)
      assert.equal((JSON.parse(stdout) as { appended: number }).appended, 1)
    }
    const { stdout } = await tributary('status --json', { TRIBUTARY_HOME: 'h2' })
    assert.equal((JSON.parse(stdout) as { home: string }).home, 'h2')
    writeFileSync(join(folder, 'run.yaml'), 'home: h3\n')
    assert.equal((JSON.parse((await tributary('--config run.yaml status --json')).stdout) as { home: string }).home, 'h3')
  })

  for (const [line, message] of [
    ['scor', /unknown command 'scor'[^]*Did you mean score/],
    ['score --modle m', /unknown option '--modle'[^]*Did you mean --model/],
    ['score --run r --model m', /--factors NAME is missing[^]*TRIBUTARY_FACTORS/],
    ['score --run r --model m --factors f --rank none', /--rank: "none" is not allowed\nfix: allowed: a whole number/],
    ['fit --model m --factors f --documents 3 --strategy ekfca', /--strategy: "ekfca" is not allowed\nfix: allowed: ekfac, kfac, diagonal or identity/],
    ['scores --run r --format npy --out -', /cannot go to standard output/],
    ['queries add', /missing required argument/],
    ['ingest', /PATH\.\.\. is missing/],
    ['status --config none.yaml', /none\.yaml" cannot be read/],
  ] as const)
    test(`"${line}" ends with 2 and says what is allowed`, async () => {
      const { code, stdout, stderr } = await tributaryIn(temporaryFolder())(line)
      assert.equal(code, 2, stderr)
      assert.match(stderr, message)
      assert.equal(stdout, '')
    })

  test('a home that is not there is an error with its fix', async () => {
    for (const line of ['status', 'scores --run r --out x']) {
      const { code, stderr } = await tributaryIn(temporaryFolder())(line)
      assert.equal(code, 1)
      assert.match(stderr, /^error: there is no home at "\.tributary"\nfix: tributary ingest/)
    }
  })

  test('help and version are on standard output', async () => {
    const tributary = tributaryIn(temporaryFolder())
    assert.match((await tributary('--version')).stdout, /^\d+\.\d+\.\d+\n$/)
    const help = await tributary('score --help')
    assert.equal(help.code, 0)
    for (const part of [/--damping <X>/, /--home <DIR>/, /shared .*many queries/]) assert.match(help.stdout, part)
  })

  test('describe prints the pipelines as text and as Mermaid', async () => {
    const tributary = tributaryIn(temporaryFolder())
    const { stdout } = await tributary('describe')
    assert.match(stdout, /^ingest: shards/)
    assert.match(stdout, /```mermaid\nflowchart LR\n/)
    const { pipelines } = JSON.parse((await tributary('describe --json')).stdout) as { pipelines: { name: string }[] }
    assert.deepEqual(pipelines.map(({ name }) => name), ['ingest', 'queries', 'fit', 'prepare', 'score', 'sum', 'explain'])
  })

  test('a reader that has seen enough ends it quietly', async () => {
    const folder = temporaryFolder()
    writeLines(folder, 'q.jsonl', Array.from({ length: 20_000 }, (_, i) => ({ id: `q${i}`, prompt: 'x'.repeat(50), completion: 'y' })))
    await tributaryIn(folder)('queries add q.jsonl')
    const child = spawn('bash', ['-c', `"${process.execPath}" "${mainPath}" queries list --json | head -c 10; exit \${PIPESTATUS[0]}`], { cwd: folder })
    const { code, stdout, stderr } = await ended(child)
    assert.deepEqual([code, stdout.length, stderr], [0, 10, ''])
  })

  test('a folder that may not be written is an error, not a bug', { skip: process.getuid?.() === 0 && 'root may write anywhere' }, async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'closed'), { mode: 0o500 })
    writeLines(folder, 'a.jsonl', [{ text: 'one' }])
    const { code, stderr } = await tributaryIn(folder)('ingest --home closed/h a.jsonl')
    assert.equal(code, 1)
    assert.match(stderr, /^error: /)
  })

  test('a home that is a file is an error, not a bug', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'file'), '')
    writeLines(folder, 'a.jsonl', [{ text: 'one' }])
    for (const line of ['ingest --home file a.jsonl', 'ingest --home file/below a.jsonl', 'status --home file']) {
      const { code, stderr } = await tributaryIn(folder)(line)
      assert.equal(code, 1, stderr)
      assert.match(stderr, /^error: /)
    }
    assert.equal(readFileSync(join(folder, 'file'), 'utf8'), '')
  })
})
