/** @file What takes whole processes: Ctrl-C, a shard ingested while a run follows, a disk that is full. */
import assert from 'node:assert/strict'
import { spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { openLogForReading } from '../../src/pipeline/home.js'
import { ended, start, tributaryIn, writeLines } from '../cli/tributary.js'
import { influenceOf, queries, stateOf, temporary, textOf } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

const folder = temporary()
const tributary = tributaryIn(folder)
const lines = (from: number, to: number): unknown[] => Array.from({ length: to - from }, (_, i) => ({ id: `d${from + i}`, text: `${textOf(from + i)} ${from + i}` }))
const scoring = (run: string): string[] => ['score', '--run', run, '--model', 'model', '--factors', 'f', '--threads', '1', '--batch-tokens', '64', '--commit-every-ms', '0']

before(async () => {
  await tinyCheckpoint(join(folder, 'model'))
  writeLines(folder, 'a.jsonl', lines(0, 400))
  writeLines(folder, 'b.jsonl', lines(400, 450))
  writeLines(folder, 'queries.jsonl', queries)
  for (const line of ['ingest a.jsonl --source s --partitions 2', 'queries add queries.jsonl']) {
    const { code, stderr } = await tributary(line)
    assert.equal(code, 0, stderr)
  }
})

const scored = async (run: string): Promise<number> => {
  await using log = await openLogForReading({ home: join(folder, '.tributary') })
  return (await influenceOf(log, run)).length
}
/** Waits for a child until something holds; fails if the child ends before. */
const until = async (child: ChildProcess, holds: () => Promise<boolean>): Promise<void> => {
  while (!(await holds())) {
    assert.equal(child.exitCode, null, 'the process ended too soon')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

describe('a process', () => {
  test('stopped by Ctrl-C while it fits says so with 130, and going on ends it', async () => {
    const args = ['fit', '--model', 'model', '--factors', 'f', '--documents', '400', '--batch-tokens', '64', '--threads', '1', '--commit-every-ms', '0']
    const child = start(folder, args)
    const end = ended(child)
    await until(child, () => Promise.resolve(existsSync(join(folder, '.tributary/factors/f/covariances.partial.safetensors'))))
    child.kill('SIGINT')
    const { code, stdout, stderr } = await end
    assert.equal(code, 130, stderr)
    assert.match(stdout, /stopped with \d+ documents? left; the same "tributary fit" goes on from there/)
    const on = await ended(start(folder, args))
    assert.equal(on.code, 0, on.stderr)
  })

  test('stopped by Ctrl-C while it scores has committed what it finished, says where it stopped, and goes on from there', async () => {
    const child = start(folder, scoring('r'))
    const end = ended(child)
    await until(child, async () => (await scored('r')) > 0)
    child.kill('SIGINT')
    const { code, stdout, stderr } = await end
    assert.equal(code, 130, stderr)
    const [, done] = /run "r": ([\d,]+) documents/.exec(stdout) ?? []
    const [, left] = /stopped with ([\d,]+) documents? left/.exec(stdout) ?? []
    assert.equal(Number(done), await scored('r'))
    assert.ok(Number(left) > 0 && Number(left) <= 400 - Number(done) + 400, stdout)
    const on = await ended(start(folder, scoring('r')))
    assert.equal(on.code, 0, on.stderr)
    assert.match(on.stdout, new RegExp(`run "r": ${400 - Number(done)} documents`))
    assert.equal(await scored('r'), 400)
    await ended(start(folder, scoring('undisturbed')))
    await using log = await openLogForReading({ home: join(folder, '.tributary') })
    assert.ok((await stateOf(log, 'r')) === (await stateOf(log, 'undisturbed')), 'the states differ')
  })

  test('that follows scores what another process ingests, and ends at Ctrl-C with all of it committed', async () => {
    const child = start(folder, [...scoring('follows'), '--follow'])
    const end = ended(child)
    await until(child, async () => (await scored('follows')) === 400)
    assert.equal((await tributary('ingest b.jsonl --source s')).code, 0)
    await until(child, async () => (await scored('follows')) === 450)
    child.kill('SIGINT')
    const { code, stdout, stderr } = await end
    assert.equal(code, 0, `${stdout}${stderr}`)
    assert.match(stdout, /run "follows": 450 documents/)
  })

  test('whose disk is full says so, keeps what was committed, and goes on when there is room', async (t) => {
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk]).status === 0
    if (!mounted) return t.skip('no small disk can be mounted here: that takes root and the right to mount')
    after(() => spawnSync('umount', [disk]))
    const home = join(disk, 'home')
    const wide = Array.from({ length: 12 }, (_, q) => ({ id: `q${q}`, prompt: textOf(q), completion: ' water' }))
    writeLines(folder, 'wide.jsonl', wide)
    for (const args of [['ingest', 'a.jsonl', '--source', 's', '--partitions', '2'], ['queries', 'add', 'wide.jsonl'], ['fit', '--model', 'model', '--factors', 'f', '--documents', '100', '--threads', '1']]) {
      const { code, stderr } = await ended(start(folder, [...args, '--home', home]))
      assert.equal(code, 0, stderr)
    }
    const filler = join(disk, 'filler')
    const free = (): number => Number(spawnSync('df', ['--output=avail', '-B1', disk]).stdout.toString().split('\n')[1])
    /** Scores with so little room that it does not come through, then with enough. */
    const inTwoGoes = async (run: string, roomBytes: number, message: RegExp): Promise<void> => {
      writeFileSync(filler, Buffer.alloc(Math.max(0, free() - roomBytes), 1))
      const full = await ended(start(folder, [...scoring(run), '--home', home]))
      assert.equal(full.code, 1, `${full.stdout}${full.stderr}`)
      assert.match(full.stderr, message)
      assert.match(full.stderr, /fix: make room on the disk/)
      assert.doesNotMatch(full.stderr, /^ +at /m, 'no stack')
      rmSync(filler)
      const on = await ended(start(folder, [...scoring(run), '--home', home]))
      assert.equal(on.code, 0, on.stderr)
    }
    await inTwoGoes('prepares', 640 << 10, /error: .*query-cache.* cannot be written: ENOSPC/)
    await inTwoGoes('r', 256 << 10, /error: the (disk of the )?log at .* (is full|could not be written)/)
    await using log = await openLogForReading({ home })
    const influence = await influenceOf(log, 'r')
    assert.equal(influence.length, 400)
    assert.equal(new Set(influence.map(({ document }) => document)).size, 400)
  })
})
