/** @file One run after another over the same documents: replay, diff, reset. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, test } from 'node:test'
import type { RunDiff } from '../../src/pipeline/diff.js'
import { openLogForReading } from '../../src/pipeline/home.js'
import { readRun } from '../../src/pipeline/runs.js'
import { influenceOf, queries, stateOf, textOf } from '../pipeline/drive.js'
import { tinyCheckpoint } from '../pipeline/tiny-checkpoint.js'
import { temporaryFolder, tributaryIn, writeLines } from './tributary.js'

const folder = temporaryFolder()
const home = join(folder, '.tributary')
const tributary = tributaryIn(folder)
const done = async (line: string): Promise<string> => {
  const { code, stdout, stderr } = await tributary(line)
  assert.equal(code, 0, `${line}\n${stdout}${stderr}`)
  return stdout
}
const opened = async <T>(work: (log: Awaited<ReturnType<typeof openLogForReading>>) => Promise<T>): Promise<T> => {
  await using log = await openLogForReading({ home })
  return await work(log)
}

before(async () => {
  await tinyCheckpoint(join(folder, 'model'))
  writeLines(folder, 'a.jsonl', Array.from({ length: 60 }, (_, i) => ({ id: `d${i}`, source: i % 3 === 0 ? 'third' : 'others', text: `${textOf(i)} ${i}` })))
  writeLines(folder, 'queries.jsonl', queries)
  await done('ingest a.jsonl --partitions 2')
  await done('queries add queries.jsonl')
  await done('fit --model model --factors f --documents 60 --strategy kfac --threads 1')
  await done('score --run old --model model --factors f --threads 1 -k 10 --join dense')
})

test('a replay is a new run over the same documents; what is not changed comes to the same bits, and the old run stays as it is', async () => {
  const before = await opened((log) => stateOf(log, 'old'))
  assert.match(await done('replay --run same --from old --threads 1'), /run "same": 60 documents/)
  assert.equal(await opened((log) => stateOf(log, 'same')), before)
  await done('replay --run damped --from old --set damping=10x k=7 --threads 1')
  const { settings } = await opened((log) => readRun(log, 'damped'))
  assert.deepEqual([settings.damping, settings.k, settings.join], [{ kind: 'relative', factor: 10 }, 7, 'dense'])
  assert.notEqual(await opened((log) => stateOf(log, 'damped')), before)
  assert.equal(await opened((log) => stateOf(log, 'old')), before)
  const again = await tributary('replay --run damped --from old --set damping=11x k=7 --threads 1')
  assert.equal(again.code, 1)
  assert.match(again.stderr, /began under other settings:\n {2}damping/)
})

test('a slice of the documents is scored as in the whole, is recorded, and what was not chosen is passed over', async () => {
  await done('replay --run thirds --from old --source third --partition 1 --from-offset 3 --threads 1')
  const [all, some] = await opened((log) => Promise.all([influenceOf(log, 'old'), influenceOf(log, 'thirds')]))
  const wanted = all.filter(({ source, partition, offset }) => source === 'third' && partition === 1 && offset >= 3)
  assert.ok(wanted.length > 2)
  assert.deepEqual(some.map((value) => ({ ...value, run: '' })), wanted.map((value) => ({ ...value, run: '' })))
  const { settings } = await opened((log) => readRun(log, 'thirds'))
  assert.deepEqual([settings.onlySource, settings.onlyPartition, settings.fromOffset], [['third'], ['1'], 3])
  assert.match(await done('replay --run later --from old --from-time 2999-01-01 --threads 1'), /run "later": 0 documents/)
  // A replay of a slice is about the same slice.
  await done('replay --run thirds-again --from thirds --threads 1')
  assert.equal(await opened((log) => stateOf(log, 'thirds-again')), await opened((log) => stateOf(log, 'thirds')))
})

test('diff tells overlap, correlation and who moved; a run and itself are the same', async () => {
  const diff = async (line: string): Promise<RunDiff> => JSON.parse(await done(`diff ${line} --json`)) as RunDiff
  for (const { overlap, spearman, kendall, movers, compared } of (await diff('old same')).queries) {
    assert.deepEqual([overlap.map(({ share }) => share), spearman, kendall, movers, compared], [[1, 1, 1], 1, 1, [], 10])
  }
  const other = await diff('old damped')
  assert.deepEqual(other.settings.map(({ name }) => name), ['damping', 'k'])
  for (const { overlap, spearman, compared } of other.queries) {
    assert.deepEqual(overlap.map(({ k }) => k), [1, 5, 7])
    assert.ok(compared >= 10 && compared <= 17 && spearman !== null && spearman < 1 && spearman > -1)
  }
  const sliced = await diff('old thirds')
  assert.ok(sliced.queries.every(({ compared, onlyInOne }) => compared > 0 && onlyInOne > 0))
  assert.match(await done('diff old damped --normed --bottom'), /bottom by normed influence[^]*damping[^]*SPEARMAN[^]*moved most/)
})

test('a run that was reset may begin anew, and other runs know nothing of it', async () => {
  await done('replay --run gone --from old --threads 1')
  const [others, mine] = await opened((log) => Promise.all([stateOf(log, 'old'), stateOf(log, 'gone')]))
  const asked = await tributary('reset --run gone')
  assert.equal(asked.code, 2)
  assert.match(asked.stderr, /fix: tributary reset --run gone --yes/)
  await done('reset --run gone --yes')
  assert.equal((await tributary('topk --run gone')).code, 1)
  assert.equal((await opened((log) => influenceOf(log, 'gone'))).length, 0)
  await done('replay --run gone --from old --threads 1')
  assert.deepEqual(await opened((log) => Promise.all([stateOf(log, 'old'), stateOf(log, 'gone')])), [others, mine])
})

test('wrong names are told', async () => {
  for (const [line, message] of [
    ['replay --run n --from old --set dampin=1', /did you mean "damping"/], ['replay --run n --from old --set damping', /NAME=VALUE/],
    ['replay --run old --from old', /another name/], ['replay --run n --from none', /there is no run "none"/], ['diff old none', /there is no run "none"/],
    ['replay --run n --from old --partition x', /whole numbers/], ['reset --run none --yes', /there is no run/],
  ] as const) {
    const { code, stderr } = await tributary(line)
    assert.ok(code === 1 || code === 2, line)
    assert.match(stderr, message, line)
  }
})
