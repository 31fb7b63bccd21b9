/** @file The TensorFlow.js engine on libtensorflow: what every engine must do. */
import { engineConformance } from './conformance.js'
import { nativeMissing, nativeTfjs } from './tfjs-native.js'

engineConformance('tfjs, native', {
  open: ({ attention, head }) => nativeTfjs({ threads: 1, attentionBlocks: attention, headBlocks: head }),
  tolerance: 3e-6,
  skip: nativeMissing(),
})
