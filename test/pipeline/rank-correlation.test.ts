import assert from 'node:assert/strict'
import fc from 'fast-check'
import { test } from 'node:test'
import { kendall, ranksOf, spearman } from '../../src/pipeline/rank-correlation.js'

const values = fc.array(fc.tuple(fc.integer({ min: -4, max: 4 }), fc.integer({ min: -4, max: 4 })), { maxLength: 40 })

test("Kendall's τ_b is what counting all pairs gives, ties included", () => {
  fc.assert(fc.property(values, (pairs) => {
    let [difference, x, y] = [0, 0, 0]
    for (let i = 0; i < pairs.length; i++)
      for (let j = 0; j < i; j++) {
        const [dx, dy] = [Math.sign(pairs[i][0] - pairs[j][0]), Math.sign(pairs[i][1] - pairs[j][1])]
        difference += dx * dy
        x += Math.abs(dx)
        y += Math.abs(dy)
      }
    const found = kendall(pairs.map(([a]) => a), pairs.map(([, b]) => b))
    if (x === 0 || y === 0) assert.equal(found, null)
    else assert.ok(Math.abs((found ?? NaN) - difference / Math.sqrt(x * y)) < 1e-12)
  }))
})

test('ranks count from the greatest, and equal values share theirs', () => {
  assert.deepEqual(ranksOf([5, 9, 5, 1]), [2.5, 1, 2.5, 4])
  assert.equal(spearman([1, 2, 3, 4], [10, 20, 30, 40]), 1)
  assert.equal(spearman([1, 2, 3, 4], [4, 3, 2, 1]), -1)
  assert.equal(spearman([1, 1], [1, 2]), null)
  // R: cor(c(1,2,3,4,5), c(2,1,4,3,5), method = "spearman")
  assert.ok(Math.abs((spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) ?? NaN) - 0.8) < 1e-12)
})
