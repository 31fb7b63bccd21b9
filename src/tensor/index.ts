/**
 * @file Tensor programs: operations, the reverse-mode tape around them, the engines that run them, linear algebra.
 * Knows nothing of models, documents or topics. The law it keeps: every engine gives the same numbers as `plainOps`,
 * to rounding, and a row's result does not depend on the other rows of its batch.
 */
export type { AttentionOptions, Composites, HeadOptions, MatmulOptions, NormOptions, Ops, PartOptions, Primitives, SumOptions } from './ops.js'
export { NotFiniteError } from './engine.js'
export type { Engine, InputSpec, Precision, Program, ProgramSpec, StoredTensor, TensorData } from './engine.js'
export { onnxEngine, type Device, type OnnxEngineOptions } from './engines/onnx/engine.js'
export { chooseDevice, devices, gpuPresent, probeDevice, softwareVulkan, type ChooseOptions, type ChosenDevice, type DeviceReport } from './engines/onnx/probe.js'
export { findTfjs, tfjsBackends, type TfjsBackend } from './engines/tfjs/packages.js'
export { tfjsEngine, type TfjsEngineOptions } from './engines/tfjs/engine.js'
export { gemmRate, type GemmRateOptions } from './gemm-rate.js'
export { plainOps, type PlainTensor } from './engines/plain.js'
export { eigh, eighAll } from './linalg/index.js'
export { sampleLabels } from './head.js'
export { tape, type Tape, type Variable } from './tape.js'
