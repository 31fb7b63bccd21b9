/** @file Attention in row blocks is attention in one, with its gradients; what padding and windows hide has no effect. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attentionBackward, attentionForward } from '../../src/tensor/attention.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { assertNear, dice, randomTensor } from './tensors.js'

const ops = plainOps()

const parts = (blocks: number, [g, q, k, v]: readonly PlainTensor[], options: Parameters<typeof attentionForward>[5]) => ({
  out: attentionForward(ops, blocks, q, k, v, options), ...attentionBackward(ops, blocks, g, q, k, v, options),
})

for (const [heads, headsKv] of [[2, 2], [6, 2], [4, 1]]) {
  test(`blocks 1, 2, 4 and 8 agree for ${heads} heads on ${headsKv}, whatever the length and the window`, () => {
    const below = dice(heads)
    for (let round = 0; round < 12; round++) {
      const [B, T, headDim] = [1 + below(2), 8 + below(18), 2]
      const options = { heads, headsKv, headDim, scale: 0.6, window: below(2) === 0 ? undefined : 1 + below(T + 2) }
      const inputs = [heads, heads, headsKv, headsKv].map((h, i) => randomTensor([B, T, h, headDim], 10 * round + i))
      const whole = parts(1, inputs, options)
      for (const blocks of [2, 4, 8]) {
        const cut = parts(blocks, inputs, options)
        for (const key of ['out', 'q', 'k', 'v'] as const) {
          assert.deepEqual(cut[key].shape, whole[key].shape)
          assertNear(cut[key].data, whole[key].data, 1e-13, `${key}, ${blocks} blocks, T ${T}, window ${options.window}`)
        }
      }
    }
  })
}

test('no position sees to its right, nor beyond its window, forwards or backwards', () => {
  const [T, headDim] = [13, 2]
  for (const window of [undefined, 1, 4]) {
    for (const blocks of [1, 4]) {
      const options = { heads: 2, headsKv: 1, headDim, scale: 1, window }
      const inputs = [2, 2, 1, 1].map((h, i) => randomTensor([1, T, h, headDim], i))
      const [, q, k, v] = inputs
      const changed = 6
      const poke = (x: PlainTensor): PlainTensor => plainTensor(x.data.map((a, n) => (Math.floor(n / (x.data.length / T)) === changed ? a + 1 : a)), x.shape)
      const [before, after] = [[k, v], [poke(k), poke(v)]].map(([keys, values]) => attentionForward(ops, blocks, q, keys, values, options).data)
      const touched = [...Array(T).keys()].filter((t) => before.subarray(t * 4, t * 4 + 4).some((a, i) => a !== after[t * 4 + i]))
      const wanted = [...Array(T).keys()].filter((t) => t >= changed && t - changed < (window ?? Infinity))
      assert.deepEqual(touched, wanted, `window ${window}, ${blocks} blocks`)
      // A gradient at one position alone reaches the keys and values that it saw.
      const g = plainTensor(inputs[0].data.map((a, n) => (Math.floor(n / 4) === changed ? a : 0)), inputs[0].shape)
      const { k: dk, v: dv, q: dq } = attentionBackward(ops, blocks, g, q, k, v, options)
      const seen = [...Array(T).keys()].filter((t) => t <= changed && changed - t < (window ?? Infinity))
      assert.deepEqual([...Array(T).keys()].filter((t) => dv.data.subarray(t * 2, t * 2 + 2).some((a) => a !== 0)), seen)
      assert.ok([...Array(T).keys()].every((t) => seen.includes(t) || dk.data.subarray(t * 2, t * 2 + 2).every((a) => a === 0)))
      assert.ok([...Array(T).keys()].every((t) => t === changed || dq.data.subarray(t * 4, t * 4 + 4).every((a) => a === 0)))
    }
  }
})
