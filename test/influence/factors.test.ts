/** @file Factor sets on disk: what is written is what is read; whatever does not fit is refused with its name. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  hashFactors, inputFile, inputName, inputWidth, layerFile, openFactors, readManifest, strategyParts, trackedLayers, writeBasis, writeEigenvalues, writeManifest,
  type FactorManifest, type LayerFactors, type Strategy,
} from '../../src/influence/index.js'
import { openModel, type LinearLayer } from '../../src/model/index.js'
import { readReference } from '../references/read.js'
import { assertNear } from '../tensor/tensors.js'
import { madeFactors } from './made-layer.js'

const layersOf = async (name: 'gpt2' | 'llama', track: string): Promise<readonly LinearLayer[]> => trackedLayers((await openModel(readReference(name).modelDir)).model, track)

/** A finished set of made factors, in a folder that is gone after the test. */
const writtenSet = async (t: { after(f: () => Promise<void>): void }, layers: readonly LinearLayer[], { strategy = 'ekfac', blocks = 1 }: { strategy?: Strategy; blocks?: number } = {}) => {
  const folder = await mkdtemp(join(tmpdir(), 'tributary-factors-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const draft: FactorManifest = {
    format: 1, model: '/models/made', ends: [3], stage: 'eigenvalues', sequences: 3, tokens: 30, unusable: 0, hash: null,
    settings: { strategy, empirical: true, blocks, track: 'x', seed: 1, context: 64, batchTokens: 128, engine: 'onnx', long: 'split', documents: 3, checkpoint: 'c' },
    layers: layers.map((layer) => ({ name: layer.name, outputs: layer.outputs, inputs: layer.inputs, bias: layer.bias, input: inputName(layer) })),
  }
  await writeManifest(folder, draft)
  const written = new Map<string, LayerFactors>()
  const shared = new Map<string, LayerFactors['inputs']>()
  for (const [l, layer] of layers.entries()) {
    const made = await madeFactors(layer, { strategy, blocks, seed: 10 * l })
    const inputs = shared.get(inputName(layer)) ?? made.inputs // gate and up read one input
    shared.set(inputName(layer), inputs)
    written.set(layer.name, { ...made, inputs })
    if (inputs !== null && made.outputs !== null) {
      await writeBasis(inputFile(folder, draft, inputName(layer)), inputs)
      await writeBasis(layerFile(folder, draft, layer.name, 'basis'), made.outputs)
    }
    if (strategyParts[strategy].eigenvalues) await writeEigenvalues(layerFile(folder, draft, layer.name, 'eigenvalues'), made.eigenvalues, [layer.outputs, inputWidth(layer)])
  }
  const finish = async (): Promise<FactorManifest> => {
    const manifest: FactorManifest = { ...draft, stage: 'complete', hash: await hashFactors(folder, draft) }
    await writeManifest(folder, manifest)
    return manifest
  }
  return { folder, draft, written, finish }
}

for (const [strategy, blocks] of [['ekfac', 1], ['ekfac', 3], ['kfac', 1], ['diagonal', 1], ['identity', 1]] as const) {
  test(`${strategy} in ${blocks} blocks comes back as it was written`, async (t) => {
    const layers = await layersOf('llama', 'model.layers.1.mlp.*')
    const { folder, written, finish } = await writtenSet(t, layers, { strategy, blocks })
    const manifest = await finish()
    assert.deepEqual(await readManifest(folder), manifest)
    const set = await openFactors(folder, 'made', layers)
    assert.equal(set.hash, manifest.hash)
    assert.deepEqual(set.layers, layers)
    for (const layer of layers) {
      const [found, wanted] = [await set.load(layer), written.get(layer.name) ?? assert.fail()]
      assert.deepEqual(found.inputs, wanted.inputs)
      assert.deepEqual(found.outputs, wanted.outputs)
      if (strategy !== 'kfac') assert.deepEqual(found.eigenvalues, wanted.eigenvalues)
      else {
        // Λ of kfac is the outer product of the two spectra.
        const { inputs, outputs } = wanted
        const [S, A] = [outputs?.values ?? assert.fail(), inputs?.values ?? assert.fail()]
        assertNear(found.eigenvalues, [...S].flatMap((s) => [...A].map((a) => s * a)), 1e-6, layer.name)
      }
    }
  })
}

test('the set of another model is refused by layer and shape; one of fewer layers is taken', async (t) => {
  const layers = await layersOf('llama', 'mlp')
  const { folder, finish } = await writtenSet(t, layers)
  await finish()
  await assert.rejects(openFactors(folder, 'made', await layersOf('gpt2', 'mlp')), { name: 'UserError', message: /model.layers.0.mlp.gate_proj of 40×24, but the model has no such layer/ })
  const change = (given: Partial<LinearLayer>) => layers.map((layer, l) => (l === 1 ? { ...layer, ...given } : layer))
  await assert.rejects(openFactors(folder, 'made', change({ outputs: 41 })), { name: 'UserError', message: /up_proj of 40×24, but the model has 41×24/, fix: /\/models\/made/ })
  await assert.rejects(openFactors(folder, 'made', change({ inputs: 23 })), { message: /has 40×23/ })
  await assert.rejects(openFactors(folder, 'made', change({ bias: true })), { message: /has 40×24 with bias/ })
  assert.equal((await openFactors(folder, 'made', await layersOf('llama', 'all'))).layers.length, layers.length)
})

test('what is missing, unfinished or not a manifest is refused with what to do', async (t) => {
  const layers = await layersOf('gpt2', 'transformer.h.0.mlp.*')
  const { folder, finish } = await writtenSet(t, layers)
  await assert.rejects(openFactors(folder, 'made', layers), { name: 'UserError', message: /"made" is unfinished \(stage eigenvalues\)/, fix: /goes on where it stopped/ })
  await assert.rejects(openFactors(join(folder, 'nowhere'), 'other', layers), { name: 'UserError', message: /no factor set "other"/, fix: /tributary fit --factors other/ })
  const manifest = await finish()
  const path = join(folder, 'manifest.json')
  for (const text of ['{', '[]', JSON.stringify({ ...manifest, format: 2 }), JSON.stringify({ ...manifest, stage: 'begun' })]) {
    await writeFile(path, text)
    await assert.rejects(openFactors(folder, 'made', layers), { name: 'UserError', message: /is not a factor set's manifest/ }, text.slice(0, 20))
  }
})

test('a file that is damaged, cut short or gone is named', async (t) => {
  const layers = await layersOf('gpt2', 'transformer.h.0.mlp.*')
  const { folder, draft, finish } = await writtenSet(t, layers)
  await finish()
  const [layer] = layers
  const set = await openFactors(folder, 'made', layers)
  for (const path of [layerFile(folder, draft, layer.name, 'eigenvalues'), layerFile(folder, draft, layer.name, 'basis'), inputFile(folder, draft, inputName(layer))]) {
    const whole = await readFile(path)
    const name = new RegExp(path.slice(folder.length + 1).replaceAll('.', '\\.'))
    for (const damage of [() => truncate(path, whole.length - 4), () => truncate(path, 4), () => writeFile(path, 'x'.repeat(whole.length)), () => rm(path)]) {
      await damage()
      await assert.rejects(set.load(layer), (error: Error) => name.test(error.message) && error.name === 'UserError')
      await writeFile(path, whole)
    }
    await set.load(layer)
  }
  await writeEigenvalues(layerFile(folder, draft, layer.name, 'eigenvalues'), new Float32Array(6), [2, 3])
  await assert.rejects(set.load(layer), { name: 'UserError', message: /does not hold the eigenvalues of transformer.h.0.mlp.c_fc/ })
  await writeBasis(layerFile(folder, draft, layer.name, 'basis'), { width: 2, values: Float64Array.of(1, 2), blocks: [{ from: 0, size: 2, vectors: Float32Array.of(1, 0, 0, 1) }] })
  await assert.rejects(set.load(layer), { name: 'UserError', message: /has no tensor "values" of shape \[40\]/ })
})

test('the hash changes with every file and setting, and with nothing else', async (t) => {
  const layers = await layersOf('gpt2', 'transformer.h.0.mlp.*')
  const { folder, draft } = await writtenSet(t, layers)
  const first = await hashFactors(folder, draft)
  assert.equal(await hashFactors(folder, { ...draft, stage: 'complete', hash: 'x', model: '/elsewhere', tokens: 31, settings: Object.fromEntries(Object.entries(draft.settings).reverse()) as FactorManifest['settings'] }), first)
  const seen = new Set([first])
  for (const manifest of [{ ...draft, settings: { ...draft.settings, seed: 2 } }, { ...draft, settings: { ...draft.settings, empirical: false } }, { ...draft, layers: draft.layers.map((layer) => ({ ...layer, outputs: layer.outputs + 1 })) }]) seen.add(await hashFactors(folder, manifest))
  assert.equal(seen.size, 4)
  for (const layer of layers) {
    for (const path of [layerFile(folder, draft, layer.name, 'eigenvalues'), layerFile(folder, draft, layer.name, 'basis'), inputFile(folder, draft, inputName(layer))]) {
      const whole = await readFile(path)
      const flipped = Buffer.from(whole)
      flipped[flipped.length - 1] ^= 1
      await writeFile(path, flipped)
      assert.notEqual(await hashFactors(folder, draft), first, path)
      await writeFile(path, whole)
    }
  }
  assert.equal(await hashFactors(folder, draft), first)
})
