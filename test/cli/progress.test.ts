import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { excerptOf, formatScore, tableOf, visible } from '../../src/cli/output.js'
import { formatSeconds, loggedProgress, terminalProgress } from '../../src/cli/progress.js'

/** Progress on a stream of lines, with a clock that the test turns. */
const plain = (): { progress: ReturnType<typeof terminalProgress>; lines: () => string[]; wait: (seconds: number) => void } => {
  const stream = new PassThrough()
  let nowMs = 1000
  return {
    progress: terminalProgress({ stream, now: () => nowMs }),
    lines: () => ((stream.read() as Buffer | null)?.toString('utf8') ?? '').split('\n').filter((line) => line !== ''),
    wait: (seconds) => void (nowMs += seconds * 1000),
  }
}

test('plain lines come every five seconds, with rate, lag and time left', () => {
  const { progress, lines, wait } = plain()
  progress.start(1000, 'documents')
  progress.update(0)
  for (let second = 1; second <= 11; second++) {
    wait(1)
    progress.update(second * 20, 'dense')
  }
  assert.deepEqual(lines(), [
    '100 of 1,000 documents, 20/s, 900 left, 45 s to go, dense',
    '200 of 1,000 documents, 20/s, 800 left, 40 s to go, dense',
  ])
  progress.stop()
  assert.deepEqual(lines(), ['220 documents in 11 s, 20/s'])
  progress.stop()
  assert.deepEqual(lines(), [])
})

test('the rate counts from where an earlier start stopped, and forgets a slow beginning', () => {
  const { progress, lines, wait } = plain()
  progress.start(10_000, 'documents')
  progress.update(5000)
  wait(6)
  progress.update(5060)
  assert.deepEqual(lines(), ['5,060 of 10,000 documents, 10/s, 4,940 left, 8 min 14 s to go'])
  for (let i = 1; i <= 200; i++) {
    wait(1)
    progress.update(5060 + i * 20)
  }
  assert.match(lines().at(-1) ?? '', /, 20\/s, /)
})

test('a total may be unknown, or become another', () => {
  const { progress, lines, wait } = plain()
  progress.start(null, 'documents')
  progress.update(0)
  wait(5)
  progress.update(10)
  progress.start(20, 'queries')
  progress.update(0)
  wait(5)
  progress.update(10, '', 40)
  progress.log('a remark')
  assert.deepEqual(lines(), ['10 documents, 2.0/s', '10 documents in 5 s, 2.0/s', '10 of 40 queries, 2.0/s, 30 left, 15 s to go', 'a remark'])
})

test('what was all there already is not told as work', () => {
  const { progress, lines } = plain()
  progress.start(20, 'queries')
  progress.start(null, 'documents')
  assert.deepEqual(lines(), [])
  progress.stop()
  assert.deepEqual(lines(), ['0 documents in 0 s'])
})

test('as lines for machines: begun works with their end, and none that was all there already', () => {
  const told: unknown[] = []
  let nowMs = 0
  const progress = loggedProgress((fields, line) => told.push([line, fields.unit, fields.done, fields.total]), { now: () => nowMs })
  progress.start(3, 'queries')
  progress.start(null, 'documents')
  progress.update(2)
  nowMs += 6000
  progress.update(4)
  progress.update(5)
  progress.log('a remark')
  progress.stop()
  progress.stop()
  assert.deepEqual(told, [['progress', 'documents', 2, null], ['progress', 'documents', 4, null], ['a remark', undefined, undefined, undefined], ['progress', 'documents', 5, null]])
})

test('a terminal gets a bar of its width, and the end of the work in a line', () => {
  const stream = Object.assign(new PassThrough(), { isTTY: true, columns: 80, cursorTo: () => true, moveCursor: () => true, clearScreenDown: () => true, clearLine: () => true })
  const progress = terminalProgress({ stream, now: () => 0 })
  progress.start(4, 'documents')
  progress.update(1)
  progress.log('a remark')
  progress.update(2)
  progress.stop()
  const text = (stream.read() as Buffer).toString('utf8')
  assert.match(text, /█+░+ 2 of 4 documents, 2 left/)
  assert.match(text, /a remark/)
  assert.match(text, /2 documents in 0 s\n$/)
})

test('seconds are said as a person would', () => {
  assert.deepEqual([0, 9.4, 65, 3725, 100_000].map(formatSeconds), ['0 s', '9 s', '1 min 05 s', '1 h 02 min', '1 d 03 h'])
})

test('text of others is safe for a terminal', () => {
  assert.equal(visible('a\n\tb\u001b[31m\u202e'), 'a b\ufffd[31m\ufffd')
  assert.equal(excerptOf('one two three', 8), 'one two…')
  assert.equal(excerptOf('one', 8), 'one')
  assert.equal(excerptOf('😀😀😀😀', 3), '😀😀…')
})

test('tables line up, and scores have six digits', () => {
  assert.equal(tableOf(['A', 'B'], [['x', 1], ['yy', 22]], { right: ['B'] }), 'A    B\nx    1\nyy  22\n')
  assert.deepEqual([0, 1.5, -0.00012, 1234567].map(formatScore), ['0', '1.50000', '-1.2000e-4', '1.2346e+6'])
})
