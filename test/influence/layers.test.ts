/** @file Which layers are tracked. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inputName, inputWidth, trackedLayers, trackedParameters } from '../../src/influence/index.js'
import { openModel } from '../../src/model/index.js'
import { readReference } from '../references/read.js'

const modelOf = async (name: 'gpt2' | 'llama' | 'qwen2') => (await openModel(readReference(name).modelDir)).model
const llamaLayers = (block: number, ...modules: string[]): string[] => modules.map((module) => `model.layers.${block}.${module}`)
const mlp = ['mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']
const attention = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj']

for (const [track, wanted] of [
  ['mlp', [...llamaLayers(0, ...mlp), ...llamaLayers(1, ...mlp)]],
  ['attention', [...llamaLayers(0, ...attention), ...llamaLayers(1, ...attention)]],
  ['all', [...llamaLayers(0, ...attention, ...mlp), ...llamaLayers(1, ...attention, ...mlp)]],
  ['model.layers.(0|10).mlp.*', llamaLayers(0, ...mlp)],
  ['model\\.layers\\.1\\..*_proj', llamaLayers(1, ...attention, ...mlp)],
  ['model.layers.1.mlp.up_proj|model.layers.0.mlp.up_proj', ['model.layers.0.mlp.up_proj', 'model.layers.1.mlp.up_proj']],
] as const) {
  test(`--track ${track} of llama`, async () => {
    assert.deepEqual(trackedLayers(await modelOf('llama'), track).map(({ name }) => name), wanted)
  })
}

test('an expression must match the whole name, and something', async () => {
  const model = await modelOf('llama')
  for (const track of ['layers.0', 'up_proj', 'MLP', '']) {
    assert.throws(() => trackedLayers(model, track), { name: 'UserError', message: /matches none of the 14 linear layers/ })
  }
  assert.throws(() => trackedLayers(model, 'model.layers.(0'), { name: 'UserError', message: /no regular expression/ })
})

test('the output head is refused by its own name, tied or not', async () => {
  for (const name of ['llama', 'gpt2', 'qwen2'] as const) {
    const model = await modelOf(name)
    for (const track of ['lm_head', '.*', '.*head|model.layers.0.mlp.up_proj']) {
      assert.throws(() => trackedLayers(model, track), { name: 'UserError', message: new RegExp('output head.*' + model.vocabulary) }, `${name}: ${track}`)
    }
  }
})

test('a bias is a column more, and layers that read one input name it alike', async () => {
  const gpt2 = await modelOf('gpt2')
  for (const layer of gpt2.layers) assert.equal(inputWidth(layer), layer.inputs + 1)
  const qwen2 = await modelOf('qwen2')
  const inputs = qwen2.layers.filter(({ block }) => block === 1).map(inputName)
  const of = (module: string): string => inputs[qwen2.layers.filter(({ block }) => block === 1).findIndex(({ name }) => name.endsWith(module))]
  assert.equal(of('q_proj'), of('v_proj'))
  assert.equal(of('gate_proj'), of('up_proj'))
  assert.equal(new Set(inputs).size, 4)
  assert.ok(!qwen2.layers.filter(({ block }) => block === 0).map(inputName).some((input) => inputs.includes(input)))
  assert.equal(trackedParameters(trackedLayers(gpt2, 'mlp')), 2 * (40 * 25 + 24 * 41))
})
