/**
 * @file What of tributary's surroundings is usable: the machine, the home, the log, engines and devices. Looks, measures
 * and changes nothing.
 */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { dirname, resolve } from 'node:path'
import { UserError } from '../base/index.js'
import { formatBytes, type GlobalSettings } from '../settings/index.js'
import { devices, findTfjs, gpuPresent, probeDevice, tfjsBackends, type Device, type DeviceReport } from '../tensor/index.js'
import { openLogForReading } from './home.js'

/** One thing looked at. */
export interface Diagnosis {
  /** `node`, `memory`, `home`, `log`, `registry`, or an engine and where it computes: `onnx cpu`, `onnx cuda`, `tfjs @tensorflow/tfjs-node` */
  readonly name: string
  readonly usable: boolean
  /** Whether nothing works without it, under these settings. */
  readonly needed: boolean
  /** What was seen. */
  readonly said: string
  /** How to get it, where it is not usable. */
  readonly fix?: string
  /** FLOP/s of float32 products (tensor/gemm-rate.ts), of a device; and of float16 ones, of a GPU. */
  readonly gemmRate?: number
  readonly gemmRateF16?: number
}

export interface DoctorOptions {
  /** What asks a device; another in tests. */
  readonly probe?: typeof probeDevice
  readonly signal?: AbortSignal
}

const nodeMin = 20
const memoryMin = 2 ** 30
const diskMin = 2 ** 30

/** Looks at one thing after the other. Does not reject for what it finds. */
export const examine = async function* (settings: GlobalSettings, { probe = probeDevice, signal }: DoctorOptions = {}): AsyncGenerator<Diagnosis> {
  yield node()
  yield memory()
  yield home(settings.home)
  yield await logOf(settings)
  if (settings.schemaRegistry !== null) yield await registry(settings.schemaRegistry)
  for (const device of devices) {
    if (signal?.aborted === true) return
    yield await onDevice(device, settings.threads, probe)
  }
  for (const backend of tfjsBackends) yield tfjs(backend)
}

const node = (): Diagnosis => {
  const major = Number(process.versions.node.split('.')[0])
  const said = `Node ${process.versions.node} on ${process.platform} ${process.arch}, ${availableParallelism()} cores`
  return { name: 'node', usable: major >= nodeMin, needed: true, said, ...(major >= nodeMin ? {} : { fix: `Node ${nodeMin} or later` }) }
}

const memory = (): Diagnosis => {
  const bound = process.constrainedMemory?.() ?? 0
  const total = bound > 0 ? Math.min(bound, totalmem()) : totalmem()
  const usable = total >= memoryMin
  return {
    name: 'memory', usable, needed: false, said: `${formatBytes(total)}${total < totalmem() ? ' for this process' : ''}, ${formatBytes(Math.min(total, freemem()))} free`,
    ...(usable ? {} : { fix: `${formatBytes(memoryMin)} or more; --memory and --stage-memory keep within less` }),
  }
}

/** The nearest folder above that exists. */
const existing = (path: string): string => (existsSync(path) || dirname(path) === path ? path : existing(dirname(path)))

const home = (folder: string): Diagnosis => {
  const path = resolve(folder)
  const at = existing(path)
  try {
    accessSync(at, constants.W_OK | constants.X_OK)
    const { bavail, bsize } = statfsSync(at)
    const free = bavail * bsize
    const usable = free >= diskMin
    return {
      name: 'home', usable, needed: true, said: `${folder}${at === path ? '' : ', not made yet'}: ${formatBytes(free)} free on its disk`,
      ...(usable ? {} : { fix: `make room, or another --home DIR on a disk with ${formatBytes(diskMin)} free` }),
    }
  } catch (error) {
    return { name: 'home', usable: false, needed: true, said: `${folder} is not writable: ${messageOf(error)}`, fix: 'another --home DIR, or its rights' }
  }
}

const logOf = async (settings: GlobalSettings): Promise<Diagnosis> => {
  const embedded = settings.log === 'embedded'
  if (embedded && !existsSync(resolve(settings.home))) return { name: 'log', usable: true, needed: true, said: 'embedded: made by the first ingest' }
  try {
    await using log = await openLogForReading(settings)
    const topics = await log.describe()
    const documents = topics.find(({ topic }) => topic === 'documents')
    const records = documents?.ends.reduce((sum, end) => sum + end, 0) ?? 0
    return { name: 'log', usable: true, needed: true, said: `${settings.log}: ${topics.length} topics, ${records.toLocaleString('en-US')} documents in ${documents?.ends.length ?? 0} partitions` }
  } catch (error) {
    return { name: 'log', usable: false, needed: true, said: `${settings.log}: ${messageOf(error)}`, fix: error instanceof UserError ? error.fix : undefined }
  }
}

const registryMs = 5_000

/** Asked for the types of schemas that it has: every registry with Confluent's interface answers that, with no subject at all. */
const registry = async (url: string): Promise<Diagnosis> => {
  const at = new URL(url)
  const shown = `${at.protocol}//${at.host}${at.pathname}`
  try {
    const headers: Record<string, string> = at.username === '' ? {} : { authorization: `Basic ${Buffer.from(`${decodeURIComponent(at.username)}:${decodeURIComponent(at.password)}`).toString('base64')}` }
    at.username = at.password = ''
    const answer = await fetch(new URL(`${at.pathname.replace(/\/$/, '')}/subjects`, at), { headers, signal: AbortSignal.timeout(registryMs) })
    await answer.body?.cancel()
    if (answer.ok) return { name: 'registry', usable: true, needed: true, said: `${shown}: answers` }
    return { name: 'registry', usable: false, needed: true, said: `${shown}: answers ${answer.status}`, fix: answer.status === 401 || answer.status === 403 ? 'user and password in --schema-registry, and their rights' : 'the address of --schema-registry' }
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    return { name: 'registry', usable: false, needed: true, said: `${shown}: ${messageOf(cause)}`, fix: 'start it, or mend the address of --schema-registry' }
  }
}

const onDevice = async (device: Device, threads: number | null, probe: typeof probeDevice): Promise<Diagnosis> => {
  const name = `onnx ${device}`
  const needed = device === 'cpu'
  const report = await probe(device, { threads: threads ?? undefined })
  if (!report.usable) return { name, usable: false, needed, said: `${needed || gpuPresent() ? '' : 'no GPU is seen; '}${report.problem}`, fix: report.fix }
  const half: DeviceReport | undefined = device === 'cpu' ? undefined : await probe(device, { threads: threads ?? undefined, width: 'float16' })
  const rates = { gemmRate: report.gemmRate, ...(half?.usable === true ? { gemmRateF16: half.gemmRate } : {}) }
  const f16 = half === undefined ? '' : half.usable ? `, f16 products at ${gflops(half.gemmRate)}` : `, no f16: ${half.problem}`
  return { name, usable: true, needed, said: `f32 products at ${gflops(report.gemmRate)}${f16}${report.software ? ', by a software driver: for tests' : ''}`, ...rates }
}

const gflops = (rate: number): string => `${(rate / 1e9).toLocaleString('en-US', { maximumSignificantDigits: 3 })} GFLOP/s`

const tfjs = (backend: (typeof tfjsBackends)[number]): Diagnosis => {
  const name = `tfjs ${backend}`
  try {
    const { versions } = findTfjs({ backend })
    return { name, usable: true, needed: false, said: `${versions[backend]} is installed` }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    const beside = backend === '@tensorflow/tfjs-backend-cpu' ? ' @tensorflow/tfjs-core' : ''
    return { name, usable: false, needed: false, said: 'not installed', fix: `npm install ${backend}${beside} (--engine tfjs; optional)` }
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ').trim()
