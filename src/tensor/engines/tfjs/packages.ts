/** @file Which TensorFlow.js is installed: all of its packages are optional. */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { UserError } from '../../../base/index.js'

/** From the fastest to the slowest. */
export const tfjsBackends = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node', '@tensorflow/tfjs-backend-cpu'] as const
export type TfjsBackend = (typeof tfjsBackends)[number]

export interface TfjsPackage {
  readonly backend: TfjsBackend
  /** Files to load, the library first. */
  readonly modules: readonly string[]
  readonly versions: Readonly<Record<string, string>>
}

/**
 * The fastest TensorFlow.js that is installed.
 * @param from a folder whose node_modules is looked into; without one, those beside this package
 * @throws UserError if there is none
 */
export const findTfjs = ({ from, backend }: { readonly from?: string; readonly backend?: TfjsBackend } = {}): TfjsPackage => {
  const resolver = createRequire(from === undefined ? import.meta.url : join(from, 'package.json'))
  const resolved = (name: string): string | undefined => {
    try {
      return resolver.resolve(name)
    } catch {
      return undefined
    }
  }
  for (const name of backend === undefined ? tfjsBackends : [backend]) {
    const own = resolved(name)
    const core = resolved('@tensorflow/tfjs-core')
    if (own === undefined) continue
    const versions = { [name]: versionOf(own) }
    if (name !== '@tensorflow/tfjs-backend-cpu') return { backend: name, modules: [own], versions }
    if (core !== undefined) return { backend: name, modules: [core, own], versions }
  }
  throw new UserError(`--engine tfjs needs TensorFlow.js, and ${backend ?? 'none of its packages'} is installed`, {
    fix: 'npm install @tensorflow/tfjs-node (with a CUDA GPU @tensorflow/tfjs-node-gpu; slow but without native code @tensorflow/tfjs-core @tensorflow/tfjs-backend-cpu), or --engine onnx',
  })
}

/** From the package.json nearest above a file of the package; its own paths may not be reachable by name. */
const versionOf = (path: string): string => {
  const load = createRequire(path)
  for (let folder = dirname(path); dirname(folder) !== folder; folder = dirname(folder)) {
    try {
      const { version } = load(join(folder, 'package.json')) as { readonly version?: string }
      if (version !== undefined) return version
    } catch {
      continue
    }
  }
  return 'unknown'
}
