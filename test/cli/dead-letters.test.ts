/** @file `tributary dead-letters` as a user calls it, on the embedded log. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { runId } from '../../src/base/index.js'
import { keyOf, type Assignment } from '../../src/log/index.js'
import { openLog, openLogForReading } from '../../src/pipeline/home.js'
import type { DeadLetterList } from '../../src/pipeline/dead-letters.js'
import { queries, stateOf, textOf } from '../pipeline/drive.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { mainPath, temporaryFolder, tributaryIn, writeLines } from './tributary.js'

/** What a terminal would act on: a colour, a carriage return, a bell, a new title, text from right to left; and lines that look like fields. */
const hostile = 'a\u001b[31mred\r\u0007\u001b]0;title\u0007\u202egnp.exe'

describe('dead letters of ingest', () => {
  const folder = temporaryFolder()
  const tributary = tributaryIn(folder)
  const idOf = async (cause: string): Promise<string> => {
    const { letters } = JSON.parse((await tributary(['dead-letters', 'list', '--json', '--cause', cause])).stdout) as DeadLetterList<string>
    assert.equal(letters.length, 1, cause)
    return letters[0].id
  }
  before(async () => {
    writeFileSync(join(folder, 'web-1.jsonl'), Buffer.concat([
      Buffer.from('{"text": "fine", "id": "0"}\n{"body": "mended", "id": "m"}\n{"body": "too", "id": "n"}\n'),
      Buffer.from(`${JSON.stringify({ text: 5, id: 'h', note: hostile })}\n`),
      Buffer.from(`not JSON: ${hostile}\n`),
      Buffer.from([0x7b, 0xff, 0x00, 0x1b, 0x7d, 0x0a]),
    ]))
    const { code, stderr } = await tributary('ingest web-1.jsonl --partitions 2')
    assert.equal(code, 0, stderr)
    assert.match(stderr, /tributary dead-letters list/)
  })

  test('are listed and counted by cause, safe for a terminal', async () => {
    const { code, stdout } = await tributary('dead-letters list')
    assert.equal(code, 0)
    for (const part of [/^ *DEAD LETTERS +STAGE +RUN +KIND +LAST CAUSE$/m, /^ +2 +ingest +no_text +it has no field "text"$/m, /^ +1 +ingest +not_utf8 /m, /web-1\.jsonl, line 2/])
      assert.match(stdout, part)
    assert.doesNotMatch(stdout, /[\u0000-\u0009\u000b-\u001f\u202e]/)
    assert.match((await tributary('dead-letters list --stage ingest --limit 2')).stdout, /the newest 2 of 5; --limit N shows more/)
    assert.equal((await tributary('dead-letters list --run none')).stdout, 'no dead letters\n')
    const json = JSON.parse((await tributary('dead-letters list --json --limit 100 --source web')).stdout) as DeadLetterList<string>
    assert.deepEqual([json.matched, json.letters.length, json.unreadable], [5, 5, 0])
  })

  test('one is shown whole: text with escapes, other bytes in hexadecimal, or the bytes as they were', async () => {
    const text = await tributary(['dead-letters', 'show', await idOf('not JSON')])
    assert.equal(text.code, 0)
    assert.doesNotMatch(text.stdout, /[\u0000-\u0009\u000b-\u001f\u202e]/)
    assert.match(text.stdout, /\ncause\n {2}the line is not JSON: .*\noriginal, \d+ bytes\n {2}not JSON: a\\u001b\[31mred\\u000d\\u0007\\u001b\]0;title\\u0007\\u202egnp\.exe\n$/)
    const id = await idOf('not UTF-8')
    assert.match((await tributary(['dead-letters', 'show', id])).stdout, /original, 5 bytes, not text\n {2}00000000 {2}7b ff 00 1b 7d .*\{\.\.\.\}\n$/)
    const child = spawn(process.execPath, [mainPath, 'dead-letters', 'show', id, '--raw'], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] })
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    await once(child, 'close')
    assert.deepEqual([...Buffer.concat(chunks)], [0x7b, 0xff, 0x00, 0x1b, 0x7d])
    const json = JSON.parse((await tributary(['dead-letters', 'show', id, '--json'])).stdout) as Record<string, unknown>
    assert.deepEqual([json.id, json.stage, json.originalText, json.originalBase64], [id, 'ingest', null, 'e/8AG30='])
  })

  test('are replayed with another field, once', async () => {
    const line = ['dead-letters', 'replay', '--cause', 'no field "text"', '--text-field', 'body']
    assert.match((await tributary([...line, '--dry-run'])).stdout, /^nothing was written \(--dry-run\); without it:\nof ingest: 2 documents appended/)
    assert.match((await tributary(line)).stdout, /^of ingest: 2 documents appended, 0 already there, 0 failed again\n$/)
    assert.match((await tributary(line)).stdout, /^of ingest: 0 documents appended, 2 already there, 0 failed again\n$/)
    const again = await tributary('ingest web-1.jsonl --text-field body --json')
    assert.deepEqual([again.code, (JSON.parse(again.stdout) as { appended: number }).appended], [0, 0])
    assert.match((await tributary('dead-letters list --open')).stdout, /^ +1 +ingest +not_json/m)
    assert.equal((JSON.parse((await tributary('dead-letters list --open --json')).stdout) as DeadLetterList<string>).matched >= 3, true)
    const same = await tributary(['dead-letters', 'replay', await idOf('not JSON')])
    assert.equal(same.code, 0)
    assert.match(same.stdout, /1 failed again\nfailed again:\n {2}\d+:\d+: the line is not JSON/)
    assert.doesNotMatch(same.stdout, /[\u0000-\u0009\u000b-\u001f\u202e]/)
  })

  for (const [line, code, says] of [
    ['dead-letters replay', 2, /which dead letters are meant was not said\nfix: name ids, give a filter/],
    ['dead-letters list --stage nowhere', 2, /--stage nowhere is not allowed\nfix: one of ingest, decode/],
    ['dead-letters list --since yesterday', 2, /--since yesterday is not allowed/],
    ['dead-letters list --limit -3', 2, /limit/],
    ['dead-letters show', 2, /missing required argument/],
    ['dead-letters show 0:999', 1, /there is no dead letter 0:999/],
    ['dead-letters show x', 1, /"x" is no id of a dead letter\nfix: PARTITION:OFFSET/],
    ['dead-letters replay 9:9', 1, /there is no dead letter 9:9/],
    ['dead-letters replay --all --max-bytes much', 2, /--max-bytes.*not allowed/],
    ['dead-letters list --home nowhere', 1, /there is no home at "nowhere"/],
    ['dead-letters replay --all --home nowhere', 1, /there is no home at "nowhere"/],
  ] as const)
    test(`"${line}" ends with ${code} and says why`, async () => {
      const { code: ended, stderr } = await tributary(line)
      assert.equal(ended, code, stderr)
      assert.match(stderr, says)
    })
})

describe('dead letters of a run', () => {
  const folder = temporaryFolder()
  const home = join(folder, '.tributary')
  const tributary = tributaryIn(folder)
  const done = async (line: string): Promise<string> => {
    const { code, stdout, stderr } = await tributary(line)
    assert.equal(code, 0, `${line}\n${stdout}${stderr}`)
    return stdout
  }
  const scoring = (run: string): string => `score --run ${run} --model model --factors f --threads 1 -k 10 --join dense`
  const stateNow = async (run: string): Promise<string> => {
    await using log = await openLogForReading({ home })
    return await stateOf(log, run)
  }

  before(async () => {
    await tinyCheckpoint(join(folder, 'model'))
    writeLines(folder, 'a.jsonl', Array.from({ length: 40 }, (_, i) => ({ id: `d${i}`, source: 'a', text: `${textOf(i)} ${i}` })))
    writeLines(folder, 'queries.jsonl', queries)
    await done('ingest a.jsonl --partitions 1')
    await done('queries add queries.jsonl')
    await done('fit --model model --factors f --documents 40 --strategy kfac --threads 1')
    await done(scoring('sound'))
    // As a worker leaves it that could not use the first three documents, by a fault that is mended since.
    await using log = await openLog({ home })
    const stop = new AbortController()
    const assignments: Assignment[] = []
    for await (const assignment of log.assignments(runId('mended'), { signal: stop.signal })) assignments.push(assignment)
    const [assignment] = assignments
    const records = await log.read('documents', 0, 0, { recordsMax: 3, bytesMax: 1 << 20 })
    await assignment.restore()
    await assignment.commit({
      position: { offset: 3 },
      append: records.map(({ key, partition, offset, value }) => ({
        topic: 'dead-letters' as const, key: keyOf('mended', key),
        value: {
          run: 'mended', stage: 'tokenize' as const, cause: `no tokens: ${hostile}`, topic: 'documents', partition, offset, shard: value?.shard ?? null, index: value?.index ?? null,
          document: value?.id ?? null, piece: null, original: Buffer.from(value?.text ?? ''),
        },
      })),
    })
    stop.abort()
  })

  test('are scored by the next worker of the run, to the bits of a run that had none, however often they are replayed', async () => {
    const early = await tributary('dead-letters replay --run mended')
    assert.equal(early.code, 1)
    assert.match(early.stderr, /none of these 3 dead letters can be replayed: there is no run "mended"/)
    assert.match(await done(scoring('mended')), /run "mended": 37 documents/)
    const sound = await stateNow('sound')
    assert.notEqual(await stateNow('mended'), sound)
    assert.match(await done('dead-letters show 0:0'), /\nrun +mended\nsource +a\n(.*\n)*cause\n {2}no tokens: a\\u001b/)

    assert.match(await done('dead-letters replay --run mended'), /^of runs: 3 to be tried again, 0 were waiting already, 0 were replayed before\nrun "mended": a worker that follows/)
    assert.match(await done('dead-letters list --run mended'), /waits for a worker/)
    assert.match(await done('dead-letters replay --all'), /^of runs: 0 to be tried again, 3 were waiting already/)
    assert.match(await done(scoring('mended')), /run "mended": 3 documents/)
    assert.equal(await stateNow('mended'), sound)
    assert.equal(await stateNow('sound'), sound)
    assert.match(await done('dead-letters replay 0:0 0:1 0:2'), /0 to be tried again, 0 were waiting already, 3 were replayed before/)
    assert.match(await done(scoring('mended')), /run "mended": 0 documents/)
    assert.equal(await stateNow('mended'), sound)
    assert.match(await done('dead-letters list --run mended'), /replayed/)
    assert.equal(await done('dead-letters list --run mended --open'), 'no dead letters\n')
  })
})
