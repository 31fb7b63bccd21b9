/**
 * @file Safetensors files, read without trust and written without holding them in memory.
 *
 *     ┌────────┬──────────────────────────────┬─────────────────────────────┐
 *     │ u64 le │ JSON header, padded by spaces │ the tensors, without a hole │
 *     │ length │ name → dtype, shape, offsets  │ row-major, little-endian    │
 *     └────────┴──────────────────────────────┴─────────────────────────────┘
 *
 * A header is believed only where it agrees with itself and with the file's size: sizes equal dtype × shape, ranges lie
 * in the file, do not overlap and leave nothing out. So a torn or forged file is refused before anything is computed.
 * The format: https://github.com/huggingface/safetensors, "Format".
 */
import { createHash, randomUUID, type Hash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { UserError } from '../base/index.js'
import { isRecord, readJson } from './json.js'
import { sealAt, sealName, sealUnset } from './seal-place.js'

/** Bytes an element takes. */
const BYTES = {
  F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1,
  F8_E4M3: 1, F8_E5M2: 1, F8_E8M0: 1, C64: 8,
} as const
export type Dtype = keyof typeof BYTES

/** Where a tensor lies. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** The file it is in, symbolic links resolved (the cache of Hugging Face is made of them). */
  readonly path: string
  /** Bytes from the beginning of the file. */
  readonly offset: number
  /** Bytes. */
  readonly length: number
}

/** The format's own bound on a header, and ours on an index. */
const HEADER_BYTES_MAX = 100_000_000
/** Written, and hashed, at a time where a file is sealed. */
const SEALED_BYTES_MAX = 1 << 22
/** One read call brings at most this; Node refuses 2 GiB and more. */
const READ_BYTES_MAX = 1 << 28

/**
 * All tensors of a checkpoint folder: `model.safetensors`, or the shards of `model.safetensors.index.json`.
 * Reads headers only.
 * @throws UserError naming the file, if anything in it or in the index is not as it should be
 */
export const readCheckpointTensors = async (folder: string): Promise<ReadonlyMap<string, TensorInfo>> => {
  const single = join(folder, 'model.safetensors')
  if (await exists(single)) return readSafetensors(single)
  const indexPath = join(folder, 'model.safetensors.index.json')
  if (!(await exists(indexPath)))
    throw new UserError(`"${folder}" has neither model.safetensors nor model.safetensors.index.json`, {
      fix: 'give a Hugging Face folder whose weights are stored as safetensors',
    })
  return readShards(folder, indexPath)
}

const readShards = async (folder: string, indexPath: string): Promise<ReadonlyMap<string, TensorInfo>> => {
  const index = await readJson(indexPath, { bytesMax: HEADER_BYTES_MAX })
  if (!isRecord(index.weight_map)) throw new UserError(`"${indexPath}" has no weight_map`)
  const tensors = new Map<string, TensorInfo>()
  const homes = Object.entries(index.weight_map)
  const shards = new Set<string>()
  for (const [name, shard] of homes) {
    // A bare name cannot leave the folder, on any system.
    if (typeof shard !== 'string' || !/^[\w.-]+\.safetensors$/.test(shard) || basename(shard) !== shard)
      throw new UserError(`"${indexPath}" places "${name}" in ${JSON.stringify(shard)}, which is no .safetensors file of its folder`)
    shards.add(shard)
  }
  const shardOf = new Map(homes)
  for (const shard of shards) {
    const path = join(folder, shard)
    if (!(await exists(path)))
      throw new UserError(`shard "${shard}", named by "${indexPath}", is missing`, { fix: 'download the checkpoint again' })
    for (const [name, info] of await readSafetensors(path)) {
      const twin = tensors.get(name)
      if (twin !== undefined) throw new UserError(`tensor "${name}" is in "${twin.path}" and again in "${info.path}"`)
      if (shardOf.get(name) !== shard)
        throw new UserError(`"${info.path}" has tensor "${name}", which "${indexPath}" places in ${JSON.stringify(shardOf.get(name))}`)
      tensors.set(name, info)
    }
  }
  const absent = homes.filter(([name]) => !tensors.has(name)).map(([name]) => name)
  if (absent.length > 0)
    throw new UserError(`"${indexPath}" lists ${listed(absent)}, which ${absent.length === 1 ? 'is' : 'are'} not in the shards`)
  return tensors
}

/**
 * The tensors of one file, by name, in file order.
 * @throws UserError naming the file and what is wrong with it
 */
export const readSafetensors = async (path: string): Promise<ReadonlyMap<string, TensorInfo>> => {
  const real = await realpath(path).catch((cause: unknown) => {
    throw new UserError(`"${path}" cannot be opened`, { cause })
  })
  const file = await open(real, constants.O_RDONLY).catch((cause: unknown) => {
    throw new UserError(`"${path}" cannot be opened`, { cause })
  })
  try {
    return await readHeader(file, path, real)
  } finally {
    await file.close()
  }
}

const readHeader = async (file: FileHandle, path: string, real: string): Promise<ReadonlyMap<string, TensorInfo>> => {
  const broken = (why: string, cause?: unknown): UserError =>
    new UserError(`"${path}" is not a whole safetensors file: ${why}`, { fix: 'download or write the file again', cause })
  const stats = await file.stat()
  if (!stats.isFile()) throw broken('it is no file')
  const { size } = stats
  if (size < 8) throw broken(`it has ${size} bytes`)
  const prefix = new Uint8Array(8)
  await readInto(file, prefix, 0, path)
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true))
  if (headerBytes > HEADER_BYTES_MAX) throw broken(`its header claims ${headerBytes} bytes; ${HEADER_BYTES_MAX} is the most`)
  const dataStart = 8 + headerBytes
  if (dataStart > size) throw broken(`its header claims ${headerBytes} bytes, the file has ${size}`)
  const bytes = new Uint8Array(headerBytes)
  await readInto(file, bytes, 8, path)

  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw broken('its header is no JSON', cause)
  }
  if (!isRecord(header)) throw broken('its header is no JSON object')

  const infos: TensorInfo[] = []
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const wrong = (why: string): UserError => broken(`tensor "${name}" ${why}`)
    if (!isRecord(entry)) throw wrong('has no description')
    const { dtype, shape, data_offsets: offsets } = entry
    if (typeof dtype !== 'string' || !isDtype(dtype)) throw wrong(`has the unknown dtype ${JSON.stringify(dtype)}`)
    if (!Array.isArray(shape) || !shape.every(isSize)) throw wrong(`has the shape ${JSON.stringify(shape)}`)
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
      throw wrong(`has the offsets ${JSON.stringify(offsets)}`)
    const [begin, end] = offsets
    const length = shape.reduce((product, n) => product * n, BYTES[dtype])
    if (end - begin !== length)
      throw wrong(`of ${dtype} ${JSON.stringify(shape)} needs ${length} bytes, its offsets [${begin}, ${end}] hold ${end - begin}`)
    if (dataStart + end > size)
      throw wrong(`ends at byte ${dataStart + end}, the file at ${size}: it is torn`)
    infos.push({ name, dtype, shape, path: real, offset: dataStart + begin, length })
  }
  infos.sort((a, b) => a.offset - b.offset || a.length - b.length)
  let next = dataStart
  for (const { name, offset, length } of infos) {
    if (offset < next) throw broken(`tensor "${name}" overlaps the one before it`)
    if (offset > next) throw broken(`${offset - next} bytes before tensor "${name}" belong to none`)
    next = offset + length
  }
  if (next !== size) throw broken(`${size - next} bytes at its end belong to no tensor`)
  return new Map(infos.map((info) => [info.name, info]))
}

const isDtype = (dtype: string): dtype is Dtype => Object.hasOwn(BYTES, dtype)
const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && Number(n) >= 0

/** Up to three of many, for a message. */
export const listed = (names: readonly string[], many = 3): string =>
  names.slice(0, many).map((name) => `"${name}"`).join(', ') + (names.length > many ? ` and ${names.length - many} more` : '')

const exists = async (path: string): Promise<boolean> => {
  try {
    await realpath(path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
    throw new UserError(`"${path}" cannot be opened`, { cause: error })
  }
}

/** Fills `into` from byte `position` on. */
const readInto = async (file: FileHandle, into: Uint8Array, position: number, path: string): Promise<void> => {
  for (let done = 0; done < into.byteLength; ) {
    const length = Math.min(READ_BYTES_MAX, into.byteLength - done)
    const { bytesRead } = await file.read(into, done, length, position + done)
    if (bytesRead === 0) throw new UserError(`"${path}" ended at byte ${position + done} while it was read`)
    done += bytesRead
  }
}

/** The bytes of a tensor as they are stored. */
export const readTensorBytes = async (info: TensorInfo): Promise<Uint8Array<ArrayBuffer>> => {
  const bytes = new Uint8Array(info.length)
  const file = await open(info.path, constants.O_RDONLY)
  try {
    await readInto(file, bytes, info.offset, info.path)
  } finally {
    await file.close()
  }
  return bytes
}

/** Which dtypes `readTensor` reads. */
export const FLOAT_DTYPES: readonly Dtype[] = ['F32', 'F16', 'BF16', 'F64']

/**
 * The values of a tensor. F16 and BF16 are exact in f32; F64 is rounded.
 * @throws UserError for integers and 8-bit floats
 */
export const readTensor = async (info: TensorInfo): Promise<Float32Array> => {
  if (!FLOAT_DTYPES.includes(info.dtype))
    throw new UserError(`tensor "${info.name}" of "${info.path}" is ${info.dtype}; ${FLOAT_DTYPES.join(', ')} can be read`)
  const { buffer } = await readTensorBytes(info)
  if (info.dtype === 'F32') return new Float32Array(buffer)
  if (info.dtype === 'F64') return Float32Array.from(new Float64Array(buffer))
  const halves = new Uint16Array(buffer)
  if (info.dtype === 'F16') return Float32Array.from(halves, (half) => f16Table()[half])
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16
  return new Float32Array(bits.buffer)
}

/** The values of an F64, F32, F16 or BF16 tensor, none of them rounded. */
export const readTensorExact = async (info: TensorInfo): Promise<Float64Array | Float32Array> =>
  info.dtype === 'F64' ? new Float64Array((await readTensorBytes(info)).buffer) : readTensor(info)

/** The f32 value of each of the 65,536 halves; made once, at first use. */
const f16Table = (() => {
  let table: Float32Array | undefined
  return (): Float32Array => (table ??= Float32Array.from({ length: 1 << 16 }, (_, half) => f16Value(half)))
})()

/** IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction. */
const f16Value = (half: number): number => {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

/** What can be written, as the typed array that holds it. */
interface WrittenArrays {
  readonly F32: Float32Array
  readonly F64: Float64Array
  readonly I64: BigInt64Array
}

/** A tensor to write. `data` is asked for it when its turn has come, whole or in pieces, so few need exist at a time. */
export type TensorToWrite = {
  [D in keyof WrittenArrays]: {
    readonly name: string
    readonly dtype: D
    readonly shape: readonly number[]
    readonly data: () => WrittenArrays[D] | Promise<WrittenArrays[D]> | AsyncIterable<WrittenArrays[D]>
  }
}[keyof WrittenArrays]

/**
 * Writes a safetensors file: all of it, or nothing (a temporary file beside it, synced, then renamed).
 * Tensors of 8-byte elements come first, so that every one is aligned; else they are asked for in the given order.
 * @param options.sealed the file carries the sha256 of its content (seal.ts)
 * @throws UserError if the disk refuses (full, read-only); RangeError if data and shape disagree
 */
export const writeSafetensors = async (
  path: string, tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>> = {}, { sealed = false }: { readonly sealed?: boolean } = {},
): Promise<void> => {
  const ordered = tensors.toSorted((a, b) => BYTES[b.dtype] - BYTES[a.dtype])
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`)
  try {
    const file = await open(temporary, 'wx')
    try {
      const hash = sealed ? createHash('sha256') : undefined
      const header = headerOf(ordered, sealed ? { [sealName]: sealUnset, ...metadata } : metadata)
      hash?.update(header)
      await file.writeFile(header)
      for (const tensor of ordered) await writeData(file, tensor, hash)
      if (hash !== undefined) await file.write(hash.digest('hex'), sealAt, 'latin1')
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await rm(temporary, { force: true })
    if (error instanceof Error && 'syscall' in error) {
      const full = 'code' in error && ['ENOSPC', 'EDQUOT'].includes(String(error.code))
      throw new UserError(`"${path}" cannot be written: ${error.message}`, {
        cause: error,
        fix: full ? `make room on the disk of ${dirname(path)} and start again` : `let this user write to ${dirname(path)}`,
      })
    }
    throw error
  }
}

/**
 * Removes what `writeSafetensors` leaves beside its files when its process is killed. What is younger than `olderThanMs`
 * may be in the making elsewhere; 0 where nobody else writes.
 */
export const removeUnfinished = async (folder: string, { olderThanMs }: { readonly olderThanMs: number }): Promise<void> => {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? [] : Promise.reject(error)))
  for (const name of names.filter((known) => known.startsWith('.') && known.endsWith('.tmp'))) {
    const path = join(folder, name)
    const changedMs = await stat(path).then(({ mtimeMs }) => mtimeMs, () => Infinity) // gone: its writer was done
    if (Date.now() - changedMs >= olderThanMs) await rm(path, { force: true })
  }
}

const headerOf = (tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array => {
  const entries: [string, unknown][] = []
  if (Object.keys(metadata).length > 0) entries.push(['__metadata__', metadata])
  const names = new Set(['__metadata__'])
  let begin = 0
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw new RangeError(`tensor "${name}" twice in one file`)
    names.add(name)
    const end = begin + shape.reduce((product, n) => product * n, BYTES[dtype])
    entries.push([name, { dtype, shape, data_offsets: [begin, end] }])
    begin = end
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const bytes = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8))
  json.copy(bytes, 8)
  return bytes
}

const writeData = async (file: FileHandle, { name, dtype, shape, data }: TensorToWrite, hash: Hash | undefined): Promise<void> => {
  const expected = shape.reduce((product, n) => product * n, 1)
  const source = await data()
  let elements = 0
  for await (const piece of ArrayBuffer.isView(source) ? [source] : source) {
    elements += piece.length
    if (elements > expected) break
    await writeAll(file, new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength), hash)
  }
  if (elements !== expected)
    throw new RangeError(`tensor "${name}" of ${dtype} [${shape.join(', ')}] got ${elements > expected ? 'more than ' : ''}${Math.min(elements, expected)} of ${expected} elements`)
}

const writeAll = async (file: FileHandle, bytes: Uint8Array, hash: Hash | undefined): Promise<void> => {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(hash === undefined ? READ_BYTES_MAX : SEALED_BYTES_MAX, bytes.byteLength - done))
    hash?.update(bytes.subarray(done, done + bytesWritten))
    done += bytesWritten
  }
}

/** Makes a rename in a folder durable. Windows cannot sync a folder and does not need to. */
const syncFolder = async (folder: string): Promise<void> => {
  if (process.platform === 'win32') return
  const handle = await open(folder, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
