/**
 * @file How far a score hangs on one token, for pairs of a query and a document: each is explained (explain.ts) once, and
 * what was found is kept in the home, since it never changes.
 *
 *     HOME/analyses/RUN/concentrations.json     whose they are, and the pairs
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { concentration, offsetOfPlace, pairKey, partitionOfPlace, type JudgedPair } from '../analysis/index.js'
import { UserError } from '../base/index.js'
import type { Log } from '../log/index.js'
import type { RunRecord } from '../settings/index.js'
import { silentProgress, type Progress } from './context.js'
import { openExplainer, type Explanation } from './explain.js'
import { silentObserver, type Observer } from './observer.js'
import { Interrupted } from './outputs/index.js'

export type Judged = ReadonlyMap<string, JudgedPair>

const kept = z.object({
  of: z.string(),
  pairs: z.array(z.object({
    query: z.string(), place: z.number(), piece: z.number(), document: z.string(), source: z.string(), tokens: z.number(), concentration: z.number().nullable(),
    token: z.string(), tokenAt: z.number(), tokenShare: z.number(),
  })),
})
/** Pairs between two savings. */
const saveEvery = 200

const pathOf = (home: string, run: RunRecord): string => join(home, 'analyses', run.run, 'concentrations.json')
/** A run that was begun again under its name is another. */
const identityOf = ({ run, createdMs, settings }: RunRecord): string => createHash('sha256').update(JSON.stringify([run, createdMs, settings])).digest('hex')

/** What was judged before, by `pairKey`; nothing where that is damaged, or of another run. */
export const judgedBefore = (home: string, run: RunRecord): Map<string, JudgedPair> => {
  if (!existsSync(pathOf(home, run))) return new Map()
  try {
    const { of, pairs } = kept.parse(JSON.parse(readFileSync(pathOf(home, run), 'utf8')))
    return new Map(of === identityOf(run) ? pairs.map((pair) => [pairKey(pair), pair]) : [])
  } catch {
    return new Map() // only ever a cache
  }
}

const save = (home: string, run: RunRecord, judged: Judged): void => {
  const path = pathOf(home, run)
  mkdirSync(join(home, 'analyses', run.run), { recursive: true })
  const temporary = `${path}.${process.pid}.tmp`
  try {
    writeFileSync(temporary, JSON.stringify({ of: identityOf(run), pairs: [...judged.values()] } satisfies z.infer<typeof kept>))
    renameSync(temporary, path)
  } finally {
    rmSync(temporary, { force: true })
  }
}

export interface JudgeOptions {
  /** Where factors are, and what was judged before. */
  readonly home: string
  readonly threads: number | null
  readonly progress?: Progress
  readonly signal?: AbortSignal
  readonly observer?: Observer
}

/**
 * Judges pairs that were not judged before, those of one query together: a forward and backward pass each.
 * A document that is kept no longer is left out.
 * @throws UserError where checkpoint or factors of the run are gone or are others; Interrupted when the signal is aborted
 */
export const judge = async (
  log: Log, run: RunRecord, pairs: readonly Pick<JudgedPair, 'query' | 'place' | 'piece'>[],
  { home, threads, progress = silentProgress, signal = new AbortController().signal, observer = silentObserver }: JudgeOptions,
): Promise<Judged> => {
  const judged = judgedBefore(home, run)
  const missing = pairs.filter((pair) => !judged.has(pairKey(pair)))
  if (missing.length === 0) return judged
  observer.quiet('compile')
  await using explainer = await openExplainer(log, run, { home, threads, model: null, queryModel: null }, { signal })
  progress.start(missing.length, 'documents of the tables')
  try {
    for (const [at, pair] of missing.entries()) {
      if (signal.aborted) throw new Interrupted('interrupted; what was judged is kept')
      const { query, place, piece } = pair
      const explained = observer.time('explain')
      try {
        judged.set(pairKey(pair), judgedPair(pair, await explainer.explain({ query, piece, partition: partitionOfPlace(place), offset: offsetOfPlace(place) })))
      } catch (error) {
        if (!(error instanceof UserError)) throw error // a document that is there no longer
      }
      explained()
      progress.update(at + 1)
      if ((at + 1) % saveEvery === 0) save(home, run, judged)
    }
  } finally {
    save(home, run, judged)
    progress.stop()
  }
  return judged
}

const judgedPair = ({ query, place, piece }: Pick<JudgedPair, 'query' | 'place' | 'piece'>, { document, source, tokens }: Explanation): JudgedPair => {
  const terms = tokens.map(({ term }) => term)
  const sum = terms.reduce((total, term) => total + Math.abs(term), 0)
  let strongest = 0
  terms.forEach((term, at) => {
    if (Math.abs(term) > Math.abs(terms[strongest])) strongest = at
  })
  return {
    query, place, piece, document, source, tokens: tokens.length, concentration: sum > 0 ? concentration(terms) : null,
    token: tokens[strongest].text, tokenAt: strongest, tokenShare: sum > 0 ? Math.abs(terms[strongest]) / sum : 0,
  }
}
