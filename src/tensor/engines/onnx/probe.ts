/**
 * @file Which devices ONNX Runtime can really compute on. Asked in a child process with a time limit, since a broken
 * driver may crash or hang whoever loads it.
 */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { UserError } from '../../../base/index.js'
import type { Precision } from '../../engine.js'
import { narrowTypes, type NarrowType } from '../narrow.js'
import type { Device } from './engine.js'

export const devices: readonly Device[] = ['cpu', 'cuda', 'webgpu']

export type DeviceReport =
  | {
      readonly device: Device
      readonly usable: true
      /** FLOP/s, by the one definition (gemm-rate.ts). */
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
  /** Products of this width; default: float32. */
  readonly width?: NarrowType
}

/** Computes products on the device, checks them, and measures how fast they are. Takes seconds. Never rejects. */
export const probeDevice = (device: Device, { timeoutMs = 60_000, threads, width }: ProbeOptions = {}): Promise<DeviceReport> =>
  new Promise((resolve) => {
    const child = fileURLToPath(new URL('./probe-child.js', import.meta.url))
    const args = [child, device, String(threads ?? 0), ...(width === undefined ? [] : [width])]
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

export interface ChosenDevice {
  readonly device: Device
  /** A line for the user; none where there was nothing to choose. */
  readonly note: string | undefined
}

export interface ChooseOptions {
  /** Of the products; default: f32. */
  readonly precision?: Precision
  /** What is asked; another in tests. */
  readonly probe?: (device: Device, options: ProbeOptions) => Promise<DeviceReport>
  readonly present?: () => boolean
}

/**
 * `auto`: CUDA, else WebGPU, where there is a GPU that works; else the CPU. Asks nothing where there is no GPU.
 * @throws UserError for a device that was asked for by its name and is not usable here: what is missing, and how to get it
 */
export const chooseDevice = async (
  wanted: Device | 'auto', { precision = 'f32', probe = probeDevice, present = gpuPresent }: ChooseOptions = {},
): Promise<ChosenDevice> => {
  const ask = async (device: Device): Promise<DeviceReport> =>
    device === 'webgpu' && precision === 'bf16'
      ? { device, usable: false, problem: 'WebGPU has no bfloat16', fix: '--precision f16 or f32' }
      : probe(device, { width: narrowTypes[precision] })
  const noteOf = ({ device, gemmRate, software }: DeviceReport & { readonly usable: true }): string =>
    `device ${device}: ${precision} products at ${(gemmRate / 1e9).toLocaleString('en-US', { maximumSignificantDigits: 2 })} GFLOP/s${software ? ', by a software driver: for tests' : ''}`
  const cpu: ChosenDevice = {
    device: 'cpu',
    note: precision === 'f32' ? undefined : `device cpu multiplies in float32: --precision ${precision} rounds to 16 bits as a GPU does, and saves nothing`,
  }
  if (wanted === 'cpu') return cpu
  if (wanted !== 'auto') {
    const report = await ask(wanted)
    if (report.usable) return { device: wanted, note: noteOf(report) }
    throw new UserError(`device ${wanted} is not usable here${precision === 'f32' ? '' : ` with --precision ${precision}`}: ${report.problem}`, { fix: `${report.fix}; or --device cpu` })
  }
  if (!present()) return cpu
  const problems: string[] = []
  for (const device of ['cuda', 'webgpu'] as const) {
    const report = await ask(device)
    if (report.usable && !report.software) return { device, note: noteOf(report) }
    problems.push(`${device}: ${report.usable ? 'a software driver' : `${report.problem}; ${report.fix}`}`)
  }
  return { device: 'cpu', note: `device cpu, as no GPU is usable here: ${problems.join('. ')}${cpu.note === undefined ? '' : `. ${cpu.note}`}` }
}
