/**
 * @file Reads the references that `make.py` made from other programs; README.md says what each tensor is.
 *
 * It parses safetensors by itself, so that a mistake in src/model's reader cannot hide in the tests of it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The tiny random checkpoints: one of each architecture, and `micro` (GPT-2) for the exact Gauss-Newton inverse. */
export const referenceNames = ['gpt2', 'llama', 'mistral', 'qwen2', 'micro'] as const
export type ReferenceName = (typeof referenceNames)[number]

export type ReferenceStrategy = 'ekfac' | 'kfac' | 'diagonal' | 'identity'

/** Who computed a set of scores with empirical factors; `dense` also has `ekfac-blocks2`. */
export type ReferenceScores =
  | `${'dense' | 'kronfluence' | 'kronfluence-f32'}.${ReferenceStrategy}`
  | 'dense.ekfac-blocks2'

export interface ReferenceTensor {
  readonly shape: readonly number[]
  /** Row-major; float32 tensors are widened. */
  readonly data: Float64Array
}

export interface ReferenceLayer {
  /** As Hugging Face spells the module. */
  readonly name: string
  readonly part: 'attention' | 'mlp'
  /** O */
  readonly outputs: number
  /** I, without the bias column; tensors of the layer have Ī = I + 1 columns if `bias`. */
  readonly inputs: number
  readonly bias: boolean
  /** λ of the dense scores with empirical factors, 0.1 · mean(Λ); 0 for identity. */
  readonly damping: Readonly<Record<ReferenceStrategy | 'ekfac-blocks2', number>>
}

export interface ReferenceQuery {
  readonly id: string
  /** Token ids. */
  readonly prompt: readonly number[]
  /** Token ids. */
  readonly completion: readonly number[]
}

/** Two sets of numbers: 1 − Pearson's r and ‖found − wanted‖ / ‖wanted‖. */
export interface ReferenceAgreement {
  readonly oneMinusPearson: number
  readonly relativeError: number
}

/** What reference.json holds. */
interface ReferenceDescription {
  readonly documents: readonly (readonly number[])[]
  readonly queries: readonly ReferenceQuery[]
  /** In the order of the L axis of `scores` and `squaredNorms`. */
  readonly layers: readonly ReferenceLayer[]
  /** The documents n that have `logits.<n>`; the last is the longest document, the one of `rope.<kind>.logits`. */
  readonly logitsOf: readonly number[]
  /** How well the programs agree among themselves, as measured when the references were made. */
  readonly agreement: Readonly<Record<string, ReferenceAgreement>>
  /** `micro` only: dampings of the exact Gauss-Newton matrix, and how far EK-FAC and the others are from it. */
  readonly exact?: {
    readonly dampingOfLayers: Readonly<Record<string, number>>
    readonly dampingOne: Readonly<Record<'mlp' | 'all', number>>
    readonly distanceToFull: Readonly<Record<string, ReferenceAgreement>>
  }
  /** `llama` only: what is changed in config.json for each `rope.<kind>.logits`. */
  readonly ropes?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

export interface Reference extends ReferenceDescription {
  readonly name: ReferenceName
  /** The Hugging Face folder of the checkpoint. */
  readonly modelDir: string
  /** The names of all tensors. */
  readonly tensorNames: readonly string[]
  /** A tensor by name; throws a RangeError that lists the names there are if it is missing. */
  readonly tensor: (name: string) => ReferenceTensor
  /** Influence [Q, N], summed over the tracked layers; positive: the document makes the completion more likely. */
  readonly scores: (of: ReferenceScores, track: 'mlp' | 'attention' | 'all') => ReferenceTensor
}

/** Reads test/references/<name>. */
export const readReference = (name: ReferenceName): Reference => {
  const folder = join(referencesDir(), name)
  const description = JSON.parse(readFileSync(join(folder, 'reference.json'), 'utf8')) as ReferenceDescription
  const tensors = parseSafetensors(readFileSync(join(folder, 'reference.safetensors')))
  const tensor = (key: string): ReferenceTensor => {
    const found = tensors.get(key)
    if (found === undefined) {
      throw new RangeError(`reference "${name}" has no tensor "${key}"; it has ${[...tensors.keys()].join(', ')}`)
    }
    return found
  }
  return {
    ...description,
    name,
    modelDir: join(folder, 'model'),
    tensorNames: [...tensors.keys()],
    tensor,
    scores: (of, track) => {
      const tracked = description.layers.map((layer) => track === 'all' || layer.part === track)
      return sumOverFirst(tensor(`scores.${of}`), tracked)
    },
  }
}

/** [L, ...rest] → [...rest], over the l that are wanted. */
const sumOverFirst = ({ shape: [, ...shape], data }: ReferenceTensor, wanted: readonly boolean[]): ReferenceTensor => {
  const size = shape.reduce((product, length) => product * length, 1)
  const sum = new Float64Array(size)
  wanted.forEach((isWanted, l) => {
    if (isWanted) for (let i = 0; i < size; i++) sum[i] += data[l * size + i]
  })
  return { shape, data: sum }
}

/** u64 length of the header | header: JSON, name → {dtype, shape, data_offsets} | data, little-endian. */
const parseSafetensors = (file: Buffer): ReadonlyMap<string, ReferenceTensor> => {
  const dataStart = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, dataStart)) as Record<
    string,
    { readonly dtype: string; readonly shape: readonly number[]; readonly data_offsets: readonly [number, number] }
  >
  const tensors = new Map<string, ReferenceTensor>()
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const bytes = file.subarray(dataStart + from, dataStart + to)
    tensors.set(name, { shape, data: readFloats(bytes, dtype) })
  }
  return tensors
}

const readFloats = (bytes: Buffer, dtype: string): Float64Array => {
  if (dtype === 'F64') return Float64Array.from({ length: bytes.length / 8 }, (_, i) => bytes.readDoubleLE(8 * i))
  if (dtype === 'F32') return Float64Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i))
  throw new TypeError(`a reference of dtype ${dtype}; make.py writes F32 and F64`)
}

/** test/references of the repository: upwards from this file or its compiled copy, else in the working folder. */
const referencesDir = (): string => {
  const places = []
  for (let at = dirname(fileURLToPath(import.meta.url)); at !== dirname(at); at = dirname(at)) places.push(at)
  places.push(process.cwd())
  for (const place of places) {
    const folder = join(place, 'test', 'references')
    if (existsSync(join(folder, 'make.py'))) return folder
  }
  throw new Error(`no test/references with make.py in ${places.join(', ')}; run the tests in the repository`)
}
