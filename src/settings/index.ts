/**
 * @file Settings: what can be set, how it is given (flags, TRIBUTARY_* variables, run file, defaults, in this order of
 * precedence), and what of it makes a run the run it is. Knows nothing of logs, models or terminals. Law: a command
 * starts only with settings that are complete and allowed.
 */
export { fitSettings, globalSettings, ingestSettings, scoreSettings, type FitOptions, type IngestOptions, type ScoreOptions } from './complete.js'
export {
  commandFields,
  flagOf,
  globalFields,
  kafkaFields,
  kebab,
  pageAddressDefault,
  variableOf,
  type Field,
  type Fields,
  type SectionName,
} from './fields.js'
export { assertSameSettings, canonicalJson, engineIdentity, engineOfIdentity, flagsOfEngine, queryHash, settingsRecord, type RunFacts } from './identity.js'
export { formatBytes, parseAddress, parseBytes, type Damping, type Kind } from './kinds.js'
export { replaySettings } from './replay.js'
export { dampingText, laterOfRecord, laterSegments, type LaterSegment } from './segments.js'
export { resolveGlobalSettings, resolveSettings, type Given } from './resolve.js'
export { kafkaAccess, type KafkaAccess } from './kafka-access.js'
export { readRunFile, runFileJsonSchema, type RunFile } from './run-file.js'
export { parseRunRecord, rankedOf, type Accuracy, type Json, type RunQuery, type RunRecord } from './run-record.js'
export { figureNames, type FigureName } from './settings.js'
export type {
  AnalysesSettings,
  AnalysisSettings,
  DeviceChoice,
  DeviceName,
  EngineName,
  ExplainSettings,
  ExportSettings,
  FitSettings,
  GlobalSettings,
  IngestSettings,
  JoinChoice,
  KafkaSettings,
  Long,
  PlanSettings,
  PrecisionName,
  ReportSettings,
  SaslMechanism,
  ScoreSettings,
  ScoresFormat,
  ScoresSettings,
  ServeSettings,
  Strategy,
  SumSettings,
  TopkSettings,
  WatchedSettings,
} from './settings.js'
export { UsageError } from './usage-error.js'
