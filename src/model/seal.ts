/**
 * @file Seals: the sha256 of a safetensors file, in the file itself. Whoever reads what tributary has written can tell a file
 * that is as it was written from one that was torn, edited or hit by a failing disk.
 *
 *     byte 8  {"__metadata__":{"sha256":"<64 hexadecimal digits>", ...
 *
 * The digits are the sha256 of the whole file with zeros in their place.
 */
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { UserError } from '../base/index.js'
import { readSafetensors } from './safetensors.js'
import { sealAt, sealBefore, sealEnd, sealUnset } from './seal-place.js'

/** Hashed at a time: about a millisecond in which nothing else runs. */
const chunkBytes = 1 << 20

/** What the file says of itself; undefined if it carries no seal. @throws UserError if it cannot be opened */
export const readSeal = async (path: string): Promise<string | undefined> => (await readHead(path)).seal

const readHead = async (path: string): Promise<{ readonly head: Buffer; readonly seal: string | undefined }> => {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw new UserError(`"${path}" cannot be opened`, { cause })
  })
  try {
    const bytes = Buffer.alloc(sealEnd)
    const { bytesRead } = await file.read(bytes, 0, sealEnd, 0)
    const head = bytes.subarray(0, bytesRead)
    const digits = head.toString('latin1', sealAt, sealEnd)
    const isSealed = head.toString('latin1', 8, sealAt) === sealBefore && /^[0-9a-f]{64}$/.test(digits)
    return { head, seal: isSealed ? digits : undefined }
  } finally {
    await file.close()
  }
}

/**
 * Reads the file once, in chunks, and resolves if it is whole and its content is what its seal says.
 * @param expected the seal that it should carry; absent: any
 * @throws UserError naming the file and what differs
 */
export const checkSeal = async (path: string, expected?: string): Promise<void> => {
  await readSafetensors(path) // a torn file is told by what is missing of it
  const { head, seal } = await readHead(path)
  if (seal === undefined) throw new UserError(`"${path}" does not carry the sha256 of its content`)
  if (expected !== undefined && seal !== expected) throw new UserError(`"${path}" is another file than it was: it is sealed with the sha256 ${seal}, not ${expected}`)
  const hash: Hash = createHash('sha256')
  hash.update(head.subarray(0, sealAt)).update(sealUnset)
  for await (const chunk of createReadStream(path, { start: sealEnd, highWaterMark: chunkBytes })) hash.update(chunk as Uint8Array)
  const found = hash.digest('hex')
  if (found !== seal) throw new UserError(`"${path}" was changed or damaged after it was written: its content has the sha256 ${found}, it was ${seal}`)
}

/** Checks files, each once for as long as its size, time and inode stay what they are. */
export const sealChecks = (): ((path: string, expected?: string) => Promise<void>) => {
  const known = new Map<string, Promise<void>>()
  return async (path, expected) => {
    const { ino, size, mtimeNs } = await stat(path, { bigint: true }).catch((cause: unknown) => {
      throw new UserError(`"${path}" cannot be opened`, { cause })
    })
    const identity = [path, ino, size, mtimeNs, expected].join(' ')
    const check = known.get(identity) ?? checkSeal(path, expected)
    known.set(identity, check)
    await check.catch((error: unknown) => {
      known.delete(identity)
      throw error
    })
  }
}
