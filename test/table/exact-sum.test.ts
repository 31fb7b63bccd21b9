import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { uniforms } from '../../src/base/index.js'
import { ExactSums, exactProduct, gridMin, rangeOf, type Range } from '../../src/table/exact-sum.js'

/** Any finite f32: zeros, subnormals and the greatest too. */
const f32 = fc.float({ noNaN: true, noDefaultInfinity: true })
/** Of like sizes, as scores are, so that the fast kernels run too. */
const near = fc.float({ noNaN: true, min: -1000, max: 1000, minExcluded: true })
const pairs = fc.oneof(
  fc.array(fc.tuple(f32, f32), { maxLength: 40 }),
  fc.array(fc.tuple(near, near), { maxLength: 40 }),
  fc.array(fc.tuple(fc.constantFrom(1, -1.5, 3, 1e-3, -7).map(Math.fround), fc.constantFrom(1, 2, -2).map(Math.fround))),
)
type Pairs = readonly (readonly [number, number])[]

const addAll = (sums: ExactSums, at: number, products: Pairs): void => {
  const values = Float64Array.from([...products.map(([x]) => x), ...products.map(([, y]) => y)])
  const [x, y] = [rangeOf(values, 0, products.length), rangeOf(values, products.length, values.length)]
  if (x !== undefined && y !== undefined) sums.addDot(at, values, 0, products.length, products.length, x, y)
}
const sumOf = (products: Pairs): ExactSums => {
  const sums = new ExactSums(1)
  addAll(sums, 0, products)
  return sums
}
const exact = (products: Pairs): bigint => products.reduce((sum, [x, y]) => sum + exactProduct(x, y), 0n)

test('a sum of products of f32 is the exact one, by integers', () => {
  fc.assert(fc.property(pairs, (products) => assert.equal(sumOf(products).integer(0), exact(products))))
})

test('a sum is the same bits one product at a time, backwards, and in parts merged either way', () => {
  fc.assert(
    fc.property(pairs, fc.nat(), (products, cutAt) => {
      const whole = sumOf(products).serialize(0, 1)
      const single = new ExactSums(1)
      for (const product of [...products].reverse()) addAll(single, 0, [product])
      assert.deepEqual(single.serialize(0, 1), whole)
      const cut = products.length === 0 ? 0 : cutAt % products.length
      const parts = (): ExactSums[] => [sumOf(products.slice(0, cut)), sumOf(products.slice(cut))]
      const [a, b] = parts()
      a.merge(b)
      assert.deepEqual(a.serialize(0, 1), whole)
      const [c, d] = parts()
      d.merge(c)
      d.merge(new ExactSums(1))
      assert.deepEqual(d.serialize(0, 1), whole)
    }),
  )
})

test('bytes come back as the sums they were, added to what is there', () => {
  fc.assert(
    fc.property(pairs, pairs, (first, second) => {
      const sums = new ExactSums(2)
      addAll(sums, 0, first)
      addAll(sums, 1, second)
      const back = new ExactSums(2)
      back.mergeBytes(0, 2, sums.serialize(0, 2))
      assert.deepEqual([back.integer(0), back.integer(1)], [exact(first), exact(second)])
      back.mergeBytes(1, 2, sums.serialize(0, 1))
      assert.equal(back.integer(1), exact([...first, ...second]))
    }),
  )
})

test('a value is the sum rounded once: what plain addition loses is there', () => {
  assert.equal(sumOf([[1e30, 1e8], [1, 1], [-1e30, 1e8]].map(([x, y]) => [Math.fround(x), Math.fround(y)])).value(0), 1)
  assert.equal(sumOf([]).value(0), 0)
  const least = 2 ** -149
  const greatest = 3.4028234663852886e38
  assert.equal(sumOf([[least, -least]]).value(0), -(2 ** -298))
  assert.equal(sumOf([[greatest, greatest], [least, least]]).integer(0), exact([[greatest, greatest], [least, least]]))
  // 2^53 + 1 is a tie that goes to the even 2^53; a grain more goes up.
  const tie: Pairs = [[2 ** 53, 1], [1, 1]]
  assert.equal(sumOf(tie).value(0), 2 ** 53)
  assert.equal(sumOf([...tie, [2 ** -100, 1]]).value(0), 2 ** 53 + 2)
})

test('many products of one sign carry: 20,000 of the greatest, and 20,000 cancelled again', () => {
  const greatest = 3.4028234663852886e38
  const values = new Float64Array(1000).fill(greatest)
  const range: Range = { top: 128, low: -149 }
  const sums = new ExactSums(1)
  for (let i = 0; i < 10; i++) sums.addDot(0, values, 0, 0, 1000, range, range)
  for (let i = 0; i < 10; i++) sums.addDot(0, values, 0, 0, 1000, { top: 128, low: 104 }, { top: 128, low: 104 })
  assert.equal(sums.integer(0), 20_000n * exactProduct(greatest, greatest))
  const negative = new Float64Array([...values, ...values.map((x) => -x)])
  for (let i = 0; i < 20; i++) sums.addDot(0, negative, 0, 1000, 1000, range, range)
  assert.equal(sums.integer(0), 0n)
  assert.deepEqual(sums.serialize(0, 1), new Uint8Array(1))
})

test('20,000 products that fill a limb to its brim overflow nothing', () => {
  const next = uniforms(3)
  const values = Float64Array.from({ length: 1000 }, () => Math.fround(2 ** 30 * (1 - next() / 16)))
  const products = Array.from(values, (x): readonly [number, number] => [x, x])
  const sums = new ExactSums(1)
  const range: Range = { top: 30, low: 6 } // products below 2^60, the end of limb 8
  for (let i = 0; i < 20; i++) sums.addDot(0, values, 0, 0, 1000, range, range)
  assert.equal(sums.integer(0), 20n * exact(products))
})

test('damaged bytes are refused', () => {
  const bytes = sumOf([[1.5, 1.5], [2 ** -40, 3]]).serialize(0, 1)
  const sums = new ExactSums(1)
  assert.throws(() => sums.mergeBytes(0, 1, bytes.subarray(0, bytes.length - 1)), /damaged at 0 of/)
  assert.throws(() => sums.mergeBytes(0, 1, Uint8Array.of(0xff)), /damaged/)
  assert.throws(() => sums.mergeBytes(0, 1, Uint8Array.of()), /damaged/)
  assert.throws(() => sums.mergeBytes(0, 1, Uint8Array.of(...bytes, 0)), /where .* were expected/)
})

test('a sum that leaves the top is refused', () => {
  const sums = new ExactSums(1)
  const top = Uint8Array.of((14 << 4) | 1, 0xff, 0xff, 0xff, 0xff, 0x7f) // 2^39 - 1 at 2^260
  sums.mergeBytes(0, 1, top)
  assert.equal(sums.integer(0), (2n ** 39n - 1n) * 2n ** BigInt(260 - gridMin))
  assert.throws(() => sums.mergeBytes(0, 1, top), /reached 2\^299/)
})
