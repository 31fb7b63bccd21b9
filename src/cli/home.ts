/** @file What is in a home: factor sets, bytes. */
import { existsSync, readFileSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** A factor set as its manifest describes it. */
export interface FactorSet {
  readonly name: string
  readonly strategy: string | null
  readonly model: string | null
  /** Documents that it was to be fitted on at most. */
  readonly documents: number | null
  /** `covariances`, `eigenbases`, `eigenvalues`, `complete`. */
  readonly stage: string | null
  readonly complete: boolean
}

/** The factor sets in a folder, by name. One whose manifest cannot be read counts as incomplete. */
export const factorSets = async (folder: string): Promise<readonly FactorSet[]> => {
  if (!existsSync(folder)) return []
  const names = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name)
  return names.sort().map((name) => {
    const manifest = readManifest(join(folder, name, 'manifest.json'))
    const settings = (typeof manifest.settings === 'object' && manifest.settings !== null ? manifest.settings : {}) as Record<string, unknown>
    const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)
    return {
      name,
      strategy: textOf(settings.strategy),
      model: textOf(manifest.model),
      documents: typeof settings.documents === 'number' ? settings.documents : null,
      stage: textOf(manifest.stage),
      complete: manifest.stage === 'complete',
    }
  })
}

const readManifest = (path: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

/** Bytes that a folder takes on disk, sparse files counted as what they hold. */
export const bytesOnDisk = async (folder: string): Promise<number> => {
  if (!existsSync(folder)) return 0 // a log on a cluster needs no home to be read
  let bytes = 0
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    try {
      if (entry.isDirectory()) bytes += await bytesOnDisk(path)
      else if (entry.isFile()) bytes += (await stat(path)).blocks * 512
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error // gone since: another process works here
    }
  }
  return bytes
}
