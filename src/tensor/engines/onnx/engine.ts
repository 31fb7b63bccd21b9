/**
 * @file The default engine: programs are traced to ONNX and run by onnxruntime-node in a worker thread, so that the
 * main thread keeps reading, tokenizing and answering meanwhile. Weights stay in their files: the graph points into
 * the safetensors file itself.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { basename, dirname } from 'node:path'
import { UserError } from '../../../base/index.js'
import { attentionBlocksFor } from '../../attention.js'
import type { Engine, ProgramSpec, StoredTensor } from '../../engine.js'
import { missing, threadedEngine } from '../threaded.js'
import { GraphBuilder, type ElementType, type Value } from './graph.js'
import { onnxOps, type OnnxOptions } from './ops.js'
import type { OnnxProgram } from './worker.js'

/** Where the products are computed. Operators that a provider lacks are ONNX Runtime's own to place on the CPU. */
export type Device = 'cpu' | 'cuda' | 'webgpu'

export interface OnnxEngineOptions extends OnnxOptions {
  /** Default: `cpu`. That it is usable is what `probeDevice` finds out; here it is taken as asked. */
  readonly device?: Device
  /** Threads of the matrix products; default: the machine's. */
  readonly threads?: number
}

export const onnxEngine = ({ threads = availableParallelism(), device = 'cpu', ...options }: OnnxEngineOptions = {}): Engine =>
  threadedEngine<OnnxProgram>({
    name: device === 'cpu' ? 'onnx' : `onnx/${device}`,
    threads,
    versions: { 'onnxruntime-node': device === 'cpu' ? runtimeVersion() : `${runtimeVersion()} on ${device}` },
    worker: new URL('./worker.js', import.meta.url),
    trace: (spec) => {
      const { nodes, ...traced } = trace(spec, { neverEmpty: device === 'webgpu', ...options })
      return { compiled: { ...traced, threads, device }, nodes }
    },
  })

const runtimeVersion = (): string => (createRequire(import.meta.url)('onnxruntime-node/package.json') as { readonly version: string }).version

/** The program as an ONNX model, and the folder its weights lie in. */
const trace = (spec: ProgramSpec, options: OnnxOptions): { readonly model: Uint8Array; readonly folder: string | undefined; readonly nodes: number } => {
  const graph = new GraphBuilder()
  const ops = onnxOps(graph, { attentionBlocks: attentionBlocksFor(spec.tokensMax), ...options })
  const values = new Map<string, Value>()
  for (const [name, { type, shape }] of Object.entries(spec.inputs)) values.set(name, graph.input(name, type, shape))
  const folders = new Set<string>()
  const outputs = spec.build<Value>(
    ops,
    (name) => values.get(name) ?? missing(`${spec.name} has no input "${name}"`),
    (name) => {
      const weight = spec.weights.get(name) ?? missing(`${spec.name} has no weight "${name}"`)
      folders.add(dirname(weight.path))
      return weightValue(graph, weight)
    },
  )
  if (folders.size > 1) {
    throw new UserError(`the checkpoint's files lie in ${folders.size} folders: ${[...folders].join(', ')}`, {
      fix: 'put all shards of the checkpoint in one folder',
    })
  }
  return { model: graph.build(outputs), folder: [...folders][0], nodes: graph.nodeCount }
}

const storedTypes: Readonly<Record<string, ElementType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64' }

/** Weights of other widths are cast once, when the session is made: ONNX Runtime folds the cast of a constant. */
const weightValue = (graph: GraphBuilder, { name, dtype, shape, path, offset, length }: StoredTensor): Value => {
  const data = { file: basename(path), offset, length }
  const type = storedTypes[dtype]
  if (type === undefined) throw new UserError(`weight "${name}" is stored as ${dtype}`, { fix: `save the checkpoint as one of ${Object.keys(storedTypes).join(', ')}` })
  const stored = graph.external(name, type, shape, data)
  return type === 'float32' ? stored : graph.node('Cast', [stored], { to: 1 })[0]
}
