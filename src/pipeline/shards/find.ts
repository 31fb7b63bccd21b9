/** @file The shards that files, folders and globs name. */
import { stat } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { glob, isDynamicPattern } from 'tinyglobby'
import { UserError } from '../../base/index.js'

export const shardExtensions = ['.jsonl', '.jsonl.gz', '.jsonl.zst', '.parquet', '.txt'] as const
export type ShardExtension = (typeof shardExtensions)[number]

/** The known extension of a path, whatever its case. */
export const extensionOf = (path: string): ShardExtension | undefined =>
  shardExtensions.find((extension) => path.toLowerCase().endsWith(extension))

const known = `known are ${shardExtensions.join(', ')}`

/**
 * The shards of some files, folders (with all below, files of other extensions left out) and globs: in the order
 * given, those of one folder or glob sorted by code unit, each file once. UserError for a path that is not there, a
 * file of an unknown extension, a folder or glob that holds no shard.
 */
export const findShards = async (paths: readonly string[]): Promise<string[]> => {
  if (paths.length === 0) throw new UserError('no shards were named', { fix: 'name files, folders or globs' })
  const found = new Map<string, string>()
  for (const path of paths)
    for (const shard of await shardsOf(path)) if (!found.has(resolve(shard))) found.set(resolve(shard), shard)
  return [...found.values()]
}

const shardsOf = async (path: string): Promise<string[]> => {
  const stats = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw new UserError(`"${path}" cannot be looked at: ${error.message}`, { cause: error, fix: 'check its permissions' })
  })
  if (stats?.isFile()) {
    if (extensionOf(path) === undefined)
      throw new UserError(`"${path}" is no shard by its extension; ${known}`, { fix: 'rename it, or convert it to one of these' })
    return [path]
  }
  if (stats?.isDirectory()) {
    const all = await list('**/*', path)
    const shards = all.filter((file) => extensionOf(file) !== undefined).map((file) => join(path, file))
    if (shards.length === 0)
      throw new UserError(`the folder "${path}" holds no shard among ${all.length} files; ${known}`, { fix: 'name another folder' })
    return shards
  }
  if (stats !== undefined) throw new UserError(`"${path}" is neither a file nor a folder`, { fix: 'name a regular file' })
  if (!isDynamicPattern(path)) throw new UserError(`"${path}" does not exist`, { fix: 'check the path' })
  const all = await list(path)
  const shards = all.filter((file) => extensionOf(file) !== undefined)
  if (shards.length > 0) return shards
  const what = all.length === 0 ? 'matches no file' : `matches ${all.length} files, none of them a shard; ${known}`
  throw new UserError(`the glob "${path}" ${what}`, { fix: 'check the pattern, and quote it from the shell' })
}

const list = async (pattern: string, folder?: string): Promise<string[]> => {
  const files = await glob(pattern, { cwd: folder, onlyFiles: true, expandDirectories: false, absolute: isAbsolute(pattern) })
  return files.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
}
