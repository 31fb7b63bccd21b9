/**
 * @file Which devices ONNX Runtime can really compute on. Asked in a child process with a time limit, since a broken
 * driver may crash or hang whoever loads it.
 */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Device } from './engine.js'

export const devices: readonly Device[] = ['cpu', 'cuda', 'webgpu']

export type DeviceReport =
  | {
      readonly device: Device
      readonly usable: true
      /** f32 products of square matrices, 1,024 wide unless that is a long wait; FLOP/s. */
      readonly gemmRate: number
      /** A processor's threads behind a GPU's interface. */
      readonly software: boolean
    }
  | { readonly device: Device; readonly usable: false; readonly problem: string; readonly fix: string }

/** The driver of Debian's package chromium, if it is there. */
export const softwareVulkan = (): string | undefined => {
  const path = '/usr/lib/chromium/vk_swiftshader_icd.json'
  return existsSync(path) ? path : undefined
}

const fixes: Readonly<Record<Device, string>> = {
  cpu: 'install again: npm ci',
  cuda:
    'needs Linux x64, an NVIDIA GPU with its driver, CUDA 12 and cuDNN 9 on the library path, and the provider: npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12',
  webgpu: softwareVulkan() === undefined || process.env.VK_DRIVER_FILES !== undefined
    ? "needs a GPU's own driver and, on Linux, the Vulkan loader: apt-get install libvulkan1"
    : `needs a GPU's own driver and, on Linux, the Vulkan loader: apt-get install libvulkan1; without a GPU, for tests only: VK_DRIVER_FILES=${softwareVulkan()}`,
}

/** Whether there is hardware at all. Elsewhere than on Linux the system's own driver is there wherever a screen is. */
export const gpuPresent = (): boolean => {
  if (process.platform !== 'linux') return true
  const has = (folder: string, pattern: RegExp): boolean => existsSync(folder) && readdirSync(folder).some((name) => pattern.test(name))
  return has('/dev', /^(nvidia\d+|dxg)$/) || has('/dev/dri', /^renderD/)
}

const isSoftware = (): boolean =>
  !gpuPresent() || /swiftshader|lvp_icd|lavapipe/i.test(`${process.env.VK_DRIVER_FILES ?? ''}${process.env.VK_ICD_FILENAMES ?? ''}`)

export interface ProbeOptions {
  readonly timeoutMs?: number
  readonly threads?: number
}

/** Computes a product on the device, checks it, and measures how fast. Never rejects. */
export const probeDevice = (device: Device, { timeoutMs = 60_000, threads }: ProbeOptions = {}): Promise<DeviceReport> =>
  new Promise((resolve) => {
    const child = fileURLToPath(new URL('./probe-child.js', import.meta.url))
    const args = [child, device, ...(threads === undefined ? [] : [String(threads)])]
    execFile(process.execPath, args, { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 2 ** 24 }, (error, stdout, stderr) => {
      const last = stdout.trim().split('\n').at(-1) ?? ''
      const told = /^\{.*\}$/.test(last) ? (JSON.parse(last) as { readonly gemmRate?: number; readonly problem?: string }) : {}
      if (error === null && told.gemmRate !== undefined) resolve({ device, usable: true, gemmRate: told.gemmRate, software: device === 'webgpu' && isSoftware() })
      else resolve({ device, usable: false, problem: told.problem ?? problemOf(error, stderr, timeoutMs), fix: fixes[device] })
    })
  })

const problemOf = (error: (Error & { readonly killed?: boolean; readonly signal?: string | null }) | null, stderr: string, timeoutMs: number): string => {
  if (error?.killed === true) return `no answer in ${timeoutMs / 1000} s`
  if (typeof error?.signal === 'string') return `its process died of ${error.signal}`
  return stderr.trim().split('\n').at(-1) || (error?.message ?? 'it said nothing')
}

/** `auto`: CUDA, else WebGPU, where there is a GPU that works; else the CPU. Asks nothing where there is no GPU. */
export const chooseDevice = async (wanted: Device | 'auto'): Promise<Device> => {
  if (wanted !== 'auto') return wanted
  if (!gpuPresent()) return 'cpu'
  for (const device of ['cuda', 'webgpu'] as const) {
    const report = await probeDevice(device)
    if (report.usable && !report.software) return device
  }
  return 'cpu'
}
