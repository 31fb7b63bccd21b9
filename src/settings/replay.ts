/** @file The settings of an experiment that is an earlier one with some of them changed. */
import { commandFields, kebab } from './fields.js'
import { engineOfIdentity } from './identity.js'
import type { Damping } from './kinds.js'
import { resolveSettings, type Given } from './resolve.js'
import { nearest } from './run-file.js'
import type { RunRecord } from './run-record.js'
import { dampingText, laterOfRecord } from './segments.js'
import type { ScoreSettings } from './settings.js'
import { UsageError } from './usage-error.js'

/** What of a run another one of the same documents takes over. */
const inherited = [
  'factors', 'join', 'rank', 'sharedRank', 'k', 'rescore', 'long', 'context', 'batchTokens', 'seed', 'precision', 'fromOffset', 'fromTime', 'onlyPartition', 'onlySource',
] as const
const notToSet = new Set<string>(['run', 'home', 'log', 'json', 'quiet'])

/**
 * The settings of `tributary score` for a run like an earlier one: the same checkpoints, factors, queries and documents,
 * but for what is changed.
 * @param set "damping=0.2x", with the names that the run file has
 * @param given flags and variables for what identifies no run (threads, memory, ...), and the slice of documents
 * @throws UsageError for a name that is none, or a value that is not allowed
 */
export const replaySettings = (old: RunRecord, { run, set, given }: { readonly run: string; readonly set: readonly string[]; readonly given: Given }): ScoreSettings => {
  const flags: Record<string, unknown> = {
    model: old.model,
    ...(old.queryModel === old.model ? {} : { queryModel: old.queryModel }),
    queries: old.queries.map(({ id }) => id),
    damping: dampingText(old.settings.damping as unknown as Damping),
    later: laterOfRecord(old.settings.later),
    ...engineOfIdentity(old.settings.engine),
  }
  for (const key of inherited) if (old.settings[key] !== undefined && old.settings[key] !== null) flags[key] = old.settings[key]
  for (const [key, value] of Object.entries(given.flags)) if (value !== undefined) flags[key] = value
  const keys = Object.entries(commandFields.score).filter(([key]) => !notToSet.has(key))
  for (const pair of set) {
    const at = pair.indexOf('=')
    const name = pair.slice(0, Math.max(0, at))
    const known = keys.find(([key]) => kebab(key) === name || key === name)
    if (at < 1 || known === undefined) {
      const near = at < 1 ? undefined : nearest(name, keys.map(([key]) => kebab(key)))
      throw new UsageError(at < 1 ? `--set ${pair}: NAME=VALUE is wanted` : `--set ${pair}: there is no setting "${name}"${near === undefined ? '' : `; did you mean "${near}"?`}`, {
        fix: `settings: ${keys.map(([key]) => kebab(key)).sort().join(', ')}`,
      })
    }
    flags[known[0]] = known[1].kind.arity === 'one' ? pair.slice(at + 1) : known[1].kind.parse(pair.slice(at + 1))
  }
  return resolveSettings('score', { flags: { ...flags, run }, env: given.env })
}
