/** @file A home: the folder that holds log and artifacts, and where each of them lies in it. */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../base/index.js'
import { embeddedLog, type Log } from '../log/index.js'

/** Where things lie in a home. */
export const homePaths = (home: string): { readonly log: string; readonly factors: string; readonly queryCache: string } => ({
  log: join(home, 'log'),
  /** One folder per factor set. */
  factors: join(home, 'factors'),
  queryCache: join(home, 'query-cache'),
})

/**
 * Opens the log of a home, with its topics. The home is made if it is not there.
 * @param options.partitions of `documents`, where it is made now
 * @throws UserError if the home cannot be made or its log not be opened, or if `documents` has another number of
 *   partitions
 */
export const openLog = async (home: string, { partitions }: { readonly partitions?: number } = {}): Promise<Log> => {
  try {
    mkdirSync(home, { recursive: true })
  } catch (cause) {
    throw new UserError(`the home "${home}" cannot be made: ${(cause as Error).message}`, { cause, fix: 'another --home DIR' })
  }
  const log = await embeddedLog(homePaths(home).log)
  try {
    await log.ensureTopics(partitions === undefined ? {} : { partitions })
    return log
  } catch (error) {
    await log[Symbol.asyncDispose]()
    throw error
  }
}

/** Opens the log of a home for reading only. @throws UserError if there is none */
export const openLogForReading = async (home: string): Promise<Log> => {
  if (!existsSync(home) || !statSync(home).isDirectory())
    throw new UserError(`there is no home at "${home}"`, { fix: 'tributary ingest PATH... (or another --home DIR)' })
  return embeddedLog(homePaths(home).log, { readonly: true })
}
