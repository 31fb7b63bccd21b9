/** @file The engine that settings ask for. */
import type { EngineName, GlobalSettings } from '../settings/index.js'
import { onnxEngine, tfjsEngine, type Engine } from '../tensor/index.js'

export interface EngineChoice extends Pick<GlobalSettings, 'threads'> {
  readonly engine: EngineName
}

const engines: Readonly<Record<EngineName, (choice: EngineChoice) => Engine>> = {
  onnx: ({ threads }) => onnxEngine({ threads: threads ?? undefined }),
  tfjs: ({ threads }) => tfjsEngine({ threads: threads ?? undefined }),
}

/**
 * Dispose of it when done.
 * @throws UserError if a package is missing that the engine needs
 */
export const openEngine = (choice: EngineChoice): Engine => engines[choice.engine](choice)
