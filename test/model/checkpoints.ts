/** @file The tiny checkpoints of fixtures/ (make-checkpoints.py), and copies of them to break. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readTensorExact, type Checkpoint, type Weights } from '../../src/model/index.js'
import { plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'

/** Tests run from dist/test/model; the fixtures lie in test/model. */
const ROOT = resolve(fileURLToPath(import.meta.url), '../../../..')
export const fixture = (name: string): string => join(ROOT, 'test/model/fixtures', name)

export interface Expected {
  readonly ids: readonly number[]
  readonly loss: number
  readonly positions: readonly number[]
  readonly logits: readonly (readonly number[])[]
  /** ‖∂loss/∂W‖² of each linear layer, where there are gradients. */
  readonly squaredNorms?: Readonly<Record<string, number>>
}
export const expected = async (name: string): Promise<readonly Expected[]> =>
  JSON.parse(await readFile(join(fixture(name), 'expected.json'), 'utf8'))

/** All weights of a checkpoint in float64. */
export const plainWeights = async ({ tensors, model }: Checkpoint): Promise<Weights<PlainTensor>> => {
  const loaded = new Map<string, PlainTensor>()
  for (const [name, info] of tensors) loaded.set(name, plainTensor(await readTensorExact(info), info.shape))
  return (name) => {
    const weight = loaded.get(name)
    if (weight === undefined || !model.weightShapes.has(name)) throw new Error(`the model asks for "${name}"`)
    return weight
  }
}

/** A temporary folder for one test, gone afterwards. */
export const temporary = async (t: { after(f: () => Promise<void>): void }): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'tributary-model-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A copy of a fixture, with settings of its config.json replaced (undefined: removed). */
export const copyOf = async (
  t: { after(f: () => Promise<void>): void }, name: string, settings: Readonly<Record<string, unknown>> = {},
): Promise<string> => {
  const folder = join(await temporary(t), name)
  await cp(fixture(name), folder, { recursive: true })
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...settings }))
  return folder
}
