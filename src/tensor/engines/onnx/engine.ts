/**
 * @file The default engine: programs are traced to ONNX and run by onnxruntime-node in a worker thread, so that the
 * main thread keeps reading, tokenizing and answering meanwhile. Weights stay in their files: the graph points into
 * the safetensors file itself.
 */
import { availableParallelism } from 'node:os'
import { basename, dirname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { UserError } from '../../../base/index.js'
import { NotFiniteError, type Engine, type Program, type ProgramSpec, type StoredTensor, type TensorData } from '../../engine.js'
import { GraphBuilder, type ElementType, type Value } from './graph.js'
import { onnxOps, type OnnxOptions } from './ops.js'
import type { Reply, Request } from './worker.js'

export interface OnnxEngineOptions extends OnnxOptions {
  /** Threads of the matrix products; default: the machine's. */
  readonly threads?: number
}

export const onnxEngine = ({ threads = availableParallelism(), ...options }: OnnxEngineOptions = {}): Engine => {
  const worker = connect(new Worker(new URL('./worker.js', import.meta.url)))
  let programs = 0
  return {
    name: 'onnx',
    threads,
    compile: async (spec) => {
      const traced = trace(spec, options)
      const id = programs++
      const sums = Object.fromEntries(
        Object.entries(spec.accumulate ?? {}).map(([name, shape]) => {
          const length = shape.reduce((product, d) => product * d, 1)
          return [name, new Float64Array(new SharedArrayBuffer(length * Float64Array.BYTES_PER_ELEMENT))]
        }),
      )
      await worker.ask({ kind: 'compile', id, model: traced.model, folder: traced.folder, threads, sums }, [], spec.name)
      return program(spec, id, traced.nodes, sums)
    },
    [Symbol.asyncDispose]: () => worker.close(),
  }

  function program(spec: ProgramSpec, id: number, nodes: number, sums: Readonly<Record<string, Float64Array>>): Program {
    const bound = new Set<string>()
    const checked = (name: string, { type, shape, data }: TensorData): void => {
      const { type: wantedType, shape: wanted } = spec.inputs[name] ?? missing(`${spec.name} has no input "${name}"`)
      const fits = type === wantedType && shape.length === wanted.length && shape.every((d, axis) => typeof wanted[axis] === 'string' || wanted[axis] === d)
      if (fits && data.length === shape.reduce((product, d) => product * d, 1)) return
      throw new TypeError(`${spec.name}: input "${name}" must be ${wantedType} [${wanted.join(', ')}], is ${type} [${shape.join(', ')}] of ${data.length} numbers`)
    }
    const ask = (kind: 'bind' | 'run', inputs: Readonly<Record<string, TensorData>>): Promise<Reply> => {
      for (const [name, tensor] of Object.entries(inputs)) checked(name, tensor)
      return worker.ask({ kind, id, inputs }, Object.values(inputs).map(({ data }) => data.buffer as ArrayBuffer), spec.name)
    }
    return {
      nodes,
      sums,
      bind: async (inputs) => {
        await ask('bind', inputs)
        for (const name of Object.keys(inputs)) bound.add(name)
      },
      run: async (inputs) => {
        for (const name of Object.keys(spec.inputs)) {
          if (!bound.has(name) && inputs[name] === undefined) throw new TypeError(`${spec.name}: input "${name}" is missing`)
        }
        return (await ask('run', inputs)).outputs ?? {}
      },
      [Symbol.asyncDispose]: async () => {
        await worker.ask({ kind: 'dispose', id }, [], spec.name)
      },
    }
  }
}

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

/**
 * Every block is a dozen nodes in each layer, and the time to make a session grows with the square of the nodes: of a
 * model of 30 layers it is 4 times as long with 4 blocks as with 1.
 */
const attentionBlocksFor = (tokensMax = Infinity): number => (tokensMax <= 128 ? 1 : tokensMax <= 256 ? 2 : 4)

const missing = (what: string): never => {
  throw new RangeError(what)
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

/** Questions to the worker, answered in order. */
const connect = (worker: Worker) => {
  interface Waiting { readonly resolve: (reply: Reply) => void; readonly reject: (error: Error) => void; readonly what: string }
  const waiting: Waiting[] = []
  let dead: Error | undefined
  const fail = (error: Error): void => {
    dead ??= error
    for (const { reject } of waiting.splice(0)) reject(error)
  }
  worker.on('message', (reply: Reply) => {
    const first = waiting.shift()
    if (first === undefined) return
    if (reply.problem === undefined) first.resolve(reply)
    else if (reply.notFinite === true) first.reject(new NotFiniteError(`${first.what}: ${reply.problem}`))
    else first.reject(new Error(`${first.what}: ${reply.problem}`))
    if (waiting.length === 0) worker.unref()
  })
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  worker.on('error', (error) => fail(new Error(`the engine's thread failed: ${error.message}`, { cause: error })))
  worker.on('exit', (code) => fail(new Error(`the engine's thread ended with code ${code}`)))
  worker.unref()
  return {
    ask: (request: Request, transfer: readonly ArrayBuffer[], what: string): Promise<Reply> =>
      new Promise((resolve, reject) => {
        if (dead !== undefined) return reject(dead)
        worker.ref()
        waiting.push({ resolve, reject, what })
        worker.postMessage(request, [...new Set(transfer)])
      }),
    close: async (): Promise<void> => {
      if (dead !== undefined) return ended
      dead = new Error('the engine is closed')
      worker.ref()
      worker.postMessage({ kind: 'end' } satisfies Request)
      await ended
    },
  }
}

