/**
 * @file Worker threads that decompose matrices, one matrix per thread at a time.
 */
import { Worker } from 'node:worker_threads'
import type { Eigen, Symmetric } from './eigen.js'
import { kernelsModule } from './kernels.js'
import type { Module } from './wasm.js'

/** What a worker starts with. */
export interface Start {
  readonly module: Module
  /** i32 [1] in shared memory: not 0 as soon as nobody wants the results. */
  readonly stopped: Int32Array
}
/** To a worker: a matrix, or to end. */
export type Question = Symmetric | 'end'
/** From a worker. */
export type Answer = Eigen | { readonly error: Error }

interface Task {
  readonly job: Symmetric
  readonly resolve: (eigen: Eigen) => void
  readonly reject: (reason: unknown) => void
}

/**
 * A fixed number of worker threads with a queue before them. A thread that dies takes the pool with it: every task,
 * running, waiting or to come, is rejected. `close` (or `await using`) ends the threads, in the middle of a matrix too.
 */
export class EighPool {
  readonly #idle: Worker[] = []
  readonly #workers = new Map<Worker, Task | undefined>()
  readonly #waiting: Task[] = []
  readonly #stopped = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  #ended: Error | undefined
  #closed: Promise<unknown> | undefined

  constructor(threads: number) {
    if (!Number.isInteger(threads) || threads < 1) throw new RangeError(`eigh: ${threads} threads`)
    for (let i = 0; i < threads; i++) this.#start()
  }

  /** Decomposes a matrix (checked by the caller) on the next free thread. */
  run(job: Symmetric): Promise<Eigen> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended)
      this.#waiting.push({ job, resolve, reject })
      this.#next()
    })
  }

  /** Ends the threads; what they had not finished is rejected with the reason. */
  async close(reason: Error = new Error('eigh: the pool was closed')): Promise<void> {
    if (this.#closed === undefined) {
      const workers = [...this.#workers.keys()]
      this.#fail(reason)
      Atomics.store(this.#stopped, 0, 1)
      this.#closed = Promise.all(workers.map((worker) => ended(worker)))
    }
    await this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #start(): void {
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { module: kernelsModule(), stopped: this.#stopped } satisfies Start,
    })
    this.#workers.set(worker, undefined)
    this.#idle.push(worker)
    worker.on('message', (answer: Answer) => {
      if (this.#ended) return // what was in hand when the pool was closed
      const task = this.#workers.get(worker)
      this.#workers.set(worker, undefined)
      this.#idle.push(worker)
      if ('error' in answer) task?.reject(answer.error)
      else task?.resolve(answer)
      this.#next()
    })
    const died = (cause: unknown): void => void this.close(new Error('eigh: a worker thread died', { cause }))
    worker.on('error', died)
    worker.on('messageerror', died)
    worker.on('exit', (code) => {
      if (this.#workers.has(worker)) died(new Error(`exit code ${code}`))
    })
  }

  #next(): void {
    while (this.#waiting.length > 0) {
      const worker = this.#idle.pop()
      if (!worker) return
      const task = this.#waiting.shift()
      if (!task) return
      this.#workers.set(worker, task)
      worker.postMessage(task.job satisfies Question)
    }
  }

  #fail(reason: Error): void {
    this.#ended ??= reason
    const tasks = [...this.#workers.values(), ...this.#waiting]
    this.#workers.clear()
    this.#idle.length = 0
    this.#waiting.length = 0
    for (const task of tasks) task?.reject(this.#ended)
  }
}

const ended = (worker: Worker): Promise<void> =>
  new Promise((resolve) => {
    if (worker.threadId === -1) return resolve() // it died: there is no exit to wait for
    worker.once('exit', () => resolve())
    worker.postMessage('end' satisfies Question)
  })
