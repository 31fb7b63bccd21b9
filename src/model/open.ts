/**
 * @file Opens a Hugging Face checkpoint: config.json and the headers of its weights are read and held against each
 * other, so that an unsupported or broken one is refused before any work starts. No weights are read but, where the
 * head's tie is in doubt, the head's.
 */
import { join } from 'node:path'
import { access, realpath, stat } from 'node:fs/promises'
import { UserError } from '../base/index.js'
import { HEAD, type Architecture, type Blueprint } from './architectures/architecture.js'
import { architectureOf } from './architectures/index.js'
import { readConfig, type RawConfig } from './config.js'
import type { JsonObject } from './json.js'
import type { Model } from './model.js'
import { FLOAT_DTYPES, listed, readCheckpointTensors, readTensor, readTensorBytes, type TensorInfo } from './safetensors.js'

export interface Checkpoint {
  /** The folder, symbolic links resolved. */
  readonly folder: string
  readonly model: Model
  /** config.json as it stands. */
  readonly config: JsonObject
  /** Every weight of `model.weightShapes` and where it lies, by its name in the model (`TensorInfo.name`: in the file). */
  readonly tensors: ReadonlyMap<string, TensorInfo>
}

/** Weights that Hugging Face's classes store beside a causal model and that take no part in it. */
const STRANGERS = /^(multiple_choice_head|score|v_head|classifier)\./

/**
 * @param positionsMax longest sequence that will be asked for; the model's own limit if that is less
 * @throws UserError that says which setting is unsupported or which weights are missing or misshapen
 */
export const openModel = async (
  folder: string, { positionsMax = Infinity }: { readonly positionsMax?: number } = {},
): Promise<Checkpoint> => {
  const real = await realFolder(folder)
  await refuseAdapter(real)
  const config = await readConfig(real)
  const architecture = architectureOf(config)
  const blueprint = architecture.read(config, { positionsMax })
  const stored = byModelName(architecture, blueprint, await readCheckpointTensors(real), folder)
  const { head, tensors } = await headOf(blueprint, stored)
  const model = blueprint.build(head)
  return { folder: real, model, config: config.values, tensors: placed(model, tensors, { folder, config }) }
}

const realFolder = async (folder: string): Promise<string> => {
  try {
    const real = await realpath(folder)
    if ((await stat(real)).isDirectory()) return real
  } catch (cause) {
    throw new UserError(`model folder "${folder}" cannot be opened`, { fix: 'give the folder that holds config.json', cause })
  }
  throw new UserError(`model "${folder}" is a file`, { fix: 'give the folder that holds config.json' })
}

const refuseAdapter = async (folder: string): Promise<void> => {
  const isAdapter = await access(join(folder, 'adapter_config.json')).then(() => true, () => false)
  if (isAdapter)
    throw new UserError(`"${folder}" holds a PEFT adapter (adapter_config.json)`, { fix: 'merge it into its base model and save that' })
}

/** Stored tensors by their name in the model, buffers and strangers left out: with the prefix, whether stored so or not. */
const byModelName = (
  { prefix, buffers, head }: Architecture, { embedding }: Blueprint, stored: ReadonlyMap<string, TensorInfo>, folder: string,
): ReadonlyMap<string, TensorInfo> => {
  const isPrefixed = [...stored.keys()].some((name) => name.startsWith(prefix))
  const named = new Map<string, TensorInfo>()
  for (const [name, info] of stored) {
    const bare = isPrefixed && name.startsWith(prefix) ? name.slice(prefix.length) : name
    if (buffers.test(bare) || STRANGERS.test(bare)) continue
    named.set(name === HEAD || name === head ? HEAD : isPrefixed ? name : prefix + name, info)
  }
  if (named.size === 0) throw new UserError(`"${folder}" holds no weights (looked for "${embedding}" and others)`)
  return named
}

/**
 * Which weight is the head, as `transformers` decides: config.json's tie holds, unless both head and embedding are
 * stored and differ. Of a tied pair one is enough, whichever it is.
 */
const headOf = async (
  { embedding, tied }: Blueprint, stored: ReadonlyMap<string, TensorInfo>,
): Promise<{ head: string; tensors: ReadonlyMap<string, TensorInfo> }> => {
  if (!tied) return { head: HEAD, tensors: stored }
  const [embeddingInfo, headInfo] = [stored.get(embedding), stored.get(HEAD)]
  if (headInfo === undefined) return { head: embedding, tensors: stored }
  if (embeddingInfo !== undefined && !(await areEqual(embeddingInfo, headInfo))) return { head: HEAD, tensors: stored }
  const tensors = new Map(stored)
  tensors.delete(HEAD)
  return { head: embedding, tensors: tensors.set(embedding, embeddingInfo ?? headInfo) }
}

const areEqual = async (a: TensorInfo, b: TensorInfo): Promise<boolean> => {
  if (a.shape.length !== b.shape.length || a.shape.some((n, axis) => n !== b.shape[axis])) return false
  if (a.dtype === b.dtype) return Buffer.compare(await readTensorBytes(a), await readTensorBytes(b)) === 0
  if (![a, b].every(({ dtype }) => FLOAT_DTYPES.includes(dtype))) return false
  const [left, right] = [await readTensor(a), await readTensor(b)]
  return left.every((value, i) => value === right[i])
}

/** The weights of the model, each there and of its shape; and none left over that the model has no place for. */
const placed = (
  model: Model, stored: ReadonlyMap<string, TensorInfo>, { folder, config }: { folder: string; config: RawConfig },
): ReadonlyMap<string, TensorInfo> => {
  const fix = `check that ${config.path} belongs to these weights`
  const missing = [...model.weightShapes.keys()].filter((name) => !stored.has(name))
  if (missing.length > 0)
    throw new UserError(`checkpoint "${folder}" lacks ${missing.length} of ${model.weightShapes.size} weights: ${listed(missing)}`, { fix })
  const tensors = new Map<string, TensorInfo>()
  const misshapen: string[] = []
  for (const [name, shape] of model.weightShapes) {
    const info = stored.get(name)
    if (info === undefined) continue
    tensors.set(name, info)
    const isFloat = FLOAT_DTYPES.includes(info.dtype)
    if (!isFloat) misshapen.push(`"${info.name}" is ${info.dtype} (read: ${FLOAT_DTYPES.join(', ')})`)
    else if (info.shape.join() !== shape.join())
      misshapen.push(`"${info.name}" is [${info.shape.join(', ')}], config.json makes it [${shape.join(', ')}]`)
  }
  if (misshapen.length > 0) {
    const more = misshapen.length > 3 ? `; and ${misshapen.length - 3} more` : ''
    throw new UserError(`checkpoint "${folder}" does not fit its config.json: ${misshapen.slice(0, 3).join('; ')}${more}`, { fix })
  }
  const strangers = [...stored].filter(([name]) => !model.weightShapes.has(name)).map(([, info]) => info.name)
  if (strangers.length > 0)
    throw new UserError(
      `checkpoint "${folder}" has ${strangers.length} weights that a ${model.architecture} of its config.json has no place for: ${listed(strangers)}`,
      { fix },
    )
  return tensors
}
