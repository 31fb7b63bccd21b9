/** @file An observer that writes log lines: a line a batch and a commit at debug, every stage at trace. */
import type { Logger } from 'pino'
import type { ObservedStage, Observer } from '../pipeline/observer.js'
import { causeClass } from './causes.js'

/** Stages that come once or a few times: told at debug already. */
const rare: ReadonlySet<ObservedStage> = new Set(['restore', 'prepare', 'compile', 'rescore', 'decompose'])

/** @param clock milliseconds, never backwards */
export const logObserver = (log: Logger, { clock }: { readonly clock: () => number }): Observer => {
  let batches = 0
  const since = (beganMs: number): number => Math.round((clock() - beganMs) * 1000) / 1000
  const nothing = (): void => {}
  return {
    ready: () => log.info('ready'),
    idle: () => log.debug('caught up'),
    quiet: (stage) => log.debug({ stage }, 'stage begins'),
    time: (stage) => {
      const level = rare.has(stage) ? 'debug' : 'trace'
      if (!log.isLevelEnabled(level)) return nothing
      const beganMs = clock()
      return () => log[level]({ stage, ms: since(beganMs) }, 'stage')
    },
    batch: ({ partition, offsets, sequences, tokens, padded }) => {
      const batch = batches++
      if (!log.isLevelEnabled('debug')) return nothing
      const beganMs = clock()
      return () => log.debug({ batch, partition, offsets, sequences, tokens, padded, ms: since(beganMs) }, 'batch')
    },
    documents: nothing,
    duplicates: nothing,
    deadLetters: (letters) => {
      if (letters.length === 0 || !log.isLevelEnabled('info')) return
      const causes: Record<string, number> = {}
      for (const letter of letters) {
        const name = `${letter.stage}/${causeClass(letter)}`
        causes[name] = (causes[name] ?? 0) + 1
      }
      log.info({ count: letters.length, causes }, 'dead letters')
    },
    scores: nothing,
    committed: ({ partition, records, offset, appendedMs }) => log.debug({ partition, offset, records, documents: appendedMs.length }, 'committed'),
    notCommitted: ({ partition, reason }) => log.warn({ partition, reason }, 'a commit was refused'),
    assigned: (partition) => log.info({ partition }, 'assigned'),
    lost: (partition) => log.info({ partition }, 'lost'),
    cache: ({ kind, hits, misses }) => log.debug({ kind, hits, misses }, 'query cache'),
    engine: (engine) => log.info({ ...engine }, 'engine'),
  }
}
