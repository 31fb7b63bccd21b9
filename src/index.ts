/**
 * @file tributary as a library: what the command line is made of, by name.
 *
 * ```ts
 * import { addQueries, fit, fitSettings, ingest, ingestSettings, openLog, pipelineContext, readRun, readTopK, score, scoreSettings, toQuery } from 'tributary'
 *
 * await using log = await openLog({ home: '.tributary' })
 * const context = pipelineContext(log)
 * await ingest(ingestSettings({ paths: ['corpus'] }), context)
 * await addQueries(log, [toQuery({ id: 'mali', prompt: 'The capital of Mali is', completion: ' Bamako.' })])
 * await fit(fitSettings({ model: 'checkpoint', factors: 'mlp', documents: 2000 }), context)
 * await score(scoreSettings({ run: 'first', model: 'checkpoint', factors: 'mlp' }), context)
 * const [{ rows }] = await readTopK(log, await readRun(log, 'first'), { query: ['mali'], rows: 20, bottom: false, normed: true })
 * ```
 *
 * Without a log, against factors that were fitted before: `prepareScoring` and `scoreDocuments`.
 *
 * The law of every pipeline: the same input gives the same output; what was committed is whole; a document that cannot
 * be processed is a dead letter with its cause, never an error. Errors of three kinds are thrown on purpose
 * (`UserError`, `DeadLetterError`, `TransientError`); anything else is a bug.
 */

// Errors, ids, seeded chance.
export {
  DeadLetterError, TransientError, UserError, documentId, queryId, runId, seedOf, uniformAt,
  type DocumentId, type QueryId, type RunId, type Stage,
} from './base/index.js'

// Settings: the defaults of the command line, filled in and checked.
export {
  fitSettings, formatBytes, globalSettings, ingestSettings, kafkaAccess, parseBytes, replaySettings, resolveSettings, scoreSettings, UsageError,
  type Accuracy, type Damping, type DeviceChoice, type FitOptions, type FitSettings, type GlobalSettings, type IngestOptions, type IngestSettings, type JoinChoice,
  type Json, type KafkaAccess, type KafkaSettings, type Long, type PlanSettings, type RunQuery, type RunRecord, type ScoreOptions, type ScoreSettings, type SaslMechanism, type ScoresFormat, type Strategy,
} from './settings/index.js'

// The log.
export { homePaths, openLog, openLogForReading } from './pipeline/home.js'
export {
  declaredTopics, embeddedLog, keyOf, partitionOf, Serdes,
  type AppendResult, type Assignment, type Commit, type DeadLetterValue, type DocumentValue, type EmbeddedLogOptions, type InfluenceValue, type Lease,
  type Log, type LogRecord, type MomentsValue, type NewRecord, type Position, type QueryValue, type ReadBounds, type RescoredValue, type RetryValue, type RunValue,
  type TableRowValue, type TablesValue, type TopicDeclaration, type TopicInfo, type TopicName, type TopicValues,
} from './log/index.js'

// The pipelines.
export { pipelineContext, silentProgress, type PipelineContext, type Progress, type WorkResult } from './pipeline/context.js'
export {
  observers, silentObserver,
  type ObservedBatch, type ObservedCommit, type ObservedDeadLetter, type ObservedEngine, type ObservedScores, type ObservedStage, type Observer,
} from './pipeline/observer.js'
export { ingest, keyOfDocument, sourceOf, toDocument, toRecord, type DocumentOptions, type IngestResult } from './pipeline/ingest.js'
export {
  addQueries, chooseQueries, listQueries, parseQueries, readQueries, removeQueries, toQuery, type GivenQuery, type QueriesAdded,
} from './pipeline/queries.js'
export { fit } from './pipeline/fit.js'
export { score } from './pipeline/score.js'
export { scoreCheckpoints } from './pipeline/score-checkpoints.js'
export { sum, sumParts, type SumPart } from './pipeline/sum.js'
export {
  prepareScoring, scoreDocuments, type DocumentScore, type GivenDocument, type PreparedScoring, type ScoreDocumentsOptions,
} from './pipeline/score-documents.js'
export { explain, openExplainer, type ExplainedPlace, type Explainer, type ExplainerSettings, type Explanation } from './pipeline/explain.js'
export { readRun } from './pipeline/runs.js'
export {
  findDeadLetter, listDeadLetters, readDeadLetters,
  type DeadLetter, type DeadLetterCount, type DeadLetterFilter, type DeadLetterList, type DeadLetterRecord, type FoundLetter, type ListedLetter, type ListOptions,
} from './pipeline/dead-letters.js'
export { replayDeadLetters, type NotReplayed, type ReplayOptions, type ReplayResult } from './pipeline/replay-dead-letters.js'
export { readRetries, Retries, type RetryStatus } from './pipeline/retries.js'
export { planRun, type PlannedScoring, type RunPlan } from './pipeline/plan.js'
export { examine, type Diagnosis, type DoctorOptions } from './pipeline/doctor.js'
export { diffRuns, type DiffOptions, type Mover, type QueryDiff, type RunDiff } from './pipeline/diff.js'
export { mergedTables, type MergedTables } from './pipeline/merged-tables.js'
export { perNat, readTopK, type TopKRow, type TopKTable } from './pipeline/top-k.js'
export { Interrupted, scoreRows, snapshotOf, writeScores, type ScoreRow, type Snapshot, type WriteScoresOptions } from './pipeline/outputs/index.js'

// The operators that the pipelines are made of.
export { findShards, readShard, type ShardDocument, type ShardLine, type ShardOptions } from './pipeline/shards/index.js'
export { isPiece, piecesOf, toPieces, type Piece, type PieceOptions, type Rejected } from './pipeline/operators/to-pieces.js'
export { batchByTokens, batchesByTokens, type BatchBounds, type Sized } from './pipeline/operators/batch-by-tokens.js'
export { pulled } from './pipeline/operators/pulled.js'
export { scoreChunk, toChunk, type Chunk, type Outcome, type Scorer } from './pipeline/score-chunk.js'
export { ownership, type Ownership } from './pipeline/ownership.js'
export { scorePartitions, type PassResult, type ScoreParts, type Tally } from './pipeline/score-partitions.js'
export { openCheckpoint, type OpenCheckpoint } from './pipeline/checkpoint.js'
export { pipelinesMermaid, pipelineText, type Pipeline, type Step } from './pipeline/steps.js'

// Tables and moments.
export {
  compareRows, empty, insert, merge, problemOf, RunningMoments, RunningTables,
  type End, type Moments, type MomentsRow, type QueryTables, type Row, type Scored, type TopK,
} from './table/index.js'

// The papers' analyses, and what shows them.
export {
  analyse, AnalysisState, answers, correlations, findings, isSpurious, magnitudes, powerLaws, sources, TopTexts,
  type AnalysedDocument, type AnalysedQuery, type Analyses, type Finding, type ScoreKind,
} from './analysis/index.js'
export { analyseRun, type AnalyseOptions, type RunAnalyses } from './pipeline/analyse.js'
export { scoreOwnTexts } from './pipeline/own-texts.js'
export { writeRuisDemo, type WriteRuisDemoOptions } from './pipeline/outputs/ruis-demo.js'
export { allFigures, reportPage, writeData, type Figure, type ReportInput } from './report/index.js'

// Influence: factors, preconditioned queries, joins.
export {
  batchGradients, batchTensors, covarianceProgram, dampingOf, documentsAtOnceMax, eigenvalueProgram, inputName, inputWidth, joinCost, joins, openFactors, paddedLength, planJoin,
  preconditioner, queryGradient, queryProgram, scaledQueries, scoreBatch, scoreProgram, trackedLayers, trackedParameters,
  type BatchGradients, type BatchScores, type FactorManifest, type FactorSet, type Join, type JoinKind, type JoinShape, type LayerFactors, type LayerGradient,
  type LayerPreconditioner, type Plan, type PlanInput, type PlannedJoin, type QueryGradient, type QueryLayerGradient, type ScoreProgramOptions, type Sequence, type TokenizedQuery,
} from './influence/index.js'

// Models.
export {
  checkpointHash, openModel, openTokenizer, readCheckpointTensors, readSafetensors, readTensor, writeSafetensors,
  type Checkpoint, type ForwardInputs, type LinearLayer, type Model, type OnLinear, type TensorInfo, type TensorToWrite, type Tokenizer, type TokenizerOptions,
  type Weights,
} from './model/index.js'

// Tensors: operations, the tape, engines, linear algebra.
export {
  eigh, eighAll, onnxEngine, plainOps, sampleLabels, tape,
  type Device, type Engine, type InputSpec, type OnnxEngineOptions, type Ops, type PlainTensor, type Precision, type Program, type ProgramSpec, type StoredTensor, type Tape,
  type TensorData, type Variable,
} from './tensor/index.js'
