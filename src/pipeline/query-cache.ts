/**
 * @file The query cache: what was computed of a query, in files named by the hash of everything it depends on, so that
 * runs share it and nothing stale can be taken for it. Each file carries the sha256 of its content, which is checked once by every
 * process that reads it: a file that is damaged is told, removed and made again.
 *
 *     query-cache/gradients/<hash>.safetensors   ā and δ of every tracked layer, and −f
 *                 dense/…   low-rank/…           Q̃ of one query, by layer
 *                 shared/…                       P, R and C of a whole query set
 */
import { createHash } from 'node:crypto'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { UserError } from '../base/index.js'
import { readSafetensors, readTensor, removeUnfinished, sealChecks, writeSafetensors, type TensorInfo } from '../model/index.js'

/** Changes when a file's meaning does: older files are then not found. */
const format = 2

/** Runs share the cache: what was not finished is removed once it is older than any writing takes. */
const unfinishedMsMin = 24 * 3_600_000

export type CacheKind = 'gradients' | 'dense' | 'low-rank' | 'shared'

/** The identity of a cached thing: any JSON. */
export type CacheKey = readonly unknown[]

export interface CachedTensors {
  has(name: string): boolean
  /** f32, row-major, of this many numbers. */
  read(name: string, length: number): Promise<Float32Array>
}

export interface QueryCache {
  /** The file of a key if it is there and as it was written. */
  find(kind: CacheKind, key: CacheKey): Promise<CachedTensors | undefined>
  /** All or nothing. */
  write(kind: CacheKind, key: CacheKey, tensors: Readonly<Record<string, Float32Array>>): Promise<void>
}

/** @param options.onDamaged is told of files that are not as they were written; they are gone then */
export const queryCache = (folder: string, { onDamaged = () => undefined }: { readonly onDamaged?: (problem: string) => void } = {}): QueryCache => {
  const checked = sealChecks()
  const pathOf = (kind: CacheKind, key: CacheKey): string =>
    join(folder, kind, `${createHash('sha256').update(JSON.stringify([format, kind, ...key])).digest('hex')}.safetensors`)
  return {
    find: async (kind, key) => {
      const path = pathOf(kind, key)
      if (!(await stat(path).then(() => true, () => false))) return undefined
      let tensors: ReadonlyMap<string, TensorInfo>
      try {
        await checked(path)
        tensors = await readSafetensors(path)
      } catch (error) {
        if (!(error instanceof UserError)) throw error
        await rm(path, { force: true }) // it is only a cache
        onDamaged(`${error.message}: it is made again`)
        return undefined
      }
      return {
        has: (name) => tensors.has(name),
        read: async (name, length) => {
          const info = tensors.get(name)
          const values = info === undefined ? undefined : await readTensor(info)
          if (values?.length !== length) throw new UserError(`"${path}" should hold ${length} numbers of "${name}", has ${values?.length ?? 'none'}`, { fix: 'delete the file: it is a cache' })
          return values
        },
      }
    },
    write: async (kind, key, tensors) => {
      const path = pathOf(kind, key)
      await mkdir(join(folder, kind), { recursive: true })
      await removeUnfinished(join(folder, kind), { olderThanMs: unfinishedMsMin })
      await writeSafetensors(path, Object.entries(tensors).map(([name, values]) => ({ name, dtype: 'F32' as const, shape: [values.length], data: () => values })), { key: JSON.stringify(key) }, { sealed: true })
    },
  }
}
