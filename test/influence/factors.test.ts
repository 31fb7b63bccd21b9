/** @file Factor sets on disk: what is written is what is read; whatever does not fit is refused with its name. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  completed, inputFile, inputName, inputWidth, layerFile, openFactors, readManifest, strategyParts, trackedLayers, writeBasis, writeEigenvalues, writeManifest,
  type FactorManifest, type LayerFactors, type Strategy,
} from '../../src/influence/index.js'
import type { UserError } from '../../src/base/index.js'
import { openModel, type LinearLayer } from '../../src/model/index.js'
import { readReference } from '../references/read.js'
import { assertNear } from '../tensor/tensors.js'
import { madeFactors } from './made-layer.js'

const hashOf = async (folder: string, manifest: FactorManifest): Promise<string> => (await completed(folder, manifest)).hash

const layersOf = async (name: 'gpt2' | 'llama', track: string): Promise<readonly LinearLayer[]> => trackedLayers((await openModel(readReference(name).modelDir)).model, track)

/** A finished set of made factors, in a folder that is gone after the test. */
const writtenSet = async (t: { after(f: () => Promise<void>): void }, layers: readonly LinearLayer[], { strategy = 'ekfac', blocks = 1 }: { strategy?: Strategy; blocks?: number } = {}) => {
  const folder = await mkdtemp(join(tmpdir(), 'tributary-factors-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const draft: FactorManifest = {
    format: 1, model: '/models/made', ends: [3], stage: 'eigenvalues', sequences: 3, tokens: 30, unusable: 0, seals: null, hash: null,
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
    const manifest = await completed(folder, draft)
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
  // Files that are whole, finished as a part of the set, and of other shapes.
  await writeEigenvalues(layerFile(folder, draft, layer.name, 'eigenvalues'), new Float32Array(6), [2, 3])
  await finish()
  await assert.rejects((await openFactors(folder, 'made', layers)).load(layer), { name: 'UserError', message: /does not hold the eigenvalues of transformer.h.0.mlp.c_fc/ })
  await writeBasis(layerFile(folder, draft, layer.name, 'basis'), { width: 2, values: Float64Array.of(1, 2), blocks: [{ from: 0, size: 2, vectors: Float32Array.of(1, 0, 0, 1) }] })
  await finish()
  await assert.rejects((await openFactors(folder, 'made', layers)).load(layer), { name: 'UserError', message: /has no tensor "values" of shape \[40\]/ })
})

test('the hash changes with every file and setting, and with nothing else', async (t) => {
  const layers = await layersOf('gpt2', 'transformer.h.0.mlp.*')
  const { folder, draft } = await writtenSet(t, layers)
  const first = await hashOf(folder, draft)
  assert.equal(await hashOf(folder, { ...draft, stage: 'complete', hash: 'x', model: '/elsewhere', tokens: 31, settings: Object.fromEntries(Object.entries(draft.settings).reverse()) as FactorManifest['settings'] }), first)
  const seen = new Set([first])
  for (const manifest of [{ ...draft, settings: { ...draft.settings, seed: 2 } }, { ...draft, settings: { ...draft.settings, empirical: false } }, { ...draft, layers: draft.layers.map((layer) => ({ ...layer, outputs: layer.outputs + 1 })) }]) seen.add(await hashOf(folder, manifest))
  assert.equal(seen.size, 4)
  for (const layer of layers) {
    for (const path of [layerFile(folder, draft, layer.name, 'eigenvalues'), layerFile(folder, draft, layer.name, 'basis'), inputFile(folder, draft, inputName(layer))]) {
      const whole = await readFile(path)
      // Each is sealed anew, as what it now holds.
      await reseal(path, (bytes) => bytes.writeUInt8(bytes[bytes.length - 1] ^ 1, bytes.length - 1))
      assert.notEqual(await hashOf(folder, draft), first, path)
      await writeFile(path, whole)
    }
  }
  assert.equal(await hashOf(folder, draft), first)
})

/** Changes a sealed file and seals it again: a file that is whole, but another. */
const reseal = async (path: string, change: (bytes: Buffer) => void): Promise<void> => {
  const bytes = await readFile(path)
  const at = bytes.indexOf('"sha256":"') + '"sha256":"'.length
  bytes.write('0'.repeat(64), at)
  change(bytes)
  bytes.write(createHash('sha256').update(bytes).digest('hex'), at)
  await writeFile(path, bytes)
}

/** One bit of one byte. */
const flip = async (path: string, at: number): Promise<void> => {
  const bytes = await readFile(path)
  bytes[at] ^= 1
  await writeFile(path, bytes)
}

test('one flipped bit anywhere in a file is refused with the file, both hashes and what to do', async (t) => {
  const layers = await layersOf('gpt2', 'transformer.h.0.mlp.*')
  const { folder, draft, finish } = await writtenSet(t, layers)
  await finish()
  const [layer] = layers
  for (const path of [layerFile(folder, draft, layer.name, 'eigenvalues'), layerFile(folder, draft, layer.name, 'basis'), inputFile(folder, draft, inputName(layer))]) {
    const whole = await readFile(path)
    const headerEnd = 8 + Number(whole.readBigUInt64LE(0))
    for (const at of [headerEnd, headerEnd + Math.floor((whole.length - headerEnd) / 2), whole.length - 1]) {
      const set = await openFactors(folder, 'made', layers)
      await set.load(layer) // whole so far: what changes afterwards is seen as well
      await flip(path, at)
      for (const opened of [set, await openFactors(folder, 'made', layers)]) {
        await assert.rejects(opened.load(layer), (error: UserError) => {
          assert.equal(error.name, 'UserError')
          assert.ok(error.message.includes(path), error.message)
          assert.match(error.message, /changed or damaged .* has the sha256 [0-9a-f]{64}, it was [0-9a-f]{64}/)
          assert.match(error.fix ?? '', /fit again: tributary fit --factors made --model \/models\/made/)
          return true
        })
      }
      await writeFile(path, whole)
    }
    // In the seal itself, and a whole file of another set in its place: seen when the set is opened.
    await flip(path, 40)
    await assert.rejects(openFactors(folder, 'made', layers), { name: 'UserError', message: /is another file than when the factors were finished/, fix: /fit again/ })
    await writeFile(path, whole)
    await reseal(path, (bytes) => bytes.writeUInt8(bytes[bytes.length - 1] ^ 1, bytes.length - 1))
    await assert.rejects(openFactors(folder, 'made', layers), { message: /is another file than when the factors were finished/ })
    await rm(path)
    await assert.rejects(openFactors(folder, 'made', layers), { name: 'UserError', message: /cannot be opened/, fix: /fit again/ })
    await writeFile(path, whole)
  }
  await openFactors(folder, 'made', layers)
})

test('an edited manifest is refused; a set of an older version, without seals, is held to its hash', async (t) => {
  const layers = await layersOf('gpt2', 'transformer.h.0.mlp.*')
  const { folder, draft, finish } = await writtenSet(t, layers)
  const manifest = await finish()
  for (const edited of [{ ...manifest, settings: { ...manifest.settings, empirical: false } }, { ...manifest, seals: Object.fromEntries(Object.entries(manifest.seals ?? {}).map(([file, seal], i) => [file, i === 0 ? '0'.repeat(64) : seal])) }]) {
    await writeManifest(folder, edited)
    await assert.rejects(openFactors(folder, 'made', layers), { name: 'UserError', message: /manifest.json" was changed after the factors were finished/ })
  }
  const files = [...new Set(layers.map((layer) => inputFile(folder, draft, inputName(layer)))), ...layers.map(({ name }) => layerFile(folder, draft, name, 'basis')), ...layers.map(({ name }) => layerFile(folder, draft, name, 'eigenvalues'))]
  const { settings: { engine: _engine, ...settings } } = draft
  const hash = createHash('sha256').update(JSON.stringify(settings)).update(JSON.stringify(draft.layers))
  for (const file of files) hash.update(await readFile(file))
  await writeManifest(folder, { ...manifest, seals: null, hash: hash.digest('hex') })
  await (await openFactors(folder, 'made', layers)).load(layers[0])
  const whole = await readFile(files[0])
  await flip(files[0], whole.length - 1)
  await assert.rejects(openFactors(folder, 'made', layers), { name: 'UserError', message: /the manifest or a file of .* was changed after the factors were finished/, fix: /fit again/ })
})
