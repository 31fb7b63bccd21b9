import assert from 'node:assert/strict'
import { test } from 'node:test'
import { levelOfDebug, logger, logObserver, type LogFormat, type LogLevel } from '../../src/monitor/index.js'

const written = (level: LogLevel, format: LogFormat) => {
  const lines: string[] = []
  const observer = logObserver(logger({ level, format, write: (line) => lines.push(line), fields: { run: 'a run' } }), { clock: () => 0 })
  observer.assigned(3)
  observer.time('insert')()
  observer.batch({ partition: 3, offsets: [5, 9], sequences: 4, tokens: 70, padded: 80 })()
  observer.deadLetters([{ stage: 'score', cause: 'its loss is NaN' }, { stage: 'score', cause: 'its loss is Infinity' }])
  observer.committed({ partition: 3, records: 6, offset: 10, appendedMs: [1, 2, 3, 4] })
  observer.notCommitted({ partition: 3, reason: 'fenced' })
  return lines
}

test('a line of JSON a batch and a commit at debug, with run, partition, offsets and batch', () => {
  const lines = written('debug', 'json').map((line) => JSON.parse(line) as Record<string, unknown>)
  assert.deepEqual(lines.map(({ level, msg }) => `${String(level)} ${String(msg)}`), [
    'info assigned', 'debug batch', 'info dead letters', 'debug committed', 'warn a commit was refused',
  ])
  assert.ok(lines.every(({ run, time }) => run === 'a run' && typeof time === 'string' && !Number.isNaN(Date.parse(time))))
  const [, batch, dead] = lines
  assert.deepEqual([batch.batch, batch.partition, batch.offsets, batch.tokens, batch.padded, batch.ms], [0, 3, [5, 9], 70, 80, 0])
  assert.deepEqual(dead.causes, { 'score/loss_not_finite': 2 })
})

test('as text for people, from the level that was asked for on', () => {
  const [line, ...more] = written('warn', 'text')
  assert.deepEqual(more, [])
  assert.match(line, /^\d{4}-\d\d-\d\dT[\d:.]+Z warn a commit was refused run="a run" partition=3 reason=fenced$/)
  assert.equal(written('trace', 'text').filter((text) => text.includes(' stage=insert ')).length, 1)
  assert.deepEqual(written('silent', 'text'), [])
})

test('TRIBUTARY_DEBUG is a level', () => {
  assert.deepEqual([undefined, '', '0', '1', '2', '3', '4', 'x'].map(levelOfDebug), [undefined, undefined, undefined, 'info', 'debug', 'trace', 'trace', undefined])
})
