/**
 * @file The ONNX engine on WebGPU: what every engine must do, over a GPU where there is one, else over SwiftShader, the
 * software Vulkan driver of Debian's package chromium, found by the loader of the package libvulkan1.
 */
import { test } from 'node:test'
import { gpuPresent, onnxEngine, probeDevice, softwareVulkan } from '../../src/tensor/index.js'
import { engineConformance } from './conformance.js'

const driver = softwareVulkan()
if (driver !== undefined && !gpuPresent()) process.env.VK_DRIVER_FILES ??= driver

const probed = await probeDevice('webgpu', { timeoutMs: 300_000, threads: 1 })
if (probed.usable) {
  engineConformance('webgpu', {
    open: ({ attention, head }) => onnxEngine({ threads: 1, device: 'webgpu', attentionBlocks: attention, headBlocks: head }),
    tolerance: 2e-5,
    refusesIds: false, // ids come from the tokenizer, which is held against the vocabulary
  })
} else {
  test('webgpu', { skip: process.env.CI === 'true' ? false : `no WebGPU here: ${probed.problem}; ${probed.fix}` }, () => {
    throw new Error(`in CI the tests of WebGPU must run: ${probed.problem}; ${probed.fix}`)
  })
}
