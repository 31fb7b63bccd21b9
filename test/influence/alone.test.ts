/**
 * @file A document's results are the same bits whatever it is computed with, on one engine and machine: on every
 * architecture, in every join, alone, in pairs and in batches of any size.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { documentsAtOnceMax, joins, paddedLength, scoreBatch, scoreProgram, type BatchScores, type JoinKind } from '../../src/influence/index.js'
import { openModel } from '../../src/model/index.js'
import { batchesByTokens } from '../../src/pipeline/operators/batch-by-tokens.js'
import { onnxEngine, type TensorData } from '../../src/tensor/index.js'
import { readReference } from '../references/read.js'
import { dice, randomTensor } from '../tensor/tensors.js'

interface Document {
  readonly tokens: readonly number[]
  readonly partition: number
  readonly offset: number
  readonly piece: number
}

describe('a document scored alone', () => {
  for (const name of ['gpt2', 'llama', 'mistral', 'qwen2'] as const)
    for (const { kind, queries, threads } of [
      { kind: 'dense', queries: 5, threads: 2 }, { kind: 'dense', queries: 1, threads: 1 },
      { kind: 'low-rank', queries: 3, threads: 2 }, { kind: 'shared', queries: 3, threads: 2 }, { kind: 'shared', queries: 1, threads: 1 },
    ] satisfies { readonly kind: JoinKind; readonly queries: number; readonly threads: number }[])
      test(`has the bits it has in any batch: ${name}, ${kind} join, ${queries} queries, ${threads} threads`, async () => {
        const { model, tensors } = await openModel(readReference(name).modelDir)
        await using engine = onnxEngine({ threads })
        const shape = { queries, rank: 3 }
        await using program = await engine.compile(scoreProgram(model, tensors, model.layers, kind, shape))
        await program.bind(Object.fromEntries(model.layers.flatMap((layer, l) => Object.entries(joins[kind].inputs(layer, shape)).map(([input, spec], i): [string, TensorData] => {
          const dimensions = spec.shape.map(Number)
          return [input, { type: 'float32', shape: dimensions, data: Float32Array.from(randomTensor(dimensions, 10 * l + i).data) }]
        }))))
        const below = dice(7)
        const lengthMax = model.positionsMax
        const documents = Array.from({ length: 40 }, (_, offset): Document => {
          // Some lengths often, so that batches are full, and every length now and then.
          const length = Math.min(lengthMax, below(2) === 0 ? [6, 14, 23][below(3)] : 2 + below(47))
          return { tokens: Array.from({ length }, () => below(model.vocabulary)), partition: 0, offset, piece: 0 }
        })
        const bitsOf = ({ losses, gradientNorms, influence }: BatchScores, b: number): string => [losses[b], gradientNorms[b], ...influence[b]].join(' ')
        const alone: string[] = []
        for (const document of documents) alone.push(bitsOf(await scoreBatch(program, [document], { lengthMax }), 0))
        assert.equal(new Set(alone).size, documents.length)
        const sizes = new Set<number>()
        for (let round = 0; round < 6; round++) {
          const some = documents.filter(() => round === 0 || below(3) > 0)
          for (const batch of batchesByTokens(some, { tokensMax: 1024, sequencesMax: round === 1 ? 2 : documentsAtOnceMax, lengthMax })) {
            sizes.add(batch.length)
            const scores = await scoreBatch(program, batch, { lengthMax })
            batch.forEach(({ offset }, b) => assert.equal(bitsOf(scores, b), alone[offset], `document ${offset} of ${documents[offset].tokens.length} tokens, one of ${batch.length}`))
          }
        }
        assert.ok(sizes.has(1) && sizes.has(2) && Math.max(...sizes) > 6, `batches of ${[...sizes].join(', ')}`)
      })
})

test('a length is padded to a multiple of 8 that depends on nothing else, by an eighth at most, and never beyond the positions there are', () => {
  let before = 0
  for (let length = 2; length <= 3000; length++) {
    const padded = paddedLength(length)
    assert.ok(padded >= before && padded >= length && padded % 8 === 0, `${length} → ${padded}`)
    assert.ok(padded - length < Math.max(8, length / 8), `${length} → ${padded}`)
    assert.equal(paddedLength(padded), padded)
    before = padded
  }
  assert.equal(paddedLength(49, 50), 50)
  assert.equal(paddedLength(2, 4), 8)
})
