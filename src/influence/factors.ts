/**
 * @file A factor set on disk (docs/method.md §3): what preconditions query gradients.
 *
 *     NAME/manifest.json            settings, checkpoint, progress, and the hash of the finished set
 *          inputs/<n>.safetensors   Q_A and the spectrum of A, one file for each distinct input
 *          layers/<n>.safetensors   Q_S, the spectrum of S, and the corrected eigenvalues Λ of each tracked layer
 *
 * Every file carries the sha256 of its content, and the manifest of a finished set has them all. A set is opened if manifest and
 * files agree, for which the beginnings of the files are read; a file's content is hashed when it is first wanted.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { z } from 'zod'
import { UserError } from '../base/index.js'
import { readSafetensors, readSeal, readTensor, readTensorExact, sealChecks, writeSafetensors, type LinearLayer, type TensorToWrite } from '../model/index.js'
import { blockBounds, type Basis } from './basis.js'
import { inputName, inputWidth } from './layers.js'

export type Strategy = 'ekfac' | 'kfac' | 'diagonal' | 'identity'

/** What a strategy is made of. */
export const strategyParts: Readonly<Record<Strategy, { readonly bases: boolean; readonly eigenvalues: boolean }>> = {
  ekfac: { bases: true, eigenvalues: true },
  kfac: { bases: true, eigenvalues: false },
  diagonal: { bases: false, eigenvalues: true },
  identity: { bases: false, eigenvalues: false },
}

const formatVersion = 1

const manifestSchema = z.object({
  format: z.literal(formatVersion),
  /** What identifies the set: the same settings go on where a fit stopped, others are refused. */
  settings: z.object({
    strategy: z.enum(['ekfac', 'kfac', 'diagonal', 'identity']),
    empirical: z.boolean(),
    blocks: z.int().positive(),
    track: z.string(),
    seed: z.int(),
    context: z.int().positive(),
    batchTokens: z.int().positive(),
    /** Absent in factors that were begun when there was one. */
    engine: z.enum(['onnx', 'onnx/cuda', 'onnx/webgpu', 'tfjs']).default('onnx'),
    long: z.enum(['split', 'truncate']),
    documents: z.int().positive(),
    checkpoint: z.string(),
    /** Hashes of further checkpoints, where the factors are an average over several. */
    checkpoints: z.array(z.string()).optional(),
  }),
  model: z.string(),
  layers: z.array(z.object({ name: z.string(), outputs: z.int().positive(), inputs: z.int().positive(), bias: z.boolean(), input: z.string() })),
  /** Documents of the topic that the fit draws on: the ends of its partitions when it began. */
  ends: z.array(z.int().nonnegative()),
  stage: z.enum(['covariances', 'eigenbases', 'eigenvalues', 'complete']),
  /** Sequences and tokens that have gone into the factors, and documents that could not be used. */
  sequences: z.int().nonnegative(),
  tokens: z.int().nonnegative(),
  unusable: z.int().nonnegative(),
  /** The sha256 that each file carries, by its path in the folder, when complete; null before, and in sets of older versions. */
  seals: z.record(z.string(), z.string()).nullable().default(null),
  /** sha256 over settings, layers and files, when complete. */
  hash: z.string().nullable(),
})
export type FactorManifest = z.infer<typeof manifestSchema>

/** The factors of one layer, as preconditioning needs them. */
export interface LayerFactors {
  readonly layer: LinearLayer
  /** Q_A and Q_S; null for strategies that stay in the parameter basis. */
  readonly inputs: Basis | null
  readonly outputs: Basis | null
  /** Λ f32 [O, I'], in that basis; all zero for `identity`, whose Λ + λ is 1. */
  readonly eigenvalues: Float32Array
}

const manifestPath = (folder: string): string => join(folder, 'manifest.json')

/** @throws UserError if it is there but cannot be read; undefined if there is none */
export const readManifest = async (folder: string): Promise<FactorManifest | undefined> => {
  let text: string
  try {
    text = await readFile(manifestPath(folder), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new UserError(`"${manifestPath(folder)}" cannot be read: ${(error as Error).message}`, { cause: error })
  }
  try {
    return manifestSchema.parse(JSON.parse(text))
  } catch (cause) {
    throw new UserError(`"${manifestPath(folder)}" is not a factor set's manifest of format ${formatVersion}`, { fix: 'fit again under another --factors name', cause })
  }
}

export const writeManifest = async (folder: string, manifest: FactorManifest): Promise<void> => {
  await mkdir(join(folder, 'inputs'), { recursive: true })
  await mkdir(join(folder, 'layers'), { recursive: true })
  const temporary = `${manifestPath(folder)}.tmp`
  // In the schema's order, as a manifest that was read has it: who went on writes and hashes the same bytes.
  await writeFile(temporary, `${JSON.stringify(manifestSchema.parse(manifest), null, 2)}\n`, { flush: true })
  await rename(temporary, manifestPath(folder))
}

/** The file of a distinct input, and of a layer. Numbered: module names need not be fit for file names. */
export const inputFile = (folder: string, manifest: FactorManifest, input: string): string =>
  join(folder, 'inputs', `${[...new Set(manifest.layers.map((layer) => layer.input))].indexOf(input)}.safetensors`)
export const layerFile = (folder: string, manifest: FactorManifest, layer: string, part: 'basis' | 'eigenvalues'): string =>
  join(folder, 'layers', `${manifest.layers.findIndex(({ name }) => name === layer)}.${part}.safetensors`)

/** All files of a set, below its folder, in the order that the hash takes them in. */
const filesOf = (manifest: FactorManifest): readonly string[] => {
  const { bases, eigenvalues } = strategyParts[manifest.settings.strategy]
  return [
    ...(bases ? [...new Set(manifest.layers.map(({ input }) => inputFile('', manifest, input)))] : []),
    ...(bases ? manifest.layers.map(({ name }) => layerFile('', manifest, name, 'basis')) : []),
    ...(eigenvalues ? manifest.layers.map(({ name }) => layerFile('', manifest, name, 'eigenvalues')) : []),
  ].map((path) => path.replaceAll('\\', '/'))
}

export const writeBasis = async (path: string, { values, blocks, width }: Basis): Promise<void> => {
  const vectors = blocks.map(({ size, vectors: data }, b): TensorToWrite => ({ name: `vectors.${b}`, dtype: 'F32', shape: [size, size], data: () => data }))
  await writeSafetensors(path, [{ name: 'values', dtype: 'F64', shape: [width], data: () => values }, ...vectors], {}, { sealed: true })
}

export const readBasis = async (path: string, { width, blocks }: { readonly width: number; readonly blocks: number }): Promise<Basis> => {
  const tensors = await readSafetensors(path)
  const get = (name: string, shape: readonly number[]) => {
    const info = tensors.get(name)
    if (info === undefined || info.shape.join() !== shape.join()) throw new UserError(`"${path}" has no tensor "${name}" of shape [${shape.join(', ')}]`, { fix: 'fit again' })
    return info
  }
  return {
    width,
    values: Float64Array.from(await readTensorExact(get('values', [width]))),
    blocks: await Promise.all(blockBounds(width, blocks).map(async ({ from, size }, b) => ({ from, size, vectors: await readTensor(get(`vectors.${b}`, [size, size])) }))),
  }
}

export const writeEigenvalues = (path: string, values: Float32Array, shape: readonly [number, number]): Promise<void> =>
  writeSafetensors(path, [{ name: 'eigenvalues', dtype: 'F32', shape, data: () => values }], {}, { sealed: true })

/**
 * A finished factor set for a model of the same layers.
 * @throws UserError if it is missing, unfinished, or of layers of other shapes
 */
export interface FactorSet {
  readonly name: string
  readonly manifest: FactorManifest
  readonly hash: string
  readonly layers: readonly LinearLayer[]
  load(layer: LinearLayer): Promise<LayerFactors>
}

export const openFactors = async (folder: string, name: string, layers: readonly LinearLayer[]): Promise<FactorSet> => {
  const found = await readManifest(folder)
  const fit = `tributary fit --factors ${name} --model DIR --documents N`
  if (found === undefined) throw new UserError(`there is no factor set "${name}" in this home`, { fix: fit })
  const manifest: FactorManifest = found
  if (manifest.hash === null) throw new UserError(`factor set "${name}" is unfinished (stage ${manifest.stage})`, { fix: `run the same "${fit}" again: it goes on where it stopped` })
  const byName = new Map(layers.map((layer) => [layer.name, layer]))
  const own = manifest.layers.map(({ name: layerName, outputs, inputs, bias }) => {
    const layer = byName.get(layerName)
    const has = layer === undefined ? 'has no such layer' : `has ${layer.outputs}×${layer.inputs}${layer.bias ? ' with bias' : ''}`
    if (layer === undefined || layer.outputs !== outputs || layer.inputs !== inputs || layer.bias !== bias) {
      throw new UserError(`factor set "${name}" was fitted on ${layerName} of ${outputs}×${inputs}${bias ? ' with bias' : ''}, but the model ${has}`, {
        fix: `use the model that it was fitted on (${manifest.model}), or fit another set for this one`,
      })
    }
    return layer
  })
  const { settings, hash } = manifest
  const mend = `put "${folder}" back as it was, or delete it and fit again: tributary fit --factors ${name} --model ${manifest.model} --documents ${settings.documents}`
  await assertAsFinished(folder, manifest, mend)
  const checked = sealChecks()
  /** A file's path, once its content is known to be what was written. */
  const whole = async (path: string): Promise<string> => {
    if (manifest.seals !== null) await mended(checked(path, manifest.seals[sealKey(folder, path)]), mend)
    return path
  }
  return {
    name,
    manifest,
    hash,
    layers: own,
    load: async (layer) => {
      const shape = [layer.outputs, inputWidth(layer)] as const
      const parts = strategyParts[settings.strategy]
      const inputs = parts.bases ? await readBasis(await whole(inputFile(folder, manifest, inputName(layer))), { width: shape[1], blocks: settings.blocks }) : null
      const outputs = parts.bases ? await readBasis(await whole(layerFile(folder, manifest, layer.name, 'basis')), { width: shape[0], blocks: settings.blocks }) : null
      return { layer, inputs, outputs, eigenvalues: await eigenvaluesOf(layer, inputs, outputs) }
    },
  }

  async function eigenvaluesOf(layer: LinearLayer, inputs: Basis | null, outputs: Basis | null): Promise<Float32Array> {
    const columns = inputWidth(layer)
    if (settings.strategy === 'identity') return new Float32Array(layer.outputs * columns)
    if (settings.strategy === 'kfac' && inputs !== null && outputs !== null) {
      return Float32Array.from({ length: layer.outputs * columns }, (_, n) => outputs.values[Math.floor(n / columns)] * inputs.values[n % columns])
    }
    const path = await whole(layerFile(folder, manifest, layer.name, 'eigenvalues'))
    const info = (await readSafetensors(path)).get('eigenvalues')
    if (info === undefined || info.shape.join() !== [layer.outputs, columns].join()) throw new UserError(`"${path}" does not hold the eigenvalues of ${layer.name}`, { fix: 'fit again' })
    return readTensor(info)
  }
}

/**
 * λ of docs/method.md §3.4: a factor on the mean of each layer's eigenvalues, or one value for all layers. `segment`: no λ; the
 * inverse is that of a segment of training over which the learning rates sum to `time` (segments.ts).
 */
export type Damping =
  | { readonly kind: 'relative'; readonly factor: number }
  | { readonly kind: 'absolute'; readonly value: number }
  | { readonly kind: 'segment'; readonly time: number }

/** λ of one layer; 0 under the damping of a segment. `identity` has Λ + λ = 1; so has a layer in which no document had any gradient. */
export const dampingOf = (strategy: Strategy, eigenvalues: Float32Array, damping: Damping): number => {
  if (damping.kind === 'segment') return 0
  if (strategy === 'identity') return 1
  if (damping.kind === 'absolute') return damping.value
  let sum = 0
  for (let at = 0; at < eigenvalues.length; at++) sum += eigenvalues[at]
  return sum === 0 ? 1 : (damping.factor * sum) / eigenvalues.length
}

/** The manifest of a set whose files are all written: with their seals, and the hash of it all. */
export const completed = async (folder: string, manifest: FactorManifest): Promise<FactorManifest & { readonly hash: string }> => {
  const seals: Record<string, string> = {}
  for (const file of filesOf(manifest)) {
    const seal = await readSeal(join(folder, file))
    if (seal !== undefined) seals[file] = seal
  }
  // Begun by an older version, whose files have none.
  const whole: FactorManifest = { ...manifest, stage: 'complete', seals: Object.keys(seals).length === filesOf(manifest).length ? seals : null }
  return { ...whole, hash: await hashFactors(folder, whole) }
}

/** sha256 over what the set computes with: its settings, its layers, and the seals of its files (of older sets: their contents). */
const hashFactors = async (folder: string, manifest: FactorManifest): Promise<string> => {
  const { settings: { engine: _engine, ...settings }, layers, seals } = manifestSchema.parse(manifest)
  const hash = createHash('sha256').update(JSON.stringify(settings)).update(JSON.stringify(layers))
  for (const file of filesOf(manifest)) {
    if (seals !== null) hash.update(`${file} ${seals[file] ?? ''}\n`)
    else {
      const path = join(folder, file)
      await readSafetensors(path) // is there, and whole
      for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
    }
  }
  return hash.digest('hex')
}

/** @throws UserError if the manifest, or one of the files, is another than when the set was finished */
const assertAsFinished = async (folder: string, manifest: FactorManifest, fix: string): Promise<void> => {
  const found = await mended(hashFactors(folder, manifest), fix)
  if (found !== manifest.hash) {
    const what = manifest.seals === null ? `the manifest or a file of "${folder}"` : `"${manifestPath(folder)}"`
    throw new UserError(`${what} was changed after the factors were finished: it comes to the hash ${found}, ${manifest.hash ?? ''} was recorded`, { fix })
  }
  for (const [file, expected] of Object.entries(manifest.seals ?? {})) {
    const path = join(folder, file)
    const seal = await mended(readSeal(path), fix)
    if (seal !== expected) throw new UserError(`"${path}" is another file than when the factors were finished: it is sealed with the sha256 ${seal ?? '(none)'}, not ${expected}`, { fix })
  }
}

const sealKey = (folder: string, path: string): string => relative(folder, path).replaceAll('\\', '/')

/** An error in a file of the set with what to do about it. */
const mended = <V>(work: Promise<V>, fix: string): Promise<V> =>
  work.catch((error: unknown) => {
    if (error instanceof UserError) throw new UserError(error.message, { fix, cause: error })
    throw error
  })
