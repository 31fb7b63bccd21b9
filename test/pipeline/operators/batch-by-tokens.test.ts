import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, test } from 'node:test'
import { from, lastValueFrom, throwError, toArray } from 'rxjs'
import { paddedLength } from '../../../src/influence/index.js'
import { batchByTokens, batchesByTokens } from '../../../src/pipeline/operators/batch-by-tokens.js'

const sized = (length: number, offset: number, piece = 0) => ({ tokens: new Array<number>(length).fill(0), partition: offset % 3, offset, piece })
const pieces = fc.array(fc.tuple(fc.integer({ min: 2, max: 40 }), fc.nat(2)), { maxLength: 60 }).map((all) => all.map(([length, piece], i) => sized(length, i, piece)))
const bounds = fc.record({ tokensMax: fc.integer({ min: 2, max: 200 }), sequencesMax: fc.integer({ min: 1, max: 9 }), lengthMax: fc.constantFrom(40, 43, 512) })

describe('batchByTokens', () => {
  test('every piece is in one batch, all of a batch have one padded length, and no batch passes a bound unless it is one piece', () => {
    fc.assert(
      fc.property(pieces, bounds, (input, bound) => {
        const { tokensMax, sequencesMax, lengthMax } = bound
        const batches = batchesByTokens(input, bound)
        assert.deepEqual(new Set(batches.flat()), new Set(input))
        assert.equal(batches.flat().length, input.length)
        for (const batch of batches) {
          assert.ok(batch.length >= 1 && batch.length <= sequencesMax)
          const lengths = new Set(batch.map(({ tokens }) => paddedLength(tokens.length, lengthMax)))
          assert.equal(lengths.size, 1)
          assert.ok(batch.length === 1 || batch.length * Math.max(...lengths) <= tokensMax)
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

  test('the longest come first', () => {
    const lengths = batchesByTokens([3, 9, 4, 8, 2, 16].map((length, i) => sized(length, i)), { tokensMax: 32, sequencesMax: 3, lengthMax: 512 }).map((batch) => batch.map(({ tokens }) => tokens.length))
    assert.deepEqual(lengths, [[16, 9], [8, 4, 3], [2]])
  })

  test('as an operator: batches at the end, errors at once, and a value that can be used twice', async () => {
    const operator = batchByTokens<ReturnType<typeof sized>>({ tokensMax: 16, sequencesMax: 8, lengthMax: 512 })
    const input = [sized(4, 0), sized(4, 1), sized(4, 2)]
    for (const _ of [1, 2]) assert.deepEqual((await lastValueFrom(from(input).pipe(operator, toArray()))).map((batch) => batch.length), [2, 1])
    await assert.rejects(lastValueFrom(throwError(() => new Error('torn')).pipe(operator)), /torn/)
  })
})
