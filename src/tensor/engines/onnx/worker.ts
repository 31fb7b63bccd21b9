/** @file The thread of the ONNX engine: sessions of ONNX Runtime, run one at a time, and the tensors bound to them. */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { TensorData } from '../../engine.js'
import type { Device } from './engine.js'
import { FixableError, serve, type Session } from '../thread.js'

/** A program, traced. */
export interface OnnxProgram {
  readonly model: Uint8Array
  /** Where its weights lie. */
  readonly folder: string | undefined
  readonly threads: number
  readonly device: Device
}

serve(async ({ model, folder, threads, device }: OnnxProgram): Promise<Session> => {
  const session = await InferenceSession.create(model, {
    executionProviders: [device],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    // Attention's tiny probabilities must not fall to the processor's slow path for denormal numbers.
    extra: { session: { set_denormal_as_zero: '1', ...(folder === undefined ? {} : { model_external_initializers_file_folder_path: folder }) } },
  }).catch((error: unknown) => {
    if (device === 'cpu') throw error
    const said = error instanceof Error ? error.message : String(error)
    throw new FixableError(`device ${device} refuses the work: ${said}`, 'open the engine on another device; cpu works everywhere')
  })
  const bound: Record<string, Tensor> = {}
  const feeds = (inputs: Readonly<Record<string, TensorData>>): Record<string, Tensor> =>
    Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, tensorOf(tensor)]))
  return {
    bind: (inputs) => {
      Object.assign(bound, feeds(inputs))
    },
    run: async (inputs, take) => {
      const results = await session.run({ ...bound, ...feeds(inputs) })
      try {
        take(new Map(Object.entries(results).map(([name, tensor]) => [name, dataOf(name, tensor)])))
      } finally {
        for (const tensor of Object.values(results)) tensor.dispose()
      }
    },
    release: () => session.release(),
  }
})

const tensorOf = ({ type, data, shape }: TensorData): Tensor =>
  type === 'float32' ? new Tensor('float32', data, shape) : new Tensor('int64', data, shape)

const dataOf = (name: string, { type, data, dims }: Tensor): TensorData => {
  if (type === 'float32') return { type, shape: dims, data: data as Float32Array }
  if (type === 'int64') return { type, shape: dims, data: data as BigInt64Array }
  throw new TypeError(`output "${name}" is ${type}`)
}
