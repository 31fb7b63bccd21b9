/**
 * @file What makes a run the run it is. A run's scores and tables are one experiment: going on with it under other
 * settings would mix two. So the settings below are recorded when it begins, and compared when it goes on.
 *
 * | identifies the run | why |
 * |---|---|
 * | hashes of both checkpoints and of the factors, name of the factors | they are the experiment |
 * | queries: ids and contents, in order | an influence record is one number per query, in this order |
 * | join, rank, sharedRank, damping, later segments (if given), seed | they change scores |
 * | k, rescore | tables of another k cannot be merged; final scores differ |
 * | long, context | they say what is scored of a document |
 * | fromOffset, fromTime, onlyPartition, onlySource (if given) | they say which documents it is about |
 * | batchTokens (given or chosen), stageMemory (if given) | sums in another order differ in the last bits, and a run that went on is bit for bit an undisturbed one |
 * | engine, with its device if not the CPU | engines agree to a tolerance, not to the bit |
 * | precision (if not f32) | numbers of 16 bits change scores in the third or fourth digit |
 *
 * Free: log, home and the paths of checkpoints (they may move; `checkpoints` are runs of their own), threads, memory (what `auto` chose is kept with the run),
 * commitEveryMs, follow, serve, json, quiet, listen, logLevel, logFormat.
 */
import { createHash } from 'node:crypto'
import { UserError } from '../base/index.js'
import type { QueryValue } from '../log/topics.js'
import type { Json } from './run-record.js'
import type { DeviceChoice, EngineName, ScoreSettings } from './settings.js'

/** What the settings came to: contents, not paths. */
export interface RunFacts {
  /** Hash of the documents' checkpoint. */
  readonly checkpoint: string
  /** Hash of the queries' checkpoint; the same where there is one only. */
  readonly queryCheckpoint: string
  /** Hash of the factor set. */
  readonly factorsHash: string
  /** The later segments of the training, if any. */
  readonly later?: readonly { readonly factors: string; readonly hash: string; readonly time: number }[]
  /** The queries chosen, in the run's order. */
  readonly queries: readonly QueryValue[]
}

/** What a run and a factor set record of what computed: the engine, and its device if that is not the CPU. */
export type EngineIdentity = 'onnx' | 'onnx/cuda' | 'onnx/webgpu' | 'tfjs'

/** The identity of an engine on a device: engines of one identity go on with each other's work. `auto` that nobody decided counts as the CPU. */
export const engineIdentity = (engine: EngineName, device: DeviceChoice): EngineIdentity =>
  engine === 'onnx' && (device === 'cuda' || device === 'webgpu') ? `${engine}/${device}` : engine

/** The settings that give an identity again. */
export const engineOfIdentity = (identity: Json | undefined): { readonly engine: EngineName; readonly device: DeviceChoice } => {
  // Runs that were begun when there was one engine do not name it.
  const [engine, device] = (typeof identity === 'string' ? identity : 'onnx').split('/')
  if (engine === 'tfjs') return { engine: 'tfjs', device: 'auto' }
  return { engine: 'onnx', device: device === 'cuda' || device === 'webgpu' ? device : 'cpu' }
}

/** JSON with the keys of every object in order: equal values make equal text. */
export const canonicalJson = (value: Json): string => {
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonicalJson(item)).join(',')}]`
  const entries = Object.entries(value as { readonly [key: string]: Json }).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
}

/** The hash of what a query asks (prompt and completion); group, task and answer are remarks on it. */
export const queryHash = ({ prompt, completion }: Pick<QueryValue, 'prompt' | 'completion'>): string =>
  createHash('sha256').update(canonicalJson([prompt, completion])).digest('hex').slice(0, 16)

/** Canonical JSON of what identifies a run. */
export const settingsRecord = (settings: ScoreSettings & { readonly batchTokens: number }, facts: RunFacts): string =>
  canonicalJson({
    checkpoint: facts.checkpoint,
    queryCheckpoint: facts.queryCheckpoint,
    factors: settings.factors,
    factorsHash: facts.factorsHash,
    join: settings.join,
    rank: settings.rank,
    sharedRank: settings.sharedRank,
    damping: { ...settings.damping },
    ...(facts.later === undefined || facts.later.length === 0 ? {} : { later: facts.later.map((segment) => ({ ...segment })) }),
    k: settings.k,
    rescore: settings.rescore,
    long: settings.long,
    context: settings.context,
    batchTokens: settings.batchTokens,
    engine: engineIdentity(settings.engine, settings.device),
    ...(settings.precision === 'f32' ? {} : { precision: settings.precision }),
    seed: settings.seed,
    ...(settings.stageMemory === null ? {} : { stageMemory: settings.stageMemory }),
    ...sliceRecord(settings),
    queries: facts.queries.map((query) => ({ id: query.id, hash: queryHash(query) })),
  })

/** The slice of the documents, where it is not all of them: runs of all documents are as they were recorded before there were slices. */
const sliceRecord = ({ fromOffset, fromTime, onlyPartition, onlySource }: ScoreSettings): Record<string, Json> => ({
  ...(fromOffset === 0 ? {} : { fromOffset }),
  ...(fromTime === null ? {} : { fromTime: new Date(fromTime).toISOString() }),
  ...(onlyPartition.length === 0 ? {} : { onlyPartition: [...new Set(onlyPartition)].sort((a, b) => Number(a) - Number(b)) }),
  ...(onlySource.length === 0 ? {} : { onlySource: [...new Set(onlySource)].sort() }),
})

const show = (value: Json | undefined): string => {
  const text = value === undefined ? 'nothing' : canonicalJson(value)
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`
}

/** Which queries were added, removed or changed, in a few words. */
const queriesDiffer = (recorded: Json | undefined, now: Json | undefined): string => {
  type Entry = { readonly id: string; readonly hash: string }
  const was = new Map((recorded as unknown as readonly Entry[] ?? []).map(({ id, hash }) => [id, hash]))
  const is = new Map((now as unknown as readonly Entry[] ?? []).map(({ id, hash }) => [id, hash]))
  const some = (ids: readonly string[]): string =>
    ids.slice(0, 3).join(', ') + (ids.length > 3 ? ` and ${ids.length - 3} more` : '')
  const added = [...is.keys()].filter((id) => !was.has(id))
  const removed = [...was.keys()].filter((id) => !is.has(id))
  const changed = [...is].filter(([id, hash]) => was.has(id) && was.get(id) !== hash).map(([id]) => id)
  const parts = [
    ...(added.length > 0 ? [`added ${some(added)}`] : []),
    ...(removed.length > 0 ? [`removed ${some(removed)}`] : []),
    ...(changed.length > 0 ? [`changed ${some(changed)}`] : []),
  ]
  return `queries: ${was.size} then, ${is.size} now (${parts.length > 0 ? parts.join('; ') : 'in another order'})`
}

/** What is summed, by name and weight; of the same names and weights, which run is another. */
const sumsDiffer = (recorded: Json | undefined, now: Json | undefined): string => {
  type Part = { readonly run: string; readonly weight: number; readonly settings: Json }
  const [was, is] = [recorded, now].map((sum) => (sum ?? []) as unknown as readonly Part[])
  const named = (parts: readonly Part[]): string => (parts.length === 0 ? 'nothing' : parts.map(({ run, weight }) => `${weight} × ${run}`).join(' + '))
  const others = was.filter((part, at) => canonicalJson(part.settings) !== canonicalJson(is[at]?.settings ?? null)).map(({ run }) => run)
  return named(was) === named(is) ? `sum: ${others.join(', ')} of other settings` : `sum: ${named(was)} then, ${named(is)} now`
}

/**
 * Refuses to go on with a run under other settings than it began with.
 * @param recorded canonical JSON of the run's record (`RunRecord.settings`)
 * @param now      canonical JSON of what is asked for
 * @throws UserError that lists every difference
 */
export const assertSameSettings = (run: string, recorded: string, now: string): void => {
  // Runs that were begun when there was one engine do not name it.
  const was: { readonly [key: string]: Json } = { engine: 'onnx', ...(JSON.parse(recorded) as object) }
  const is: { readonly [key: string]: Json } = { engine: 'onnx', ...(JSON.parse(now) as object) }
  const keys = [...new Set([...Object.keys(was), ...Object.keys(is)])].sort()
  const differences = keys
    .filter((key) => show(was[key]) !== show(is[key]) || canonicalJson(was[key] ?? null) !== canonicalJson(is[key] ?? null))
    .map((key) => (key === 'queries' ? queriesDiffer(was[key], is[key]) : key === 'sum' ? sumsDiffer(was[key], is[key]) : `${key}: ${show(was[key])} then, ${show(is[key])} now`))
  if (differences.length === 0) return
  throw new UserError(`run "${run}" began under other settings:\n${differences.map((line) => `  ${line}`).join('\n')}`, {
    fix: `give the same settings${flagsOfEngine(was['engine'], is['engine'])} to go on with it, or a new --run name to begin another`,
  })
}

/** What to give where the engine was another, since `auto` chooses by the machine. */
export const flagsOfEngine = (was: Json | undefined, is: Json | undefined): string => {
  if (was === is) return ''
  const { engine, device } = engineOfIdentity(was)
  if (engine === 'tfjs') return ' (--engine tfjs)'
  return device === 'cpu' ? ' (--engine onnx --device cpu)' : ` (--device ${device}, on a machine that has it)`
}
