/**
 * @file The engine's thread: holds ONNX Runtime sessions, runs them one at a time, keeps bound tensors and float64
 * sums. Answers each request in order, with its outputs or with what went wrong. It ends when it is told to and has had
 * nothing to do for a while: Node 20 may abort the whole process where a thread is ended while the compiler still works
 * on its code.
 */
import { parentPort } from 'node:worker_threads'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { TensorData } from '../../engine.js'

export type Request =
  | {
      readonly kind: 'compile'
      readonly id: number
      readonly model: Uint8Array
      readonly folder: string | undefined
      readonly threads: number
      readonly sums: Readonly<Record<string, Float64Array>>
    }
  | { readonly kind: 'bind' | 'run'; readonly id: number; readonly inputs: Readonly<Record<string, TensorData>> }
  | { readonly kind: 'dispose'; readonly id: number }
  | { readonly kind: 'end' }

export interface Reply {
  readonly outputs?: Readonly<Record<string, TensorData>>
  readonly problem?: string
  /** The problem is a term of a sum that is no finite number. */
  readonly notFinite?: boolean
}

interface Session {
  readonly session: InferenceSession
  readonly bound: Record<string, Tensor>
  readonly sums: Readonly<Record<string, Float64Array>>
}

/** The compiler has finished with the last work's code by then. */
const quietMs = 100

const sessions = new Map<number, Session>()

const answer = async (request: Exclude<Request, { readonly kind: 'end' }>): Promise<Reply> => {
  if (request.kind === 'compile') {
    const { id, model, folder, threads, sums } = request
    const session = await InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      // Attention's tiny probabilities must not fall to the processor's slow path for denormal numbers.
      extra: { session: { set_denormal_as_zero: '1', ...(folder === undefined ? {} : { model_external_initializers_file_folder_path: folder }) } },
    })
    sessions.set(id, { session, bound: {}, sums })
    return {}
  }
  const held = sessions.get(request.id)
  if (held === undefined) return { problem: `no program ${request.id}` }
  if (request.kind === 'dispose') {
    sessions.delete(request.id)
    await held.session.release()
    return {}
  }
  const feeds = Object.fromEntries(Object.entries(request.inputs).map(([name, tensor]) => [name, tensorOf(tensor)]))
  if (request.kind === 'bind') {
    Object.assign(held.bound, feeds)
    return {}
  }
  const results = await held.session.run({ ...held.bound, ...feeds })
  const outputs: Record<string, TensorData> = {}
  try {
    // All are looked at before any is added: a sum that took a NaN could not be mended.
    const notFinite = Object.entries(results).find(([name, { data }]) => held.sums[name] !== undefined && !isFiniteAll(data as Float32Array))?.[0]
    if (notFinite !== undefined) return { problem: `its term of "${notFinite}" is not finite`, notFinite: true }
    for (const [name, tensor] of Object.entries(results)) {
      const sums = held.sums[name]
      if (sums === undefined) outputs[name] = dataOf(name, tensor)
      else addTo(sums, tensor.data as Float32Array, name)
    }
  } finally {
    for (const tensor of Object.values(results)) tensor.dispose()
  }
  return { outputs }
}

const tensorOf = ({ type, data, shape }: TensorData): Tensor =>
  type === 'float32' ? new Tensor('float32', data, shape) : new Tensor('int64', data, shape)

const dataOf = (name: string, { type, data, dims }: Tensor): TensorData => {
  if (type === 'float32') return { type, shape: dims, data: Float32Array.from(data as Float32Array) }
  if (type === 'int64') return { type, shape: dims, data: BigInt64Array.from(data as BigInt64Array) }
  throw new TypeError(`output "${name}" is ${type}`)
}

/** Zero times a number is zero, times NaN or infinity NaN: a sum of products sees what a branch for each would. */
const isFiniteAll = (values: Float32Array): boolean => {
  let zero = 0
  for (let i = 0; i < values.length; i++) zero += values[i] * 0
  return zero === 0
}

const addTo = (sums: Float64Array, terms: Float32Array, name: string): void => {
  if (sums.length !== terms.length) throw new RangeError(`output "${name}" has ${terms.length} numbers, its sum ${sums.length}`)
  for (let i = 0; i < terms.length; i++) sums[i] += terms[i]
}

// One request at a time, in order of arrival: ONNX Runtime blocks this thread anyway.
let last: Promise<void> = Promise.resolve()
parentPort?.on('message', (request: Request) => {
  last = last.then(async () => {
    if (request.kind === 'end') {
      for (const { session } of sessions.values()) await session.release()
      setTimeout(() => parentPort?.close(), quietMs)
      return
    }
    const reply = await answer(request).catch((error: unknown): Reply => ({ problem: error instanceof Error ? error.message : String(error) }))
    const buffers = Object.values(reply.outputs ?? {}).map(({ data }) => data.buffer as ArrayBuffer)
    parentPort?.postMessage(reply, buffers)
  })
})
