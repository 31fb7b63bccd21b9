/**
 * @file Files that are there whole or not at all: written under another name beside their place, then renamed.
 */
import { constants, createWriteStream, existsSync, statSync, type WriteStream } from 'node:fs'
import { access, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { once } from 'node:events'
import { basename, dirname, join, resolve } from 'node:path'
import { UserError } from '../../base/index.js'

/** Where something is written until it is whole. */
const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.${process.pid}.tmp`)

const assertFolder = async (folder: string): Promise<void> => {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new UserError(`there is no folder "${folder}"`, { fix: `mkdir -p "${folder}"` })
  try {
    await access(folder, constants.W_OK)
  } catch (cause) {
    throw new UserError(`the folder "${folder}" may not be written`, { cause, fix: 'another --out, or give write permission' })
  }
}

/** What failed to be written, in the user's words; anything else as it is. */
const explained = (error: unknown, path: string): unknown => {
  const code = (error as NodeJS.ErrnoException | null)?.code
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG')
    return new UserError(`no room to write "${path}"; nothing of it was kept`, { cause: error, fix: 'make room, or another --out' })
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOTDIR' || code === 'EISDIR' || code === 'ENAMETOOLONG')
    return new UserError(`"${path}" cannot be written: ${(error as Error).message}`, { cause: error, fix: 'another --out' })
  return error
}

/**
 * The whole path of what is to be written, if it may be: to be asked before a long work, too.
 * @param options.folder the files that the folder will hold; absent: a file is meant
 * @throws UserError if the place is taken (without `force`), is of the other kind, or cannot be written
 */
export const checkTarget = async (out: string, { force, folder }: { readonly force: boolean; readonly folder?: readonly string[] }): Promise<string> => {
  const path = resolve(out)
  await assertFolder(dirname(path))
  if (!existsSync(path)) return path
  const isFolder = statSync(path).isDirectory()
  if (folder === undefined && isFolder)
    throw new UserError(`"${out}" is a folder`, { fix: 'give --out the name of a file' })
  if (folder !== undefined && !isFolder) throw new UserError(`"${out}" is a file`, { fix: 'give --out the name of a folder' })
  const others = folder === undefined ? [] : (await readdir(path)).filter((name) => !folder.includes(name))
  if (others.length > 0)
    throw new UserError(`the folder "${out}" holds other things (${others.slice(0, 3).join(', ')})`, {
      fix: 'give --out the name of a new folder',
    })
  const isEmpty = folder !== undefined && (await readdir(path)).length === 0
  if (!force && !isEmpty) throw new UserError(`"${out}" is there already`, { fix: 'another --out, or --force to overwrite it' })
  return path
}

/**
 * Writes a file whole or not at all: `write` gets the name to write to; when it has resolved, the file is flushed and
 * takes its place. An error, or an abort, removes what was written.
 * @throws UserError if the place is taken (without `force`), is a folder, or cannot be written
 */
export const writeFileWhole = async (
  out: string,
  { force }: { readonly force: boolean },
  write: (path: string) => Promise<void>,
): Promise<void> => {
  const path = await checkTarget(out, { force })
  const temporary = temporaryOf(path)
  try {
    await write(temporary)
    await flush(temporary)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw explained(error, out)
  }
}

/**
 * Writes a folder whole or not at all. `names` are the files that it will hold: an older one with others in it is
 * left alone.
 */
export const writeFolderWhole = async (
  out: string,
  { force, names }: { readonly force: boolean; readonly names: readonly string[] },
  write: (folder: string) => Promise<void>,
): Promise<void> => {
  const path = await checkTarget(out, { force, folder: names })
  const temporary = temporaryOf(path)
  try {
    await rm(temporary, { recursive: true, force: true })
    await mkdir(temporary)
    await write(temporary)
    for (const name of names) await flush(join(temporary, name))
    await rm(path, { recursive: true, force: true })
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw explained(error, out)
  }
}

const flush = async (path: string): Promise<void> => {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Text into a file; `write` waits while the disk is slow, so that no more than a buffer is in memory. */
export interface TextFile {
  write(text: string): Promise<void>
  close(): Promise<void>
}

export const textFile = (path: string): TextFile => {
  const stream: WriteStream = createWriteStream(path)
  let failed: Error | undefined
  stream.on('error', (error) => (failed = error))
  const check = (): void => {
    if (failed !== undefined) throw failed
  }
  return {
    async write(text) {
      check()
      if (!stream.write(text)) await once(stream, 'drain')
      check()
    },
    async close() {
      check()
      stream.end()
      await once(stream, 'close')
      check()
    },
  }
}
