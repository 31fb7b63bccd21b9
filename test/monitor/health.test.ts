import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { HealthObserver } from '../../src/monitor/index.js'

describe('health', () => {
  const watched = () => {
    const time = { ms: 0 }
    const health = new HealthObserver({ clock: () => time.ms, stallMs: 1000 })
    return { time, health, of: (lag: number | null) => { const { state, ready, healthy } = health.read(lag); return [state, ready, healthy] } }
  }

  test('a start is healthy and not ready; ready once all is opened; stalled when nothing happens for long; well again with the next batch', () => {
    const { time, health, of } = watched()
    assert.deepEqual(of(null), ['starting', false, true])
    health.observer.ready()
    assert.deepEqual(of(7), ['working', true, true])
    time.ms = 999
    assert.deepEqual(of(7), ['working', true, true])
    time.ms = 1000
    assert.deepEqual(of(7), ['stalled', true, false])
    health.observer.batch({ sequences: 1, tokens: 2, padded: 2 })()
    assert.deepEqual(of(7), ['working', true, true])
  })

  test('idle is healthy for ever where nothing waits; records that wait for long are a stall, however long it was idle before', () => {
    const { time, health, of } = watched()
    health.observer.ready()
    health.observer.idle()
    time.ms = 1e9
    assert.deepEqual(of(0), ['idle', true, true])
    assert.deepEqual(of(null), ['idle', true, true])
    assert.deepEqual(of(3), ['working', true, true])
    time.ms += 1000
    assert.deepEqual(of(3), ['stalled', true, false])
    health.observer.documents({ documents: 3, tokens: 9 })
    assert.deepEqual(of(3), ['working', true, true])
  })

  test('a stage that is silent until it ends is no stall', () => {
    const { time, health, of } = watched()
    health.observer.quiet('compile')
    time.ms = 1e9
    assert.deepEqual(of(null), ['starting', false, true])
    health.observer.ready()
    time.ms += 1000
    assert.deepEqual(of(null), ['stalled', true, false])
  })

  test('a batch that was handed over and never comes back is no progress', () => {
    const { time, health, of } = watched()
    health.observer.ready()
    health.observer.batch({ sequences: 1, tokens: 2, padded: 2 })
    time.ms = 1000
    assert.deepEqual(of(5), ['stalled', true, false])
  })

  test('a work that ended in an error has failed and says why; one that is done is well', () => {
    const { health, of } = watched()
    health.ended(new Error('the engine is gone'))
    assert.deepEqual(of(5), ['failed', false, false])
    assert.match(health.read(5).reason, /the engine is gone/)
    const other = watched()
    other.health.observer.ready()
    other.health.ended()
    assert.deepEqual(other.of(0), ['done', true, true])
  })
})
