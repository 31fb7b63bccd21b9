/**
 * @file Settings for who calls the pipelines as a library: what is needed is given, the defaults of the command line are
 * filled in, and everything is checked as there. Neither variables nor run files are looked at.
 */
import { resolveGlobalSettings, resolveSettings } from './resolve.js'
import { dampingText } from './segments.js'
import type { FitSettings, GlobalSettings, IngestSettings, ScoreSettings } from './settings.js'

type Given<Settings, Needed extends keyof Settings> = Pick<Settings, Needed> & Partial<Settings>

export type IngestOptions = Given<IngestSettings, 'paths'>
export type FitOptions = Given<FitSettings, 'model' | 'factors' | 'documents'>
export type ScoreOptions = Given<ScoreSettings, 'run' | 'model' | 'factors'>

/** @throws UsageError for a value that is not allowed */
export const globalSettings = (options: Partial<GlobalSettings> = {}): GlobalSettings => resolveGlobalSettings(given(options))

/** @throws UsageError for a value that is not allowed */
export const ingestSettings = (options: IngestOptions): IngestSettings => resolveSettings('ingest', given(options))

/** @throws UsageError for a value that is not allowed */
export const fitSettings = (options: FitOptions): FitSettings => resolveSettings('fit', given(options))

/** @throws UsageError for a value that is not allowed */
export const scoreSettings = ({ damping, ...options }: ScoreOptions): ScoreSettings => {
  // As text, in which form the table of settings judges it.
  const text = damping === undefined ? {} : { damping: dampingText(damping) }
  return resolveSettings('score', given({ ...options, ...text }))
}

const given = (options: object): { readonly flags: Readonly<Record<string, unknown>>; readonly env: Record<string, never> } => ({
  // A run file is for the command line; no setting is of this name.
  flags: { ...options, config: undefined },
  env: {},
})
