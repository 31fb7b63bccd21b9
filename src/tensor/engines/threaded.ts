/**
 * @file An engine whose programs run in a worker thread, seen from the main one: what its `compile`, `bind` and `run`
 * ask, what is checked before anything is sent, how the thread is ended. The thread's own side is thread.ts.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads'
import { UserError } from '../../base/index.js'
import { NotFiniteError, type Engine, type Program, type ProgramSpec, type TensorData } from '../engine.js'
import { checkShapes } from '../shapes.js'
import type { Reply, Request } from './thread.js'

export interface ThreadedOptions<Compiled> {
  readonly name: string
  readonly threads: number
  readonly versions: Readonly<Record<string, string>>
  /** The module that calls `serve`. */
  readonly worker: URL
  readonly workerOptions?: WorkerOptions
  /** What the thread needs to know of a program; it has to survive structured cloning. */
  readonly trace: (spec: ProgramSpec) => { readonly compiled: Compiled; readonly nodes: number }
}

export const threadedEngine = <Compiled>({ name, threads, versions, worker: url, workerOptions, trace }: ThreadedOptions<Compiled>): Engine => {
  const worker = connect<Compiled>(new Worker(url, workerOptions))
  let programs = 0
  return {
    name,
    threads,
    versions,
    compile: async (spec) => {
      checkShapes(spec)
      const { compiled, nodes } = trace(spec)
      const id = programs++
      const sums = Object.fromEntries(
        Object.entries(spec.accumulate ?? {}).map(([output, shape]) => {
          const length = shape.reduce((product, d) => product * d, 1)
          return [output, new Float64Array(new SharedArrayBuffer(length * Float64Array.BYTES_PER_ELEMENT))]
        }),
      )
      await worker.ask({ kind: 'compile', id, compiled, sums }, [], spec.name)
      return program(spec, id, nodes, sums)
    },
    [Symbol.asyncDispose]: () => worker.close(),
  }

  function program(spec: ProgramSpec, id: number, nodes: number, sums: Readonly<Record<string, Float64Array>>): Program {
    const bound = new Set<string>()
    const checked = (input: string, { type, shape, data }: TensorData): void => {
      const { type: wantedType, shape: wanted } = spec.inputs[input] ?? missing(`${spec.name} has no input "${input}"`)
      const fits = type === wantedType && shape.length === wanted.length && shape.every((d, axis) => typeof wanted[axis] === 'string' || wanted[axis] === d)
      if (fits && data.length === shape.reduce((product, d) => product * d, 1)) return
      throw new TypeError(`${spec.name}: input "${input}" must be ${wantedType} [${wanted.join(', ')}], is ${type} [${shape.join(', ')}] of ${data.length} numbers`)
    }
    const ask = (kind: 'bind' | 'run', inputs: Readonly<Record<string, TensorData>>): Promise<Reply> => {
      for (const [input, tensor] of Object.entries(inputs)) checked(input, tensor)
      return worker.ask({ kind, id, inputs }, Object.values(inputs).map(({ data }) => data.buffer as ArrayBuffer), spec.name)
    }
    return {
      nodes,
      sums,
      bind: async (inputs) => {
        await ask('bind', inputs)
        for (const input of Object.keys(inputs)) bound.add(input)
      },
      run: async (inputs) => {
        for (const input of Object.keys(spec.inputs)) {
          if (!bound.has(input) && inputs[input] === undefined) throw new TypeError(`${spec.name}: input "${input}" is missing`)
        }
        return (await ask('run', inputs)).outputs ?? {}
      },
      [Symbol.asyncDispose]: async () => {
        await worker.ask({ kind: 'dispose', id }, [], spec.name)
      },
    }
  }
}

export const missing = (what: string): never => {
  throw new RangeError(what)
}

/** Questions to the worker, answered in order. */
const connect = <Compiled>(worker: Worker) => {
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
    else if (reply.fix !== undefined) first.reject(new UserError(reply.problem, { fix: reply.fix }))
    else if (reply.notFinite === true) first.reject(new NotFiniteError(`${first.what}: ${reply.problem}`))
    else first.reject(new Error(`${first.what}: ${reply.problem}`))
    if (waiting.length === 0) worker.unref()
  })
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  worker.on('error', (error) => fail(new Error(`the engine's thread failed: ${error.message}`, { cause: error })))
  worker.on('exit', (code) => fail(new Error(`the engine's thread ended with code ${code}`)))
  worker.unref()
  return {
    ask: (request: Request<Compiled>, transfer: readonly ArrayBuffer[], what: string): Promise<Reply> =>
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
      worker.postMessage({ kind: 'end' } satisfies Request<Compiled>)
      await ended
    },
  }
}
