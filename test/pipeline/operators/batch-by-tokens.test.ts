import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, test } from 'node:test'
import { from, lastValueFrom, throwError, toArray } from 'rxjs'
import { batchByTokens, batchesByTokens } from '../../../src/pipeline/operators/batch-by-tokens.js'

const sized = (length: number, offset: number, piece = 0) => ({ tokens: new Array<number>(length).fill(0), partition: offset % 3, offset, piece })
const pieces = fc.array(fc.tuple(fc.integer({ min: 2, max: 40 }), fc.nat(2)), { maxLength: 60 }).map((all) => all.map(([length, piece], i) => sized(length, i, piece)))
const bounds = fc.record({ tokensMax: fc.integer({ min: 2, max: 200 }), sequencesMax: fc.integer({ min: 1, max: 9 }) })

describe('batchByTokens', () => {
  test('every piece is in one batch, and no batch passes a bound unless it is one piece', () => {
    fc.assert(
      fc.property(pieces, bounds, (input, { tokensMax, sequencesMax }) => {
        const batches = batchesByTokens(input, { tokensMax, sequencesMax })
        assert.deepEqual(new Set(batches.flat()), new Set(input))
        assert.equal(batches.flat().length, input.length)
        for (const batch of batches) {
          assert.ok(batch.length >= 1 && batch.length <= sequencesMax)
          assert.ok(batch.length === 1 || batch.length * Math.max(...batch.map(({ tokens }) => tokens.length)) <= tokensMax)
        }
      }),
    )
  })

  test('the same pieces make the same batches, in whatever order they come', () => {
    fc.assert(
      fc.property(
        pieces.chain((input) => fc.tuple(fc.constant(input), fc.shuffledSubarray(input, { minLength: input.length }))), bounds,
        ([input, shuffled], bound) => assert.deepEqual(batchesByTokens(shuffled, bound), batchesByTokens(input, bound)),
      ),
    )
  })

  test('lengths differ little in a batch: the longest come first', () => {
    const lengths = batchesByTokens([3, 9, 4, 8, 2, 9].map((length, i) => sized(length, i)), { tokensMax: 18, sequencesMax: 8 }).map((batch) => batch.map(({ tokens }) => tokens.length))
    assert.deepEqual(lengths, [[9, 9], [8, 4], [3, 2]])
  })

  test('as an operator: batches at the end, errors at once, and a value that can be used twice', async () => {
    const operator = batchByTokens<ReturnType<typeof sized>>({ tokensMax: 8, sequencesMax: 8 })
    const input = [sized(4, 0), sized(4, 1), sized(4, 2)]
    for (const _ of [1, 2]) assert.deepEqual((await lastValueFrom(from(input).pipe(operator, toArray()))).map((batch) => batch.length), [2, 1])
    await assert.rejects(lastValueFrom(throwError(() => new Error('torn')).pipe(operator)), /torn/)
  })
})
