/**
 * @file The ONNX engine on WebGPU: what every engine must do, over a GPU where there is one, else over SwiftShader, the
 * software Vulkan driver of Debian's package chromium, found by the loader of the package libvulkan1. That one takes
 * minutes, so it is asked for with TRIBUTARY_WEBGPU=1, as .ci/run does.
 */
import { test } from 'node:test'
import { gpuPresent, onnxEngine, probeDevice, softwareVulkan } from '../../src/tensor/index.js'
import { engineConformance } from './conformance.js'
import { modelConformance } from './model-conformance.js'

const driver = softwareVulkan()
if (driver !== undefined && !gpuPresent()) process.env.VK_DRIVER_FILES ??= driver

const isAsked = process.env.TRIBUTARY_WEBGPU === '1'
const probed = isAsked || gpuPresent() ? await probeDevice('webgpu', { timeoutMs: 300_000, threads: 1 }) : undefined
if (probed === undefined) test('webgpu', { skip: 'no GPU here; with TRIBUTARY_WEBGPU=1 on a software driver' }, () => undefined)
else if (probed.usable) {
  engineConformance('webgpu', {
    open: ({ attention, head }) => onnxEngine({ threads: 1, device: 'webgpu', attentionBlocks: attention, headBlocks: head }),
    tolerance: 2e-5,
    refusesIds: false, // ids come from the tokenizer, which is held against the vocabulary
  })
  modelConformance('webgpu', { open: () => onnxEngine({ threads: 1, device: 'webgpu' }), tolerance: 1e-4 })
} else {
  test('webgpu', { skip: isAsked ? false : `no WebGPU here: ${probed.problem}; ${probed.fix}` }, () => {
    throw new Error(`WebGPU was asked for and is not usable: ${probed.problem}; ${probed.fix}`)
  })
}
