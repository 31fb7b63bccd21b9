import assert from 'node:assert/strict'
import { test } from 'node:test'
import { documentId, normals } from '../../src/base/index.js'
import { ScoreDrift } from '../../src/monitor/index.js'
import { RunningMoments, type Scored } from '../../src/table/index.js'

const stream = (seed: number, count: number, { mean = 0, spread = 1 } = {}): readonly Scored[] => {
  const normal = normals(seed)
  return Array.from({ length: count }, (_, i) => ({
    document: documentId(`d${i}`), source: 's', piece: 0, partition: 0, offset: i, gradientNorm: 2,
    influence: Float32Array.of(2 * (mean + spread * normal()), 2 * normal()),
  }))
}

const driftAfter = (...parts: readonly (readonly Scored[])[]) => {
  const moments = new RunningMoments(2)
  const drift = new ScoreDrift()
  for (const part of parts) {
    moments.insert(part)
    drift.insert(0, part, moments.normed)
  }
  return drift.read()
}

test('scores of one distribution do not drift', () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const read = driftAfter(stream(seed, 8000))
    assert.ok(read !== undefined && read.shiftMax < 0.2 && read.shiftMean <= read.shiftMax, JSON.stringify(read))
    assert.ok(Math.abs(read.scale - 1) < 0.15, JSON.stringify(read))
  }
})

test('a mean that moved is told by the greatest shift, a spread that grew by the scale', () => {
  const moved = driftAfter(stream(1, 8000), stream(2, 2000, { mean: 3 }))
  assert.ok(moved !== undefined && moved.shiftMax > 1 && moved.shiftMean < moved.shiftMax, JSON.stringify(moved))
  const spread = driftAfter(stream(1, 20_000), stream(2, 2000, { spread: 10 }))
  assert.ok(spread !== undefined && spread.scale > 1.4, JSON.stringify(spread))
})

test('nothing is said of a run that is young, nor of one without partitions', () => {
  assert.equal(driftAfter(stream(1, 1500)), undefined)
  assert.equal(new ScoreDrift().read(), undefined)
})

test('a partition that was taken away no longer counts for the run', () => {
  const drift = new ScoreDrift()
  for (const [partition, mean] of [[0, 5], [1, 0]] as const) {
    const part = stream(1 + partition, 4000, { mean })
    const moments = new RunningMoments(2)
    moments.insert(part)
    drift.insert(partition, part, moments.normed)
  }
  const both = drift.read()
  drift.forget(0)
  const one = drift.read()
  assert.ok(both !== undefined && one !== undefined)
  assert.ok(both.shiftMax > 0.5 && one.shiftMax < 0.2, JSON.stringify([both, one]))
})
