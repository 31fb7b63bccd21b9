/** @file A run begins, or goes on: its checkpoints, factors and queries, the join that was planned, its record. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot, UserError } from '../base/index.js'
import { openFactors, planJoin, type FactorSet, type JoinKind, type Plan } from '../influence/index.js'
import type { Log, QueryValue, RunValue } from '../log/index.js'
import { assertSameSettings, laterSegments, parseRunRecord, settingsRecord, type Json, type RunFacts, type RunRecord, type ScoreSettings } from '../settings/index.js'
import type { Engine } from '../tensor/index.js'
import { contextOf, openCheckpoint, type OpenCheckpoint } from './checkpoint.js'
import type { PipelineContext } from './context.js'
import { homePaths } from './home.js'
import { dampings, prepareGradients, tokenizeQueries, type LaterSet, type PrepareParts, type RunQueryTokens } from './prepare.js'
import { chooseQueries, listQueries } from './queries.js'
import { queryCache } from './query-cache.js'

export interface BegunRun {
  readonly record: RunRecord
  /** True if the run was there before. */
  readonly goesOn: boolean
  readonly checkpoint: OpenCheckpoint
  readonly factors: FactorSet
  readonly queries: readonly RunQueryTokens[]
  /** T at most. */
  readonly context: number
  readonly join: { readonly kind: JoinKind; readonly rank: number }
  /** Of a batch, at most. */
  readonly batchTokens: number
  readonly prepareParts: PrepareParts
}

/** What a scoring works with, opened and held against each other. */
export interface ScoringParts {
  readonly checkpoint: OpenCheckpoint
  readonly queryCheckpoint: OpenCheckpoint
  readonly factors: FactorSet
  readonly queries: readonly RunQueryTokens[]
  /** T at most. */
  readonly context: number
  readonly prepareParts: PrepareParts
}

/** The settings of a scoring, with a run or without one. */
export type ScoringSettings = Pick<
  ScoreSettings, 'home' | 'model' | 'queryModel' | 'factors' | 'join' | 'rank' | 'sharedRank' | 'damping' | 'later' | 'memory' | 'context' | 'batchTokens' | 'seed'
> & Partial<Pick<ScoreSettings, 'stageMemory'>>

/** @throws UserError for whatever does not fit together */
export const openScoring = async (
  settings: ScoringSettings, values: readonly QueryValue[], engine: Engine, { progress, signal, observer }: Pick<PipelineContext, 'progress' | 'signal' | 'observer'>,
): Promise<ScoringParts> => {
  const paths = homePaths(settings.home)
  const checkpoint = await openCheckpoint(settings.model, settings)
  const queryCheckpoint = settings.queryModel === null ? checkpoint : await openCheckpoint(settings.queryModel, settings)
  const folder = join(paths.factors, settings.factors)
  const factors = await openFactors(folder, settings.factors, checkpoint.model.layers)
  if (queryCheckpoint !== checkpoint) await openFactors(folder, settings.factors, queryCheckpoint.model.layers) // the shapes must agree there too
  if (settings.damping.kind === 'segment' && factors.manifest.settings.strategy === 'identity') {
    throw new UserError(`factor set "${settings.factors}" is of --strategy identity, which knows no curvature: a segment's damping is a function of it`, {
      fix: 'fit with --strategy ekfac, or give weights alone (TracIn)',
    })
  }
  const later: LaterSet[] = []
  for (const { name, time } of laterSegments(settings)) later.push({ factors: await openLater(join(paths.factors, name), name, factors), time })
  const queries = tokenizeQueries(values, queryCheckpoint)
  const prepareParts: PrepareParts = {
    engine, cache: queryCache(paths.queryCache, { onDamaged: (problem) => progress.log(problem) }), checkpoint: queryCheckpoint, factors, damping: settings.damping, later, seed: settings.seed, progress, signal, observer,
  }
  return { checkpoint, queryCheckpoint, factors, queries, context: contextOf(checkpoint, settings.context), prepareParts }
}

/** The factors of a later segment, which must be of the same layers. */
const openLater = async (folder: string, name: string, factors: FactorSet): Promise<FactorSet> => {
  const set = await openFactors(folder, name, factors.layers)
  const own = new Set(set.layers.map((layer) => layer.name))
  const missing = factors.layers.find((layer) => !own.has(layer.name))
  if (missing === undefined) return set
  throw new UserError(`factor set "${name}" of --later has no layer ${missing.name}, which "${factors.name}" has`, { fix: 'fit all segments with the same --track' })
}

/** The rank that a join is given: R or k. */
export const rankOf = (kind: JoinKind, { rank, sharedRank }: Pick<ScoringSettings, 'rank' | 'sharedRank'>): number => (kind === 'shared' ? sharedRank : rank)

/** The join for these parts, and the length of its batches. @throws UserError if none fits in memory */
export const planScoring = (
  { checkpoint, factors, queries, context }: Pick<ScoringParts, 'checkpoint' | 'factors' | 'queries' | 'context'>, settings: ScoringSettings,
): Plan => {
  const { rank, sharedRank, batchTokens, memory } = settings
  return planJoin(
    { model: checkpoint.model, tracked: factors.layers, queries: queries.length, rank, sharedRank, context, batchTokens, memory, stages: checkpoint.stages },
    settings.join,
  )
}

/**
 * Several workers may begin a run at the same time: the record that is appended first is the run's, whoever wrote it.
 * @throws UserError for whatever does not fit together
 */
export const beginRun = async (settings: ScoreSettings, engine: Engine, { log, progress, signal, now, observer }: PipelineContext): Promise<BegunRun> => {
  const values = chooseQueries(await listQueries(log), settings)
  const parts = await openScoring(settings, values, engine, { progress, signal, observer })
  const { checkpoint, queryCheckpoint, factors, queries, context, prepareParts } = parts
  const facts: RunFacts = { checkpoint: checkpoint.hash, queryCheckpoint: queryCheckpoint.hash, factorsHash: factors.hash, later: (prepareParts.later ?? []).map((segment) => ({ factors: segment.factors.name, hash: segment.factors.hash, time: segment.time })), queries: values }
  const identityWith = (batchTokens: number): string => settingsRecord({ ...settings, batchTokens }, facts)
  const begun = { checkpoint, factors, queries, context, prepareParts }

  const goOn = async (value: RunValue): Promise<BegunRun> => {
    const record = parseRunRecord(settings.run, value.settings)
    const batchTokens = settings.batchTokens ?? Number(record.settings.batchTokens)
    assertSameSettings(settings.run, JSON.stringify(record.settings), identityWith(batchTokens))
    await prepareGradients(queries, prepareParts)
    return { ...begun, record, goesOn: true, batchTokens, join: { kind: record.join, rank: rankOf(record.join, settings) } }
  }
  const known = await runValue(log, settings.run)
  if (known !== undefined) return goOn(known)

  const plan = planScoring(parts, settings)
  const nats = await prepareGradients(queries, prepareParts)
  const record: RunRecord = {
    run: settings.run,
    settings: JSON.parse(identityWith(plan.batchTokens)) as { readonly [name: string]: Json },
    model: checkpoint.folder,
    queryModel: queryCheckpoint.folder,
    checkpoint: checkpoint.hash,
    queryCheckpoint: queryCheckpoint.hash,
    factors: settings.factors,
    factorsHash: factors.hash,
    join: plan.chosen.kind,
    joinReason: plan.reason,
    damping: await dampings(prepareParts),
    queries: queries.map(({ value: { id, prompt, completion, group, task, answer, steps }, tokens, promptTokens }, q) => ({
      id, prompt, completion, group, task, answer, steps, tokens: tokens.length, promptTokens, informationNats: nats[q],
    })),
    createdMs: now(),
    versions: versions(engine),
  }
  const value: RunValue = { run: settings.run, createdMs: record.createdMs, settings: JSON.stringify(record) }
  const { appended } = await log.append([{ topic: 'runs', key: settings.run, value }], { unique: true })
  const first = appended === 0 ? await runValue(log, settings.run) : undefined
  if (first !== undefined) return goOn(first)
  return { ...begun, record, goesOn: false, batchTokens: plan.batchTokens, join: { kind: plan.chosen.kind, rank: rankOf(plan.chosen.kind, settings) } }
}

const runValue = async (log: Log, run: string): Promise<RunValue | undefined> => (await log.latest('runs', run)).find(({ key }) => key === run)?.value

const versions = (engine: Engine): Readonly<Record<string, string>> => {
  const versionOf = (path: string): string => (JSON.parse(readFileSync(path, 'utf8')) as { readonly version: string }).version
  return {
    tributary: versionOf(join(packageRoot(), 'package.json')),
    node: process.versions.node,
    ...engine.versions,
  }
}
