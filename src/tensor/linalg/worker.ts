/**
 * @file A worker of the pool: one matrix in, its eigendecomposition out. Several work on different matrices, so
 * none waits for another within one. It ends when it is told to and has had nothing to do for a while: Node 20 may abort
 * the whole process where a thread is ended while the compiler still works on its code.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { adoptKernelsModule } from './kernels.js'
import { decompose } from './solve.js'
import type { Answer, Question, Start } from './pool.js'

if (parentPort === null) throw new Error('linalg/worker.js runs as a worker thread')
const port = parentPort
const { module, stopped } = workerData as Start
adoptKernelsModule(module)

/** The compiler has finished with the last work's code by then. */
const quietMs = 100

const goOn = (): void => {
  if (Atomics.load(stopped, 0) !== 0) throw new Error('stopped')
}

port.on('message', (question: Question) => {
  if (question === 'end') return void setTimeout(() => port.close(), quietMs)
  try {
    const { values, vectors } = decompose(question.matrix, question.n, goOn)
    const answer: Answer = { values, vectors }
    port.postMessage(answer, [values.buffer as ArrayBuffer, vectors.buffer as ArrayBuffer])
  } catch (error) {
    const answer: Answer = { error: error instanceof Error ? error : new Error(String(error)) }
    port.postMessage(answer)
  }
})
