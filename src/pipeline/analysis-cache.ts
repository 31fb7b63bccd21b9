/**
 * @file The states of a run's analyses in the home, one file for each partition of `influence`: what was read once is not
 * read again. Only ever a cache: one that is damaged, of another version or of other settings is made anew.
 *
 *     HOME/analyses/RUN/PARTITION.state     packed (analysis/packed.ts): whose it is and the offsets that are in; the state
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AnalysisState, pack, unpack, type StateOptions } from '../analysis/index.js'

/** A state and which records of its partition are in: `[from, end)`. */
export interface CachedState {
  readonly state: AnalysisState
  readonly from: number
  readonly end: number
}

export interface AnalysisCache {
  /** Undefined where there is none that fits. */
  load(partition: number, options: StateOptions): CachedState | undefined
  save(partition: number, cached: CachedState): void
}

interface Head {
  readonly of: string
  readonly from: number
  readonly end: number
}

/** @param of whatever makes the states of two runs differ beside their queries, as text */
export const analysisCache = (folder: string, of: string): AnalysisCache => {
  const pathOf = (partition: number): string => join(folder, `${partition}.state`)
  return {
    load(partition, options) {
      if (!existsSync(pathOf(partition))) return undefined
      try {
        const { head, parts } = unpack(readFileSync(pathOf(partition)))
        const { of: whose, from, end } = head as Head
        return whose === of ? { state: AnalysisState.deserialize(options, parts[0]), from, end } : undefined
      } catch {
        return undefined // made anew
      }
    },
    save(partition, { state, from, end }) {
      mkdirSync(folder, { recursive: true })
      const temporary = `${pathOf(partition)}.${process.pid}.tmp`
      try {
        writeFileSync(temporary, pack({ of, from, end } satisfies Head, [state.serialize()]))
        renameSync(temporary, pathOf(partition))
      } finally {
        rmSync(temporary, { force: true })
      }
    },
  }
}
