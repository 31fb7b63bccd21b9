/** @file The TensorFlow.js engine on libtensorflow: what every engine must do. */
import { engineConformance } from './conformance.js'
import { modelConformance } from './model-conformance.js'
import { nativeMissing, nativeTfjs } from './tfjs-native.js'

engineConformance('tfjs, native', {
  open: ({ attention, head }) => nativeTfjs({ threads: 1, attentionBlocks: attention, headBlocks: head }),
  tolerance: 3e-6,
  skip: nativeMissing(),
})

modelConformance('tfjs, native', { open: () => nativeTfjs({ threads: 1 }), tolerance: 1e-4, skip: nativeMissing() })
