import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, test } from 'node:test'
import { readPlaces, samplePlaces } from '../../src/pipeline/sample.js'
import { documentOf, homeWith } from './drive.js'

const extents = fc.array(fc.tuple(fc.nat(20), fc.nat(60)), { minLength: 1, maxLength: 5 }).map((all) => ({
  starts: all.map(([start]) => start), ends: all.map(([start, count]) => start + count),
}))

describe('samplePlaces', () => {
  test('places are distinct, ordered, in range, as many as asked for or as there are, and the same for the same seed', () => {
    fc.assert(
      fc.property(extents, fc.integer({ min: 1, max: 120 }), fc.nat(), ({ starts, ends }, count, seed) => {
        const total = ends.reduce((sum, end, p) => sum + end - starts[p], 0)
        const places = samplePlaces(starts, ends, { count, seed })
        assert.equal(places.length, Math.min(count, total))
        places.forEach(({ partition, offset }, i) => {
          assert.ok(offset >= starts[partition] && offset < ends[partition])
          const before = places[i - 1]
          if (before !== undefined) assert.ok(before.partition < partition || (before.partition === partition && before.offset < offset))
        })
        assert.deepEqual(samplePlaces(starts, ends, { count, seed }), places)
      }),
    )
  })

  test('they lie evenly: every tenth of a topic gets its tenth', () => {
    const places = samplePlaces([0, 0], [5000, 5000], { count: 1000, seed: 3 })
    const tenths = new Array<number>(10).fill(0)
    for (const { partition, offset } of places) tenths[Math.floor((partition * 5000 + offset) / 1000)]++
    assert.deepEqual(tenths, new Array<number>(10).fill(100))
    assert.notDeepEqual(samplePlaces([0, 0], [5000, 5000], { count: 1000, seed: 4 }), places)
  })

  test('readPlaces brings these records, in this order, however far apart they lie', async () => {
    const { log } = await homeWith(Array.from({ length: 700 }, (_, i) => documentOf(i, { text: `${i}` })))
    const { ends = [] } = (await log.describe()).find(({ topic }) => topic === 'documents') ?? {}
    for (const count of [1, 10, 200, 690, 700]) {
      const places = samplePlaces(ends.map(() => 0), ends, { count, seed: 1 })
      const records = await readPlaces(log, places)
      assert.deepEqual(records.map(({ partition, offset }) => ({ partition, offset })), places)
    }
  })
})
