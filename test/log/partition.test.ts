import assert from 'node:assert/strict'
import { test } from 'node:test'
import { murmur2, partitionOf } from '../../src/log/partition.js'

test('murmur2 is Kafka’s: the values of its own unit tests', () => {
  const published: readonly [string, number][] = [
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
  ]
  for (const [key, hash] of published) assert.equal(murmur2(Buffer.from(key)), hash, key)
})

test('keys spread evenly over partitions', () => {
  const counts = new Array<number>(8).fill(0)
  for (let i = 0; i < 8000; i++) counts[partitionOf(Buffer.from(`source\u001fdocument-${i}`), 8)]++
  for (const count of counts) assert.ok(count > 850 && count < 1150, String(counts))
})
