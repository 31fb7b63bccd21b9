/** @file Rounding to 16 bits, against a search among all numbers of the type. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { narrowed, rounded, widened, type NarrowType } from '../../src/tensor/engines/narrow.js'

for (const type of ['float16', 'bfloat16'] as const) {
  const all = widened(Uint16Array.from({ length: 0x10000 }, (_, bits) => bits), type)

  test(`${type}: what is one already stays`, () => {
    const bits = narrowed(all, type)
    for (let i = 0; i < all.length; i++) assert.ok(bits[i] === i || Number.isNaN(all[i]), `${i}`)
    assert.ok(all.some(Number.isNaN) && rounded(Float32Array.of(NaN), type).every(Number.isNaN))
  })

  test(`${type}: every other number goes to the nearest, of two to the even`, () => {
    // Places of the finite ones from 0 up: their bits in order.
    const positive = all.subarray(0, 0x8000).filter(Number.isFinite)
    const nearest = (x: number): number => {
      let [low, high] = [0, positive.length - 1]
      while (high - low > 1) {
        const middle = (low + high) >> 1
        if (positive[middle] <= x) low = middle
        else high = middle
      }
      // Beyond the largest: as if one more place followed.
      const next = x >= positive[high] ? 2 * positive[high] - positive[high - 1] : positive[high]
      const [below, at] = x >= positive[high] ? [positive[high], high] : [positive[low], low]
      const [down, up] = [x - below, next - x]
      const isUp = up < down || (up === down && at % 2 === 1)
      return isUp ? (x >= positive[high] ? Infinity : next) : below
    }
    const check = (x: number): void => {
      for (const signed of [x, -x]) assert.equal(rounded(Float32Array.of(signed), type)[0], Math.sign(signed) * nearest(Math.abs(signed)), String(signed))
    }
    const most: Readonly<Record<NarrowType, number>> = { float16: 70_000, bfloat16: Math.fround(3.4e38) }
    for (const x of [2 ** -24, 2 ** -25, 2 ** -26, 3 * 2 ** -25, 2 ** -14, 2 ** -14 - 2 ** -26, 65504, 65519, 65520, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8]) if (x !== 0) check(Math.fround(x))
    fc.assert(fc.property(fc.float({ min: Math.fround(2 ** -27), max: Math.fround(most[type]), noNaN: true }), check), { numRuns: 2000 })
  })
}
