import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { documentId, runId, UserError } from '../../src/base/index.js'
import type { LogRecord, NewRecord } from '../../src/log/index.js'
import { restoreState } from '../../src/pipeline/partition-state.js'
import type { Scored } from '../../src/table/index.js'

const shape = { run: runId('r'), partition: 1, queries: ['a', 'b'], k: 3 }
const scored = (i: number): Scored => ({
  document: documentId(`d${i}`), source: 's', piece: 0, partition: 1, offset: i, gradientNorm: 1 + (i % 3), influence: Float32Array.of(Math.sin(i), Math.cos(3 * i)),
})
/** As the log would give back what was committed: of every key the newest. */
const kept = (records: readonly NewRecord[]): LogRecord[] =>
  [...new Map(records.map((record) => [`${record.topic} ${record.key}`, record])).values()].map(({ topic, key, value }, offset) => ({
    topic, key, value: value ?? undefined, partition: 1, offset, timestampMs: 0,
  }))
const whole = (from: number, to: number): readonly Scored[] => Array.from({ length: to - from }, (_, i) => scored(from + i))

describe('the state of a partition', () => {
  test('restored at any place and gone on with, it writes what an unbroken one does', () => {
    const unbroken = restoreState(shape, [])
    unbroken.insert(whole(0, 40))
    const wanted = kept(unbroken.takeChanges())
    for (const at of [0, 1, 7, 39, 40]) {
      const first = restoreState(shape, [])
      first.insert(whole(0, at))
      const written = [...first.takeChanges()]
      const second = restoreState(shape, kept(written))
      assert.equal(second.count, at)
      assert.deepEqual(second.takeChanges(), [])
      second.insert(whole(at, 40))
      written.push(...second.takeChanges())
      const byKey = (records: readonly LogRecord[]) => new Map(records.map(({ topic, key, value }) => [`${topic} ${key}`, value]))
      assert.deepEqual(byKey(kept(written)), byKey(wanted))
    }
  })

  test('only what changed is written: moments with every document, a table when a row of it changed', () => {
    const state = restoreState(shape, [])
    state.insert(whole(0, 40))
    state.takeChanges()
    assert.deepEqual(state.takeChanges(), [])
    state.insert([{ ...scored(40), gradientNorm: 1, influence: Float32Array.of(0, 0) }])
    assert.deepEqual(state.takeChanges().map(({ topic }) => topic), ['moments', 'moments'])
    state.insert([{ ...scored(41), influence: Float32Array.of(0, 99) }])
    assert.deepEqual(state.takeChanges().map(({ topic, key }) => `${topic} ${key.replaceAll('\u001f', '/')}`), ['tables r/b/1', 'moments r/a/1', 'moments r/b/1'])
  })

  test('the state of other queries, or a part of it, is refused', () => {
    const state = restoreState(shape, [])
    state.insert(whole(0, 5))
    const records = kept(state.takeChanges())
    assert.throws(() => restoreState({ ...shape, queries: ['a', 'c'] }, records), (error: unknown) => error instanceof UserError && /none of its queries/.test(error.message))
    const part = records.filter(({ topic, key }) => topic !== 'moments' || !key.includes('b'))
    assert.throws(() => restoreState(shape, part), (error: unknown) => error instanceof UserError && /moments of 1 of its 2 queries/.test(error.message))
  })
})
