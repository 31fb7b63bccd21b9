/**
 * @file The settings of every command, as the pipelines receive them: complete, checked, with the defaults filled in.
 * What a value's source may be stands in fields.ts.
 */
import type { Damping } from './kinds.js'

/** How a Kafka cluster is reached beside its address; the section `kafka` of the run file. */
export interface KafkaSettings {
  /** Before every name on the cluster, so that several corpora share one. */
  readonly kafkaPrefix: string | null
  /** Speak TLS. On by itself where a certificate or a key is given. */
  readonly kafkaTls: boolean
  /** PEM files: authorities to trust in place of the system's; this client's certificate and its key. */
  readonly kafkaCa: string | null
  readonly kafkaCert: string | null
  readonly kafkaKey: string | null
  /** What a broker's certificate must name, where that is not the host in its address. */
  readonly kafkaServername: string | null
  readonly kafkaSasl: SaslMechanism | null
  readonly kafkaUsername: string | null
  /** A secret: from a variable or the run file only, never printed and never recorded. */
  readonly kafkaPassword: string | null
  /** A worker that was not heard of for so long loses its partitions to the others. */
  readonly kafkaSessionTimeoutMs: number
}

export type SaslMechanism = 'plain' | 'scram-sha-256' | 'scram-sha-512'

/** What every command takes. */
export interface GlobalSettings extends KafkaSettings {
  /** The folder of artifacts, and of the embedded log. */
  readonly home: string
  /** `embedded`, or `kafka://host:port[,host:port...]`. */
  readonly log: string
  /** URL of a Confluent-compatible schema registry; null: records carry their schema's fingerprint. */
  readonly schemaRegistry: string | null
  readonly json: boolean
  readonly quiet: boolean
  /** Threads of the engine; null: as many as the machine has cores. */
  readonly threads: number | null
  /** Bytes of a model's weights, four a number, that are in memory at a time: it is computed in stages if it has more. Null: all of them. */
  readonly stageMemory: number | null
}

/** How a command that runs for long is watched from outside. */
export interface WatchedSettings {
  /** HOST:PORT where metrics and health are served over HTTP, see `parseAddress`; null: nowhere. */
  readonly listen: string | null
  /** Lines of the log that are written at least; null: warnings (json: info), or what TRIBUTARY_DEBUG says. */
  readonly logLevel: 'silent' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | null
  readonly logFormat: 'text' | 'json'
}

/** What computes: ONNX Runtime, or TensorFlow.js where it is installed. */
export type EngineName = 'onnx' | 'tfjs'

/** What ONNX Runtime computes on; `auto`: a GPU that works, else the CPU. */
export type DeviceName = 'cpu' | 'cuda' | 'webgpu'
export type DeviceChoice = 'auto' | DeviceName

/** The width of what products take and give when documents are scored. */
export type PrecisionName = 'f32' | 'f16' | 'bf16'

/** Documents longer than the context: cut into pieces that are scored apart, or cut off. */
export type Long = 'split' | 'truncate'

export interface IngestSettings extends GlobalSettings, WatchedSettings {
  /** Files, folders and globs. */
  readonly paths: readonly string[]
  /** The source of documents that name none; null: the shard's name decides (`sourceOf` in pipeline/ingest.ts). */
  readonly source: string | null
  readonly textField: string
  readonly idField: string
  /** Partitions of `documents`; null: as it is, or as topics/documents.yaml declares it. */
  readonly partitions: number | null
  /** Text (UTF-8) of more bytes than this goes to dead-letters. */
  readonly maxBytes: number
}

export type Strategy = 'ekfac' | 'kfac' | 'diagonal' | 'identity'

export interface FitSettings extends GlobalSettings, WatchedSettings {
  readonly engine: EngineName
  readonly device: DeviceChoice
  /** The checkpoint's folder. */
  readonly model: string
  /** Further checkpoints of the same stretch of training: the factors are the average over these and `model`. */
  readonly average: readonly string[]
  /** The name of the factor set, kept under home/factors/NAME. */
  readonly factors: string
  /** At most so many documents are used; all if there are fewer. */
  readonly documents: number
  /** The real labels in place of sampled ones (docs/method.md §3.1). */
  readonly empirical: boolean
  readonly strategy: Strategy
  /** A and S are made block-diagonal with so many blocks. */
  readonly blocks: number
  /** `mlp`, `attention`, `all`, or a regular expression over whole module names. */
  readonly track: string
  /** Of the sampled labels and of whatever else is left to chance. */
  readonly seed: number
  /** T at most; null: 512, or the checkpoint's longest if that is shorter. */
  readonly context: number | null
  /** B·T at most, padding included; one document is always computed whole. */
  readonly batchTokens: number
  readonly long: Long
  /** Sums are saved no more often than this: what a kill loses at most, beside the batch in hand. */
  readonly commitEveryMs: number
}

export type JoinChoice = 'auto' | 'dense' | 'low-rank' | 'shared'

export interface ScoreSettings extends GlobalSettings, WatchedSettings {
  readonly engine: EngineName
  readonly device: DeviceChoice
  /** Of weights, activations, gradients and queries in the products of the pass over the documents. */
  readonly precision: PrecisionName
  /** The run's name. */
  readonly run: string
  /** The checkpoint's folder: document gradients. */
  readonly model: string
  /** Further checkpoints of the same training, `DIR` or `DIR=WEIGHT`: a run for each, and this one is their weighted sum. */
  readonly checkpoints: readonly string[]
  /** The folder of the checkpoint of the queries; null: `model`. */
  readonly queryModel: string | null
  /** The name of the factor set. */
  readonly factors: string
  readonly join: JoinChoice
  /** R of the low-rank join. */
  readonly rank: number
  /** k of the shared join: the width of both bases. */
  readonly sharedRank: number
  readonly damping: Damping
  /** Segments of the training that came after that of `factors`, `FACTORS=TIME`, the last one last. */
  readonly later: readonly string[]
  /** Bytes that queries, factors and batches may take together. */
  readonly memory: number
  /** Rows of every table. */
  readonly k: number
  /** The first so many rows of each table are scored again with full-rank queries; 0: none. */
  readonly rescore: number
  readonly long: Long
  /** T at most; null: 512, or the checkpoint's longest if that is shorter. */
  readonly context: number | null
  /** B·T at most, padding included; one document is always computed whole. Null: what the run was begun with; of a new one, as many as memory has room for. */
  readonly batchTokens: number | null
  readonly seed: number
  /** Records, tables and position are committed when so long has passed; 0: after every batch. */
  readonly commitEveryMs: number
  /** Keep waiting for documents when caught up. */
  readonly follow: boolean
  /** Serve the live page while it runs. */
  readonly serve: boolean
  /** Ids of queries; together with `group` empty: all queries. */
  readonly queries: readonly string[]
  /** Names of groups of queries. A query counts if its id or its group is named. */
  readonly group: readonly string[]
  /** Only documents from this offset of their partition on. */
  readonly fromOffset: number
  /** Only documents that were appended at this time (ISO 8601) or later; null: whenever. */
  readonly fromTime: string | null
  /** Only documents of these partitions (numbers); empty: all. */
  readonly onlyPartition: readonly string[]
  /** Only documents of these sources; empty: all. */
  readonly onlySource: readonly string[]
}

/** A run that is the weighted sum of others. */
export interface SumSettings extends GlobalSettings, WatchedSettings {
  readonly run: string
  /** The runs, `NAME` or `NAME=WEIGHT`. */
  readonly of: readonly string[]
  readonly k: number
  readonly commitEveryMs: number
}

export interface TopkSettings extends GlobalSettings {
  readonly run: string
  /** Ids of queries; empty: all of the run. */
  readonly query: readonly string[]
  /** How many rows are shown of each table. */
  readonly rows: number
  readonly bottom: boolean
  readonly normed: boolean
}

/** The figures of `tributary analyses`. */
export const figureNames = ['findings', 'correlation', 'overlap', 'magnitude', 'power-law', 'answers', 'labels', 'sources', 'spurious', 'baselines', 'self-checks'] as const
export type FigureName = (typeof figureNames)[number]

/** What the analyses of a run are made with. */
export interface AnalysisSettings extends GlobalSettings, WatchedSettings {
  readonly run: string
  /** Rows kept of each end of every query's documents. */
  readonly depth: number
  /** The field of documents and queries that says what a document teaches and a query needs. */
  readonly labelField: string
  /** Rows of every query's tables whose tokens are looked at for scores that hang on one; 0: those that were before. */
  readonly spurious: number
  /** Scores every query's own text, with the run's checkpoint and factors. */
  readonly selfCheck: boolean
}

export interface AnalysesSettings extends AnalysisSettings {
  /** Empty: all. */
  readonly which: readonly FigureName[]
}

export interface ReportSettings extends AnalysisSettings {
  /** The HTML file. */
  readonly out: string
  /** A folder for figures and their data; null: none. */
  readonly data: string | null
  /** Documents shown of each table. */
  readonly rows: number
  readonly force: boolean
}

export interface ExportSettings extends GlobalSettings {
  readonly run: string
  readonly format: 'ruis-demo'
  /** A folder. */
  readonly out: string
  /** Documents whose texts are exported: the first and last so many of every query. */
  readonly rows: number
  readonly force: boolean
}

export type ScoresFormat = 'jsonl' | 'npy' | 'parquet'

/** One document's influence on one query of a run, by token and by layer. */
export interface ExplainSettings extends GlobalSettings {
  readonly device: DeviceChoice
  readonly run: string
  /** Ids of a query of the run, and of a document. */
  readonly query: string
  readonly document: string
  /** Null: whichever has it, if only one has. */
  readonly source: string | null
  /** Null: the only one. */
  readonly piece: number | null
  /** Folders of the checkpoints; null: where the run's record says. */
  readonly model: string | null
  readonly queryModel: string | null
}

export interface ScoresSettings extends GlobalSettings {
  readonly run: string
  readonly format: ScoresFormat
  /** A file (jsonl, parquet; `-` is standard output for jsonl) or a folder (npy). */
  readonly out: string
  readonly force: boolean
}

/** What is planned for: a checkpoint, so many documents and queries, a bound of memory. */
export interface PlanSettings extends GlobalSettings {
  readonly model: string
  readonly device: DeviceChoice
  readonly track: string
  readonly blocks: number
  readonly join: JoinChoice
  readonly rank: number
  readonly sharedRank: number
  readonly context: number | null
  /** Null: as many as `memory` has room for. */
  readonly batchTokens: number | null
  /** Bytes of host memory, and of the device's if that is the bound. */
  readonly memory: number
  readonly deviceMemory: number | null
  /** How many. */
  readonly queryCount: number
  readonly documents: number
  readonly fitDocuments: number
  /** Of a document, before it is cut to the context. */
  readonly tokensMean: number
  /** GFLOP/s of float32 products; null: measured. */
  readonly gemmRate: number | null
}

export interface ServeSettings extends GlobalSettings, WatchedSettings {
  readonly listen: string
  /** The run that the page opens with; null: the newest. */
  readonly run: string | null
}
