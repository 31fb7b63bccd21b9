/**
 * @file What a checkpoint is, as one hash: of config.json, the weights and tokenizer.json, byte for byte. Names what
 * was computed from it (factors, query caches), so a copy elsewhere is the same checkpoint and an edited one is not.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { UserError } from '../base/index.js'
import { readCheckpointTensors } from './safetensors.js'

/**
 * sha256 in hex over name, size and sha256 of every file that tributary reads of a checkpoint.
 * @param cache a folder for the hashes of files, by (path, size, time of change, inode): a second call reads no weights
 * @throws UserError if a file is missing, broken, or changes while it is read
 */
export const checkpointHash = async (folder: string, { cache }: { readonly cache?: string } = {}): Promise<string> => {
  const whole = createHash('sha256').update('tributary checkpoint 1\n')
  for (const { role, path } of await filesOf(folder)) {
    const { size, sha256 } = await fileHash(path, cache)
    whole.update(`${role} ${size} ${sha256}\n`)
  }
  return whole.digest('hex')
}

/** Weights by their order, not by name: links of a cache may be named anyhow. */
const filesOf = async (folder: string): Promise<readonly { role: string; path: string }[]> => {
  const weights = new Set([...(await readCheckpointTensors(folder)).values()].map(({ path }) => path))
  const tokenizer = join(folder, 'tokenizer.json')
  const hasTokenizer = await access(tokenizer).then(() => true, () => false)
  return [
    { role: 'config', path: join(folder, 'config.json') },
    ...[...weights].map((path, i) => ({ role: `weights ${i}`, path })),
    ...(hasTokenizer ? [{ role: 'tokenizer', path: tokenizer }] : []),
  ]
}

interface FileHash {
  readonly size: number
  readonly sha256: string
}

const fileHash = async (path: string, cache: string | undefined): Promise<FileHash> => {
  const identity = await identityOf(path)
  const remembered = cache === undefined ? undefined : join(cache, `${sha256Of(identity.key)}.sha256`)
  if (remembered !== undefined) {
    const sha256 = await readFile(remembered, 'utf8').catch(() => '')
    if (/^[0-9a-f]{64}$/.test(sha256)) return { size: identity.size, sha256 }
  }
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Uint8Array)
  const sha256 = hash.digest('hex')
  if ((await identityOf(path)).key !== identity.key)
    throw new UserError(`"${path}" changed while it was read`, { fix: 'start again when it is written' })
  if (cache !== undefined && remembered !== undefined) await remember(cache, remembered, sha256)
  return { size: identity.size, sha256 }
}

const identityOf = async (path: string): Promise<{ key: string; size: number }> => {
  try {
    const real = await realpath(path)
    const { size, mtimeMs, ino } = await stat(real)
    return { key: JSON.stringify([real, size, mtimeMs, ino]), size }
  } catch (cause) {
    throw new UserError(`"${path}" cannot be read`, { cause })
  }
}

const sha256Of = (text: string): string => createHash('sha256').update(text).digest('hex')

/** A cache that cannot be written costs time, nothing else. */
const remember = async (cache: string, path: string, sha256: string): Promise<void> => {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    await mkdir(cache, { recursive: true })
    await writeFile(temporary, sha256)
    await rename(temporary, path)
  } catch {
    await rm(temporary, { force: true }).catch(() => undefined)
  }
}
