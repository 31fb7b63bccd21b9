import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { from, lastValueFrom, toArray } from 'rxjs'
import { uniforms } from '../../../src/base/index.js'
import { mapInOrder } from '../../../src/pipeline/operators/map-in-order.js'

const after = <V>(ms: number, value: V): Promise<V> => new Promise((resolve) => setTimeout(() => resolve(value), ms))

describe('mapInOrder', () => {
  for (const seed of [1, 2, 3])
    test(`results keep the order of the values, whichever is ready first (seed ${seed})`, async () => {
      const chance = uniforms(seed)
      let inFlight = 0
      let most = 0
      const operator = mapInOrder(
        async (value: number) => {
          most = Math.max(most, ++inFlight)
          const result = await after(8 * chance(), -value)
          inFlight--
          return result
        },
        { inFlightMax: 3 },
      )
      const values = Array.from({ length: 30 }, (_, i) => i)
      for (const _ of [1, 2]) assert.deepEqual(await lastValueFrom(from(values).pipe(operator, toArray())), values.map((value) => -value))
      assert.equal(most, 3)
    })

  test('an error ends it', async () => {
    const operator = mapInOrder((value: number) => (value === 2 ? Promise.reject(new Error('broke at 2')) : Promise.resolve(value)), { inFlightMax: 2 })
    await assert.rejects(lastValueFrom(from([1, 2, 3]).pipe(operator, toArray())), /broke at 2/)
  })
})
