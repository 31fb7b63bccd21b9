/** @file The thread of the ONNX engine: sessions of ONNX Runtime, run one at a time, and the tensors bound to them. */
import { InferenceSession, Tensor } from 'onnxruntime-node'
import type { TensorData } from '../../engine.js'
import { narrowed, rounded, type NarrowType } from '../narrow.js'
import { FixableError, serve, type Session } from '../thread.js'
import type { Device } from './engine.js'
import { GraphBuilder, withAdditions, type ElementType, type Initializer } from './graph.js'

/** A program, traced. */
export interface OnnxProgram {
  readonly model: Uint8Array
  /** Where its weights lie. */
  readonly folder: string | undefined
  readonly threads: number
  readonly device: Device
  readonly weightsInPlace: boolean
  /** Fixed inputs that the device keeps, with the type they have there: the model refers to them and does not hold them yet. */
  readonly kept: Readonly<Record<string, Exclude<ElementType, 'bool'>>>
  /** Bound inputs that are rounded to this width once. */
  readonly rounded: Readonly<Record<string, NarrowType>>
}

/** Of what a model holds itself: a protocol buffer ends at 2 GiB. */
const keptBytesMax = 1.9 * 2 ** 30

/**
 * ONNX Runtime lets go of a WebGPU device, and of every shader compiled for it, with the last session on it. One that does
 * nothing stays as long as this thread, so that a program finds what those before it had compiled.
 */
let keeper: InferenceSession | undefined
const idleSession = (device: Device): Promise<InferenceSession> => {
  const graph = new GraphBuilder()
  return InferenceSession.create(graph.build({ y: graph.input('x', 'float32', [1]) }), { executionProviders: [device], logSeverityLevel: 3 })
}

serve(async ({ model, folder, threads, device, weightsInPlace, kept, rounded: toRound }: OnnxProgram): Promise<Session> => {
  const open = async (whole: Uint8Array): Promise<InferenceSession> => {
    try {
      if (device === 'webgpu') keeper ??= await idleSession(device)
      return await InferenceSession.create(whole, {
        executionProviders: [device],
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        // A pattern is one more buffer for all of a run, beside those that the first run took: a gigabyte more for a 135M model, no time less.
        enableMemPattern: false,
        logSeverityLevel: 3,
        // Attention's tiny probabilities must not fall to the processor's slow path for denormal numbers.
        extra: {
          session: {
            set_denormal_as_zero: '1', disable_prepacking: weightsInPlace ? '1' : '0',
            ...(folder === undefined ? {} : { model_external_initializers_file_folder_path: folder }),
          },
        },
      })
    } catch (error) {
      if (device === 'cpu') throw error
      const said = error instanceof Error ? error.message : String(error)
      throw new FixableError(`device ${device} refuses the work: ${said}`, '--device cpu works everywhere; for want of memory there, a smaller --batch-tokens, --rank or --shared-rank')
    }
  }
  const bound: Record<string, Tensor> = {}
  const feeds = (inputs: Readonly<Record<string, TensorData>>): Record<string, Tensor> =>
    Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, tensorOf(tensor)]))

  const fixed = new Map<string, Initializer>()
  let session = Object.keys(kept).length === 0 ? await open(model) : undefined
  return {
    bind: async (inputs) => {
      for (const [name, tensor] of Object.entries(inputs)) {
        const type = kept[name]
        if (type === undefined) bound[name] = tensorOf(toRound[name] === undefined ? tensor : roundedTo(tensor, toRound[name]))
        else if (session !== undefined) throw new Error(`input "${name}" is fixed, and bound already`)
        else fixed.set(name, initializerOf(name, tensor, type))
      }
      if (session !== undefined || !Object.keys(kept).every((name) => fixed.has(name))) return
      const [inside, outside] = split([...fixed.values()], keptBytesMax - model.byteLength)
      session = await open(withAdditions(model, inside, outside))
      for (const initializer of outside) bound[initializer.name] = fedOf(initializer)
      fixed.clear() // the session has its own
    },
    run: async (inputs, take) => {
      if (session === undefined) throw new Error(`fixed inputs are not bound: ${Object.keys(kept).filter((name) => !fixed.has(name)).join(', ')}`)
      const results = await session.run({ ...bound, ...feeds(inputs) })
      try {
        take(new Map(Object.entries(results).map(([name, tensor]) => [name, dataOf(name, tensor)])))
      } finally {
        for (const tensor of Object.values(results)) tensor.dispose()
      }
    },
    release: async () => session?.release(),
  }
}, { end: async () => keeper?.release() })

const tensorOf = ({ type, data, shape }: TensorData): Tensor =>
  type === 'float32' ? new Tensor('float32', data, shape) : new Tensor('int64', data, shape)

const roundedTo = (tensor: TensorData, type: NarrowType): TensorData => (tensor.type === 'float32' ? { ...tensor, data: rounded(tensor.data, type) } : tensor)

const initializerOf = (name: string, tensor: TensorData, type: Exclude<ElementType, 'bool'>): Initializer => {
  const numbers = tensor.type === 'float32' && (type === 'float16' || type === 'bfloat16') ? narrowed(tensor.data, type) : tensor.data
  return { name, type, dimensions: tensor.shape, data: new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength) }
}

const dataOf = (name: string, { type, data, dims }: Tensor): TensorData => {
  if (type === 'float32') return { type, shape: dims, data: data as Float32Array }
  if (type === 'int64') return { type, shape: dims, data: data as BigInt64Array }
  throw new TypeError(`output "${name}" is ${type}`)
}

/** Those that a model may hold, and the others, which go to the device with every batch. */
const split = (all: readonly Initializer[], bytesMax: number): readonly [inside: readonly Initializer[], outside: readonly Initializer[]] => {
  let bytes = 0
  const inside = all.filter(({ data }) => (bytes + data.byteLength <= bytesMax ? ((bytes += data.byteLength), true) : false))
  return [inside, all.filter((one) => !inside.includes(one))]
}

const fedOf = ({ name, type, dimensions, data }: Initializer): Tensor => {
  if (type === 'float32') return new Tensor('float32', new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4), dimensions)
  if (type === 'float16') return new Tensor('float16', new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2), dimensions)
  throw new FixableError(`the queries take more than 1.9 GiB on the device, where "${name}" of type ${type} can only be kept`, '--precision f16, a smaller --rank, --join shared, or fewer --queries')
}
