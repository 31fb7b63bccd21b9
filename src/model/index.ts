/**
 * @file Hugging Face checkpoints: config.json, safetensors, tokenizer.json, and the architectures as forward passes
 * over `Ops<T>`. Knows nothing of engines, documents or topics. Everything in a checkpoint folder is untrusted: it is
 * checked before any work starts and refused with what is wrong; a model that is opened can be run.
 */
export type { ForwardInputs, LinearLayer, Model, OnLinear, Span, Weights } from './model.js'
export { openModel, type Checkpoint } from './open.js'
export {
  readCheckpointTensors, readSafetensors, readTensor, readTensorExact, removeUnfinished, writeSafetensors, type Dtype, type TensorInfo, type TensorToWrite,
} from './safetensors.js'
export { lengthMin, paddedLength } from './padding.js'
export { checkSeal, readSeal, sealChecks } from './seal.js'
export { checkpointHash } from './hash.js'
export { openTokenizer, type Tokenizer, type TokenizerOptions } from './tokenizer.js'
