/**
 * @file The thread of an engine: answers requests in order of arrival, one at a time, with outputs or with what went
 * wrong, and keeps the float64 sums. It ends when it is told to and has had nothing to do for a while: Node 20 may abort
 * the whole process where a thread is ended while the compiler still works on its code.
 */
import { parentPort } from 'node:worker_threads'
import type { TensorData } from '../engine.js'

type Inputs = Readonly<Record<string, TensorData>>

export type Request<Compiled> =
  | { readonly kind: 'compile'; readonly id: number; readonly compiled: Compiled; readonly sums: Readonly<Record<string, Float64Array>> }
  | { readonly kind: 'bind' | 'run'; readonly id: number; readonly inputs: Inputs }
  | { readonly kind: 'dispose'; readonly id: number }
  | { readonly kind: 'end' }

export interface Reply {
  readonly outputs?: Inputs
  readonly problem?: string
  /** The problem is the user's to mend, and this is how. */
  readonly fix?: string
  /** The problem is a term of a sum that is no finite number. */
  readonly notFinite?: boolean
}

/** A program in the thread. */
export interface Session {
  bind(inputs: Inputs): Promise<void>
  /** `take` hands over each output; its data are only valid during the call. */
  run(inputs: Inputs, take: (outputs: ReadonlyMap<string, TensorData>) => void): Promise<void>
  release(): Promise<void>
}

/** Thrown by an engine where the user can help. */
export class FixableError extends Error {
  constructor(message: string, readonly fix: string) {
    super(message)
  }
}

/** The compiler has finished with the last work's code by then. */
const quietMs = 100

/** Answers the main thread from now on. `end`: what is to be let go of after all sessions. */
export const serve = <Compiled>(compile: (compiled: Compiled) => Promise<Session>, { end }: { readonly end?: () => Promise<void> } = {}): void => {
  const sessions = new Map<number, { readonly session: Session; readonly sums: Readonly<Record<string, Float64Array>> }>()

  const answer = async (request: Exclude<Request<Compiled>, { readonly kind: 'end' }>): Promise<Reply> => {
    if (request.kind === 'compile') {
      sessions.set(request.id, { session: await compile(request.compiled), sums: request.sums })
      return {}
    }
    const held = sessions.get(request.id)
    if (held === undefined) return { problem: `no program ${request.id}` }
    if (request.kind === 'dispose') {
      sessions.delete(request.id)
      await held.session.release()
      return {}
    }
    if (request.kind === 'bind') {
      await held.session.bind(request.inputs)
      return {}
    }
    let reply: Reply = {}
    await held.session.run(request.inputs, (outputs) => (reply = folded(outputs, held.sums)))
    return reply
  }

  let last: Promise<void> = Promise.resolve()
  parentPort?.on('message', (request: Request<Compiled>) => {
    last = last.then(async () => {
      if (request.kind === 'end') {
        for (const { session } of sessions.values()) await session.release()
        await end?.()
        setTimeout(() => parentPort?.close(), quietMs)
        return
      }
      const reply = await answer(request).catch(
        (error: unknown): Reply => ({ problem: error instanceof Error ? error.message : String(error), fix: error instanceof FixableError ? error.fix : undefined }),
      )
      const buffers = Object.values(reply.outputs ?? {}).map(({ data }) => data.buffer as ArrayBuffer)
      parentPort?.postMessage(reply, buffers)
    })
  })
}

/** Adds what is summed and copies what is not. */
const folded = (results: ReadonlyMap<string, TensorData>, allSums: Readonly<Record<string, Float64Array>>): Reply => {
  // All are looked at before any is added: a sum that took a NaN could not be mended.
  for (const [name, { data }] of results) {
    if (allSums[name] !== undefined && !isFiniteAll(data as Float32Array)) return { problem: `its term of "${name}" is not finite`, notFinite: true }
  }
  const outputs: Record<string, TensorData> = {}
  for (const [name, tensor] of results) {
    const sums = allSums[name]
    if (sums === undefined) outputs[name] = copied(tensor)
    else addTo(sums, tensor.data as Float32Array, name)
  }
  return { outputs }
}

const copied = (tensor: TensorData): TensorData =>
  tensor.type === 'float32' ? { ...tensor, data: Float32Array.from(tensor.data) } : { ...tensor, data: BigInt64Array.from(tensor.data) }

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
