/** @file The native TensorFlow.js of tests: put into .cache by install-tfjs-native.sh, in CI by the first test that wants it. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../src/base/index.js'
import { tfjsEngine, type Engine, type TfjsEngineOptions } from '../../src/tensor/index.js'

const script = join(packageRoot(), 'test', 'tensor', 'install-tfjs-native.sh')
const folder = join(packageRoot(), '.cache', 'tfjs-native')
const isThere = (): boolean => existsSync(join(folder, 'done-4.22.0-2.15.1'))

/** Why there is none, or false. With CI=true it is installed, or this throws. */
export const nativeMissing = (): string | false => {
  if (!isThere() && process.env.CI === 'true') execFileSync(script, { stdio: ['ignore', 'inherit', 'inherit'] })
  return isThere() ? false : 'no libtensorflow; test/tensor/install-tfjs-native.sh installs it, and CI always does'
}

export const nativeTfjs = (options: Omit<TfjsEngineOptions, 'from' | 'backend'> = {}): Engine => tfjsEngine({ ...options, backend: '@tensorflow/tfjs-node', from: folder })
