/**
 * @file The engine on TensorFlow.js: programs are recorded here and taken step by step in a worker thread, since every
 * operation blocks the thread that calls it. Weights are held as float32, read once for all programs of an engine.
 */
import { availableParallelism } from 'node:os'
import { SHARE_ENV } from 'node:worker_threads'
import { UserError } from '../../../base/index.js'
import type { Engine } from '../../engine.js'
import { threadedEngine } from '../threaded.js'
import { findTfjs, type TfjsBackend } from './packages.js'
import { record, type Recording, type RecordOptions } from './recording.js'
import { floatTypes } from './weights.js'
import type { TfjsWorkerData } from './worker.js'

export interface TfjsEngineOptions extends RecordOptions {
  /** Threads of native kernels; default: the machine's. The first engine of a process decides for all. */
  readonly threads?: number
  /** Default: the fastest that is installed. */
  readonly backend?: TfjsBackend
  /** A folder whose node_modules holds it; default: beside this package. */
  readonly from?: string
}

/** @throws UserError if no TensorFlow.js is installed */
export const tfjsEngine = ({ threads = availableParallelism(), backend, from, ...options }: TfjsEngineOptions = {}): Engine => {
  const found = findTfjs({ from, backend })
  const data: TfjsWorkerData = { package: found.backend, modules: found.modules, threads }
  return threadedEngine<Recording>({
    name: `tfjs (${found.backend})`,
    threads: found.backend === '@tensorflow/tfjs-backend-cpu' ? 1 : threads,
    versions: found.versions,
    worker: new URL('./worker.js', import.meta.url),
    // libtensorflow reads its settings from the process's environment, not from a thread's copy of it.
    workerOptions: { workerData: data, env: SHARE_ENV },
    trace: (spec) => {
      if ((spec.precision ?? 'f32') !== 'f32') throw new UserError(`${spec.name}: TensorFlow.js computes in float32, not in ${spec.precision ?? ''}`, { fix: '--precision f32, or --engine onnx' })
      const compiled = record(spec, options)
      for (const [, { name, dtype }] of compiled.weights) {
        if (!(floatTypes as readonly string[]).includes(dtype)) throw new UserError(`weight "${name}" is stored as ${dtype}`, { fix: `save the checkpoint as one of ${floatTypes.join(', ')}` })
      }
      return { compiled, nodes: compiled.steps.length }
    },
  })
}
