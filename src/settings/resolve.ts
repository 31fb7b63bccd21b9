/**
 * @file From flags, variables, run file and defaults, in that order of precedence, to one command's settings. Pure but
 * for reading the run file.
 */
import { z } from 'zod'
import { commandFields, flagOf, globalFields, kebab, variableOf, type Field, type Fields, type SectionName } from './fields.js'
import { readRunFile, showValue, type RunFile } from './run-file.js'
import type {
  AnalysesSettings,
  ExplainSettings,
  ExportSettings,
  FitSettings,
  GlobalSettings,
  IngestSettings,
  PlanSettings,
  ReportSettings,
  ScoreSettings,
  ScoresSettings,
  ServeSettings,
  SumSettings,
  TopkSettings,
} from './settings.js'
import { UsageError } from './usage-error.js'

interface SettingsOf {
  readonly ingest: IngestSettings
  readonly fit: FitSettings
  readonly score: ScoreSettings
  readonly sum: SumSettings
  readonly topk: TopkSettings
  readonly explain: ExplainSettings
  readonly plan: PlanSettings
  readonly scores: ScoresSettings
  readonly analyses: AnalysesSettings
  readonly report: ReportSettings
  readonly export: ExportSettings
  readonly serve: ServeSettings
}

/** What was given: flags by camelCase key (text, a boolean for switches, an array for lists) and the environment. */
export interface Given {
  readonly flags: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
}

interface Origin {
  /** As it is spelled where it was given: `--batch-tokens`, `TRIBUTARY_BATCH_TOKENS`, `run.yaml:3: batch-tokens`. */
  readonly name: string
  readonly given: unknown
}

const readFile = ({ flags, env }: Given): RunFile | undefined => {
  const path = flags.config ?? env.TRIBUTARY_CONFIG
  return typeof path === 'string' && path !== '' ? readRunFile(path) : undefined
}

const valuesOf = <S>(fields: Fields<S>, section: SectionName | undefined, { flags, env }: Given, file: RunFile | undefined): S => {
  const values: Record<string, unknown> = {}
  const origins = new Map<string, Origin>()
  const shape: Record<string, z.ZodType> = {}
  for (const [key, field] of Object.entries(fields as Record<string, Field<unknown>>)) {
    const { kind } = field
    shape[key] = field.fallback === null ? kind.schema.nullable() : kind.schema
    const flag = flags[key]
    const variable = env[variableOf(key)]
    const inFile =
      (section === undefined ? undefined : file?.sections.get(section)?.get(key)) ?? file?.common.get(key)
    const flagGiven = flag !== undefined && !(field.positional && Array.isArray(flag) && flag.length === 0)
    if (flagGiven) {
      origins.set(key, { name: field.positional ? (field.argument ?? key) : flagOf(key), given: flag })
      values[key] = typeof flag === 'string' ? kind.parse(flag) : flag
    } else if (variable !== undefined && variable !== '') {
      origins.set(key, { name: variableOf(key), given: variable })
      values[key] = kind.parse(variable)
    } else if (inFile !== undefined && field.file !== false) {
      origins.set(key, { name: `${inFile.where}: ${kebab(key)}`, given: inFile.value })
      values[key] = inFile.value
    } else if (field.fallback !== undefined) {
      // Defaults are values already: they need no judging, and some (damping) have another form than what is given.
      values[key] = field.fallback
      shape[key] = z.unknown()
    } else {
      const how = field.positional ? `${field.argument ?? key}...` : `${flagOf(key)} ${field.argument ?? ''}`.trim()
      throw new UsageError(`${how} is missing: ${field.about}`, {
        fix: `give ${how}, ${variableOf(key)}=..., or "${kebab(key)}" in the run file (allowed: ${kind.allowed})`,
      })
    }
  }
  const result = z.strictObject(shape).safeParse(values)
  if (result.success) return result.data as S
  const key = String(result.error.issues[0]?.path[0])
  const origin = origins.get(key)
  const field = (fields as Record<string, Field<unknown>>)[key]
  throw new UsageError(`${origin?.name ?? key}: ${field.secret === true ? 'what is given' : showValue(origin?.given)} is not allowed`, {
    fix: `allowed: ${field.kind.allowed}`,
  })
}

/**
 * The settings of a command: flags > TRIBUTARY_* > run file (its section, then what is common) > defaults.
 * @throws UsageError that names the spelling, what was given and what is allowed
 */
export const resolveSettings = <Section extends SectionName>(section: Section, given: Given): SettingsOf[Section] =>
  valuesOf(commandFields[section] as unknown as Fields<SettingsOf[Section]>, section, given, readFile(given))

/** The settings of a command that has global ones only. */
export const resolveGlobalSettings = (given: Given): GlobalSettings =>
  valuesOf(globalFields, undefined, given, readFile(given))
