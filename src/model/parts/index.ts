/** @file What architectures are put together from: norms, attention, MLPs, experts, the decoder around them. */
export { add, chain, layerOf, linear, residual, type BlockName, type Part, type WeightShape } from './part.js'
export { headLayerNorm, layerNorm, rmsNorm, type NormSpec } from './norms.js'
export { rotation, rotationOf, type Rotation } from './rotation.js'
export { attention, fused, selfAttention, type Heads } from './attention.js'
export { fusedGated, gated, twoLayer } from './mlp.js'
export { mixture } from './experts.js'
export { decoder } from './decoder.js'
export { blocksOf, decoderSettings, headSettings, headsOf, nullableWindow, windowsOf } from './settings.js'
