/**
 * @file A worker of the pool: one matrix in, its eigendecomposition out. Several work on different matrices, so
 * none waits for another within one.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { adoptKernelsModule } from './kernels.js'
import { decompose } from './solve.js'
import type { Answer, Question, Start } from './pool.js'

if (parentPort === null) throw new Error('linalg/worker.js runs as a worker thread')
const port = parentPort
adoptKernelsModule((workerData as Start).module)

port.on('message', ({ matrix, n }: Question) => {
  try {
    const { values, vectors } = decompose(matrix, n)
    const answer: Answer = { values, vectors }
    port.postMessage(answer, [values.buffer as ArrayBuffer, vectors.buffer as ArrayBuffer])
  } catch (error) {
    const answer: Answer = { error: error instanceof Error ? error : new Error(String(error)) }
    port.postMessage(answer)
  }
})
