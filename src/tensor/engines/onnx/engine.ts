/**
 * @file The default engine: programs are traced to ONNX and run by onnxruntime-node in a worker thread, so that the
 * main thread keeps reading, tokenizing and answering meanwhile. Weights stay in their files: the graph points into
 * the safetensors file itself. On a GPU, weights and fixed inputs become initializers, which are uploaded once.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { basename, dirname } from 'node:path'
import { UserError } from '../../../base/index.js'
import { attentionBlocksFor } from '../../attention.js'
import type { Engine, ProgramSpec, StoredTensor } from '../../engine.js'
import { narrowTypes, type NarrowType } from '../narrow.js'
import { missing, threadedEngine } from '../threaded.js'
import { GraphBuilder, type ElementType, type Value } from './graph.js'
import { onnxOps, type OnnxOptions } from './ops.js'
import { productsOf, type Products, type Width } from './products.js'
import type { OnnxProgram } from './worker.js'

/** Where the products are computed. Operators that a provider lacks are ONNX Runtime's own to place on the CPU. */
export type Device = 'cpu' | 'cuda' | 'webgpu'

export interface OnnxEngineOptions extends Omit<OnnxOptions, 'products' | 'device'> {
  /** Default: `cpu`. That it is usable is what `probeDevice` finds out; here it is taken as asked. */
  readonly device?: Device
  /** The device whose graphs are traced, default: `device`. A GPU's on the CPU are slow, and show that they are right. */
  readonly tracedFor?: Device
  /** Threads of the matrix products; default: the machine's. */
  readonly threads?: number
}

export const onnxEngine = ({ threads = availableParallelism(), device = 'cpu', tracedFor = device, ...options }: OnnxEngineOptions = {}): Engine => {
  // Else cuBLAS keeps 10 bits of a float32's fraction. It reads the process's environment when it is first used.
  if (device === 'cuda') process.env.NVIDIA_TF32_OVERRIDE ??= '0'
  return threadedEngine<OnnxProgram>({
    name: device === 'cpu' ? 'onnx' : `onnx/${device}`,
    threads,
    versions: { 'onnxruntime-node': device === 'cpu' ? runtimeVersion() : `${runtimeVersion()} on ${device}` },
    worker: new URL('./worker.js', import.meta.url),
    trace: (spec) => {
      const { nodes, ...traced } = trace(spec, { device: tracedFor, ...options }, tracedFor)
      return { compiled: { ...traced, threads, device, weightsInPlace: spec.weightsInPlace ?? false }, nodes }
    },
  })
}

const runtimeVersion = (): string => (createRequire(import.meta.url)('onnxruntime-node/package.json') as { readonly version: string }).version

interface Traced extends Pick<OnnxProgram, 'model' | 'folder' | 'kept' | 'rounded'> {
  readonly nodes: number
}

/** The program as an ONNX model, the folder its weights lie in, and what becomes of the inputs that are fixed. */
const trace = (spec: ProgramSpec, options: Omit<OnnxOptions, 'products'>, device: Device): Traced => {
  const type = narrowTypes[spec.precision ?? 'f32']
  const width: Width | undefined = type === undefined ? undefined : { type, native: device !== 'cpu' }
  const graph = new GraphBuilder()
  const products = productsOf(graph, width)
  const ops = onnxOps(graph, { attentionBlocks: attentionBlocksFor(spec.tokensMax), ...options, products })
  const values = new Map<string, Value>()
  const kept: Record<string, Exclude<ElementType, 'bool'>> = {}
  const rounded: Record<string, NarrowType> = {}
  for (const [name, { type: wide, shape, fixed = false, operand = false }] of Object.entries(spec.inputs)) {
    const narrow = width !== undefined && operand && fixed
    if (device === 'cpu' || !fixed) {
      values.set(name, graph.input(name, wide, shape))
      if (!narrow) continue
      rounded[name] = width.type
      products.isRounded(name)
    } else {
      kept[name] = narrow ? width.type : wide
      values.set(name, narrow ? products.widen(name) : name)
    }
  }
  const folders = new Set<string>()
  const outputs = spec.build<Value>(
    ops,
    (name) => values.get(name) ?? missing(`${spec.name} has no input "${name}"`),
    (name) => {
      const weight = spec.weights.get(name) ?? missing(`${spec.name} has no weight "${name}"`)
      folders.add(dirname(weight.path))
      return weightValue(graph, weight, products, width)
    },
  )
  if (folders.size > 1) {
    throw new UserError(`the checkpoint's files lie in ${folders.size} folders: ${[...folders].join(', ')}`, {
      fix: 'put all shards of the checkpoint in one folder',
    })
  }
  return { model: graph.build(outputs), folder: [...folders][0], kept, rounded, nodes: graph.nodeCount }
}

const storedTypes: Readonly<Record<string, ElementType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64' }
// onnx.proto, TensorProto.DataType
const castTo: Readonly<Record<NarrowType | 'float32', number>> = { float32: 1, float16: 10, bfloat16: 16 }

/**
 * Weights of other widths are cast once, when the session is made: ONNX Runtime folds the cast of a constant. Matrices have
 * the width of the program's products, norms and biases are float32.
 */
const weightValue = (graph: GraphBuilder, { name, dtype, shape, path, offset, length }: StoredTensor, products: Products, width: Width | undefined): Value => {
  const data = { file: basename(path), offset, length }
  const type = storedTypes[dtype]
  if (type === undefined) throw new UserError(`weight "${name}" is stored as ${dtype}`, { fix: `save the checkpoint as one of ${Object.keys(storedTypes).join(', ')}` })
  const stored = graph.external(name, type, shape, data)
  const cast = (to: NarrowType | 'float32'): Value => (type === to ? stored : graph.node('Cast', [stored], { to: castTo[to] })[0])
  return width === undefined || shape.length < 2 ? cast('float32') : products.widen(cast(width.type))
}
