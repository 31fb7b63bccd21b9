/** @file The engine that settings ask for, and the device it computes on. */
import { UserError } from '../base/index.js'
import type { DeviceChoice, EngineName, GlobalSettings, PrecisionName } from '../settings/index.js'
import { chooseDevice, onnxEngine, tfjsEngine, type Engine } from '../tensor/index.js'

export interface EngineChoice extends Pick<GlobalSettings, 'threads'> {
  readonly engine: EngineName
  readonly device: DeviceChoice
  /** Default: f32. */
  readonly precision?: PrecisionName
}

/** An engine that can be opened here. */
export interface ChosenEngine {
  /** The device that was decided on; settings are recorded with it. */
  readonly device: DeviceChoice
  /** A line for the user, where the choice is no matter of course. */
  readonly note: string | undefined
  /** Dispose of it when done. */
  open(): Engine
}

/** @throws UserError, before any work, if a package is missing that the engine needs, or the device is not usable here */
export const chooseEngine = async ({ engine, device, precision = 'f32', threads }: EngineChoice): Promise<ChosenEngine> => {
  if (engine === 'tfjs') {
    if (device !== 'auto')
      throw new UserError(`--device ${device} goes with --engine onnx: TensorFlow.js computes where its installed package does`, {
        fix: 'leave --device out: @tensorflow/tfjs-node-gpu computes on a CUDA GPU, the other packages on the CPU',
      })
    if (precision !== 'f32') throw new UserError(`--precision ${precision} goes with --engine onnx: TensorFlow.js computes in float32`, { fix: '--precision f32, or --engine onnx' })
    return { device, note: undefined, open: () => tfjsEngine({ threads: threads ?? undefined }) }
  }
  const chosen = await chooseDevice(device, { precision })
  return {
    device: chosen.device,
    note: chosen.note,
    open: () => onnxEngine({ threads: threads ?? undefined, device: chosen.device }),
  }
}

/** Chooses, tells and opens. @throws UserError as `chooseEngine` */
export const openEngine = async (choice: EngineChoice, { log }: { readonly log: (line: string) => void }): Promise<Engine> => {
  const chosen = await chooseEngine(choice)
  if (chosen.note !== undefined) log(chosen.note)
  return chosen.open()
}
