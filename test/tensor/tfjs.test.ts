/** @file The TensorFlow.js engine on its JavaScript backend: what every engine must do, and what is its own. */
import { tfjsEngine } from '../../src/tensor/index.js'
import { engineConformance } from './conformance.js'
import { modelConformance } from './model-conformance.js'

engineConformance('tfjs, JavaScript', {
  open: ({ attention, head }) => tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu', attentionBlocks: attention, headBlocks: head }),
  tolerance: 3e-6,
})

modelConformance('tfjs, JavaScript', { open: () => tfjsEngine({ backend: '@tensorflow/tfjs-backend-cpu' }), tolerance: 1e-4 })
