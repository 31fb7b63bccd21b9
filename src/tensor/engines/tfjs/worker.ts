/**
 * @file The thread of the TensorFlow.js engine: takes the steps of a recorded program one after the other. Its operations
 * block the thread they are called in, so this one does nothing else.
 */
import { createRequire } from 'node:module'
import util from 'node:util'
import { workerData } from 'node:worker_threads'
import type * as TF from '@tensorflow/tfjs-core'
import type { StoredTensor, TensorData } from '../../engine.js'
import { FixableError, serve, type Session } from '../thread.js'
import { tfjsOps } from './ops.js'
import { isHandle, type Recording, type Step } from './recording.js'
import { readWeight } from './weights.js'

export interface TfjsWorkerData {
  readonly package: string
  /** Files to load, in this order; the first one is the library. */
  readonly modules: readonly string[]
  readonly threads: number
}

const { package: name, modules, threads } = workerData as TfjsWorkerData

/** The library, made ready. Node 23 took away a function that tfjs-node calls in every operation. */
const load = (): typeof TF => {
  if (!('isNullOrUndefined' in util)) Object.assign(util, { isNullOrUndefined: (value: unknown) => value === null || value === undefined })
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2'
  process.env.TF_NUM_INTRAOP_THREADS = String(threads)
  process.env.TF_NUM_INTEROP_THREADS ??= '1'
  const load = createRequire(import.meta.url)
  try {
    const [tf] = modules.map((path) => load(path) as typeof TF)
    tf.enableProdMode()
    return tf
  } catch (error) {
    throw new FixableError(`${name} is installed, but does not load: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`, fixOfLoading)
  }
}
const fixOfLoading = `install it anew (npm rebuild ${name}), remove it to use another one, or take --engine onnx`

type Loaded = { readonly tf: typeof TF; readonly ops: ReturnType<typeof tfjsOps>['ops'] }
let loaded: Loaded | undefined
const library = async (): Promise<Loaded> => {
  if (loaded !== undefined) return loaded
  const tf = load()
  await tf.ready()
  return (loaded = { tf, ops: tfjsOps(tf).ops })
}

serve(async (program: Recording): Promise<Session> => {
  const { tf, ops } = await library()
  const held = new Map<number, TF.Tensor>()
  const shared: string[] = []
  for (const [tensor, weight] of program.weights) {
    held.set(tensor, takeWeight(tf, weight))
    shared.push(keyOf(weight))
  }
  for (const { tensor, kind, values, shape } of program.constants) {
    held.set(tensor, kind === 'int' ? tf.tensor(Int32Array.from(values), [...shape], 'int32') : tf.tensor(Float32Array.from(values), [...shape], 'float32'))
  }
  const fixed = new Set(program.weights.map(([tensor]) => tensor))
  return {
    bind: (inputs) => {
      for (const [input, data] of Object.entries(inputs)) {
        const tensor = program.inputs[input]
        held.get(tensor)?.dispose()
        held.set(tensor, tensorOf(tf, input, data))
      }
      return Promise.resolve()
    },
    run: (inputs, take) => {
      const values = new Map<number, TF.Tensor>()
      const own = (tensor: number, value: TF.Tensor): void => void values.set(tensor, value)
      try {
        for (const [input, data] of Object.entries(inputs)) own(program.inputs[input], tensorOf(tf, input, data))
        const valueOf = (tensor: number): TF.Tensor => values.get(tensor) ?? held.get(tensor) ?? gone(tensor)
        for (const step of program.steps) {
          own(step.out, taken(tf, ops, step, valueOf))
          for (const tensor of step.last) {
            values.get(tensor)?.dispose()
            values.delete(tensor)
          }
        }
        take(new Map(Object.entries(program.outputs).map(([output, tensor]) => [output, dataOf(output, valueOf(tensor))])))
      } finally {
        for (const value of values.values()) value.dispose()
      }
      return Promise.resolve()
    },
    release: () => {
      for (const [tensor, value] of held) if (!fixed.has(tensor)) value.dispose()
      for (const key of shared) giveBack(key)
      return Promise.resolve()
    },
  }
})

/** One step; what it makes on the way is let go of. */
const taken = (tf: typeof TF, ops: Loaded['ops'], { op, args }: Step, valueOf: (tensor: number) => TF.Tensor): TF.Tensor =>
  tf.tidy(() => {
    const resolved = args.map((arg) => (isHandle(arg) ? valueOf(arg.tensor) : Array.isArray(arg) ? arg.map((a: unknown) => (isHandle(a) ? valueOf(a.tensor) : a)) : arg))
    const result = (ops[op] as (...args: readonly unknown[]) => TF.Tensor)(...resolved)
    // A tensor has one owner: what is handed on is another tensor over the same numbers.
    return resolved.flat().includes(result) ? result.clone() : result
  })

const gone = (tensor: number): never => {
  throw new RangeError(`tensor ${tensor} was let go of, but is needed`)
}

/** Weights are read once for all programs of the engine. */
const weights = new Map<string, { readonly tensor: TF.Tensor; users: number }>()
const keyOf = ({ path, offset, length }: StoredTensor): string => `${path}:${offset}:${length}`
const takeWeight = (tf: typeof TF, weight: StoredTensor): TF.Tensor => {
  const known = weights.get(keyOf(weight)) ?? { tensor: tf.tensor(readWeight(weight), [...weight.shape], 'float32'), users: 0 }
  known.users++
  weights.set(keyOf(weight), known)
  return known.tensor
}
const giveBack = (key: string): void => {
  const known = weights.get(key)
  if (known === undefined || --known.users > 0) return
  known.tensor.dispose()
  weights.delete(key)
}

const int32Max = 2 ** 31 - 1

const tensorOf = (tf: typeof TF, name: string, { type, data, shape }: TensorData): TF.Tensor => {
  // The buffer is this thread's: it was moved here, so that sharing it is safe.
  if (type === 'float32') return tf.tensor(data, [...shape], 'float32')
  const ids = Int32Array.from(data, (id) => {
    if (id > int32Max || id < -int32Max) throw new RangeError(`input "${name}" holds ${id}, which is beyond 32 bits`)
    return Number(id)
  })
  return tf.tensor(ids, [...shape], 'int32')
}

const dataOf = (name: string, tensor: TF.Tensor): TensorData => {
  const { dtype, shape } = tensor
  if (dtype === 'float32') return { type: 'float32', shape, data: tensor.dataSync<'float32'>() }
  if (dtype === 'int32') return { type: 'int64', shape, data: BigInt64Array.from(tensor.dataSync<'int32'>(), BigInt) }
  throw new TypeError(`output "${name}" is ${dtype}`)
}
