/**
 * @file Every setting of every command, once: its kind, its default, its words. From this table come the flags and
 * their help, the TRIBUTARY_* variables, the schema of the run file and the checks.
 *
 * A field's key gives all its spellings: `batchTokens` is `--batch-tokens`, TRIBUTARY_BATCH_TOKENS and, in the run
 * file, `batch-tokens`.
 */
import { totalmem } from 'node:os'
import * as kinds from './kinds.js'
import { formatBytes, type Kind } from './kinds.js'
import { figureNames } from './settings.js'
import type {
  AnalysesSettings,
  AnalysisSettings,
  ExplainSettings,
  ExportSettings,
  FitSettings,
  GlobalSettings,
  IngestSettings,
  PlanSettings,
  ReportSettings,
  KafkaSettings,
  ScoreSettings,
  ScoresSettings,
  ServeSettings,
  SumSettings,
  TopkSettings,
  WatchedSettings,
} from './settings.js'

export interface Field<T> {
  readonly kind: Kind<Exclude<T, null>>
  /** One line of help. */
  readonly about: string
  /** What stands for the argument in help: `N`, `DIR`. */
  readonly argument?: string
  /** One letter. */
  readonly short?: string
  /** Without one the setting is required. */
  readonly fallback?: T
  /** What help says in place of the default. */
  readonly fallbackAbout?: string
  /** A positional argument of the command, not a flag. */
  readonly positional?: boolean
  /** Whether a run file may hold it. */
  readonly file?: boolean
  /** Whether it has a flag; without one it comes from a variable or the run file. */
  readonly flag?: boolean
  /** Its value is never printed. */
  readonly secret?: boolean
}

/** The fields of a command with these settings. */
export type Fields<S> = { readonly [Key in keyof S]-?: Field<S[Key]> }

/** Bytes this process may use: the machine's memory, or the control group's bound if that is less. */
const memoryOfMachine = (): number => {
  const constrained = process.constrainedMemory?.() ?? 0
  return constrained > 0 ? Math.min(totalmem(), constrained) : totalmem()
}
const MiB = 1024 ** 2

/** The section `kafka` of the run file, where they stand without the first word: `kafkaCa` is `kafka: {ca: ...}`. */
export const kafkaFields: Fields<KafkaSettings> = {
  kafkaPrefix: {
    kind: kinds.topicPrefix(), argument: 'PREFIX', fallback: null, fallbackAbout: 'none', flag: false,
    about: 'stands before every name on the cluster, so that several corpora share one',
  },
  kafkaTls: { kind: kinds.onOff(), fallback: false, fallbackAbout: 'on if a certificate or a key is given', flag: false, about: 'speak TLS' },
  kafkaCa: {
    kind: kinds.text('a PEM file'), argument: 'FILE', fallback: null, fallbackAbout: "the system's", flag: false,
    about: 'certificate authorities to trust',
  },
  kafkaCert: { kind: kinds.text('a PEM file'), argument: 'FILE', fallback: null, fallbackAbout: 'none', flag: false, about: "the client's certificate" },
  kafkaKey: { kind: kinds.text('a PEM file'), argument: 'FILE', fallback: null, fallbackAbout: 'none', flag: false, about: "the key of the client's certificate" },
  kafkaServername: {
    kind: kinds.text('a host name'), argument: 'NAME', fallback: null, fallbackAbout: 'the host in the address', flag: false,
    about: "what the brokers' certificate must name, where that is not their host",
  },
  kafkaSasl: {
    kind: kinds.choice('plain', 'scram-sha-256', 'scram-sha-512'), argument: 'MECHANISM', fallback: null, fallbackAbout: 'none', flag: false,
    about: 'SASL mechanism',
  },
  kafkaUsername: { kind: kinds.text('a name'), argument: 'NAME', fallback: null, fallbackAbout: 'none', flag: false, about: 'SASL user' },
  kafkaPassword: {
    kind: kinds.text('a password'), argument: 'PASSWORD', fallback: null, fallbackAbout: 'none', flag: false, secret: true,
    about: 'SASL password; never printed, never recorded',
  },
  kafkaSessionTimeoutMs: {
    kind: kinds.whole({ min: 500, max: 3_600_000 }), argument: 'MS', fallback: 30_000, flag: false,
    about: "milliseconds without a heartbeat after which a worker's partitions go to others, within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms",
  },
}

export const globalFields: Fields<GlobalSettings> = {
  home: { kind: kinds.text('a folder'), argument: 'DIR', fallback: '.tributary', about: 'folder of log and artifacts' },
  log: {
    kind: kinds.logAddress(), argument: 'ADDRESS', fallback: 'embedded',
    about: 'where the log is: embedded in the home, or a Kafka cluster (kafka://host:port[,host:port...])',
  },
  schemaRegistry: {
    kind: kinds.url(), argument: 'URL', fallback: null, fallbackAbout: 'none', secret: true,
    about: 'schema registry: values on Kafka then have its wire format',
  },
  ...kafkaFields,
  json: { kind: kinds.onOff(), fallback: false, file: false, about: 'results as JSON on standard output' },
  quiet: { kind: kinds.onOff(), fallback: false, about: 'no progress and no notes' },
  threads: {
    kind: kinds.whole({ min: 1, max: 1024 }), argument: 'N', fallback: null, fallbackAbout: 'all cores',
    about: 'threads of the engine',
  },
  stageMemory: {
    kind: kinds.bytes({ min: 1 }), argument: 'BYTES', fallback: null, fallbackAbout: 'all of them',
    about: 'weights in memory at a time, such as 4GiB: a model of more is computed in stages of consecutive blocks',
  },
}

const modelField = {
  kind: kinds.text('the folder of a Hugging Face checkpoint'), argument: 'DIR',
  about: 'checkpoint: config.json, model.safetensors, tokenizer.json',
}
const contextField = {
  // From 3 on near-equal pieces have two tokens or more: one alone predicts nothing.
  kind: kinds.whole({ min: 3, max: 1_048_576 }), argument: 'N', fallback: null,
  fallbackAbout: "512, or the checkpoint's longest",
  about: 'tokens of a document at most; longer ones are treated as --long says',
}
const batchTokensField = {
  kind: kinds.whole({ min: 2, max: 16_777_216 }), argument: 'N', fallback: null, fallbackAbout: '2048, 1024 or 512: what --memory has room for',
  about: 'tokens computed at once at most, padding included; more are faster, and take more memory',
}
/** Each batch of a fit moves all its sums, so that longer batches are worth their activations. */
const fitBatchTokensField = { kind: batchTokensField.kind, argument: 'N', fallback: 2048, about: 'tokens computed at once at most, padding included; every batch moves all sums, so fewer cost time' }
const commitEveryField = (fallback: number, about: string) => ({
  kind: kinds.whole({ min: 0, max: 3_600_000 }), argument: 'MS', fallback, about,
})
const longField = {
  kind: kinds.choice('split', 'truncate'), argument: 'HOW', fallback: 'truncate' as const,
  about: 'documents longer than the context: split into pieces, or truncate',
}
const engineField = {
  kind: kinds.choice('onnx', 'tfjs'), argument: 'NAME', fallback: 'onnx' as const,
  about: 'what computes: onnx (ONNX Runtime), or tfjs (TensorFlow.js, installed beside tributary)',
}
const deviceField = {
  kind: kinds.choice('auto', 'cpu', 'cuda', 'webgpu'), argument: 'NAME', fallback: 'auto' as const,
  about: 'where onnx computes: cuda or webgpu on a GPU, or cpu; auto: the first of these that works',
}
const seedField = {
  kind: kinds.whole({ min: 0, max: 0xffffffff }), argument: 'N', fallback: 0,
  about: 'seed of everything left to chance',
}
const watchedFields: Fields<WatchedSettings> = {
  listen: {
    kind: kinds.address(), argument: 'HOST:PORT', fallback: null, fallbackAbout: 'nowhere',
    about: 'serve /metrics, /healthz and /readyz on this address; a port alone is one of 127.0.0.1',
  },
  logLevel: {
    kind: kinds.choice('silent', 'error', 'warn', 'info', 'debug', 'trace'), argument: 'LEVEL', fallback: null,
    fallbackAbout: 'warn (json: info), or as TRIBUTARY_DEBUG says', about: 'log lines on standard error from this level on; debug has one a batch',
  },
  logFormat: {
    kind: kinds.choice('text', 'json'), argument: 'FORMAT', fallback: 'text' as const,
    about: 'log lines for people or for machines; json: progress too, in place of the bar',
  },
}
/** Where the live page is unless told otherwise. */
export const pageAddressDefault = '127.0.0.1:8080'
const runField = { kind: kinds.name(), argument: 'NAME', about: 'name of the run' }

export const ingestFields: Fields<IngestSettings> = {
  ...globalFields,
  ...watchedFields,
  paths: {
    kind: kinds.list('files, folders and globs'), positional: true, argument: 'PATH',
    about: 'shards: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt; folders of them; globs',
  },
  source: {
    kind: kinds.text(), argument: 'NAME', fallback: null, fallbackAbout: "the shard's name, less number and extensions",
    about: 'source of documents that name none',
  },
  textField: { kind: kinds.text('a field name'), argument: 'NAME', fallback: 'text', about: 'field that holds the text' },
  idField: { kind: kinds.text('a field name'), argument: 'NAME', fallback: 'id', about: 'field that holds the id' },
  partitions: {
    kind: kinds.whole({ min: 1, max: 1024 }), argument: 'N', fallback: null, fallbackAbout: 'as declared',
    about: 'partitions of the topic `documents`, settled when it is created',
  },
  maxBytes: {
    kind: kinds.bytes({ min: 1, max: 12 * MiB }), argument: 'BYTES', fallback: 4 * MiB, fallbackAbout: formatBytes(4 * MiB),
    about: 'documents with more text than this go to dead-letters',
  },
}

export const fitFields: Fields<FitSettings> = {
  ...globalFields,
  ...watchedFields,
  model: modelField,
  engine: engineField,
  device: deviceField,
  average: {
    kind: kinds.list('folders of checkpoints'), argument: 'DIR', fallback: [], fallbackAbout: 'none',
    about: 'further checkpoints of the same stretch of training: the factors are the average over these and --model',
  },
  factors: { kind: kinds.name(), argument: 'NAME', about: 'name of the factor set' },
  documents: {
    kind: kinds.whole({ min: 1 }), argument: 'N', about: 'documents to fit on at most; all if there are fewer',
  },
  empirical: {
    kind: kinds.onOff(), fallback: false, about: 'use the real labels, not ones sampled from the model',
  },
  strategy: {
    kind: kinds.choice('ekfac', 'kfac', 'diagonal', 'identity'), argument: 'NAME', fallback: 'ekfac',
    about: 'how the Gauss-Newton matrix is approximated: ekfac, kfac, diagonal or identity',
  },
  blocks: {
    kind: kinds.whole({ min: 1, max: 4096 }), argument: 'N', fallback: 1,
    about: 'make both covariances block-diagonal with so many blocks',
  },
  track: {
    kind: kinds.track(), argument: 'WHICH', fallback: 'mlp',
    about: 'layers to attribute: mlp, attention, all, or a regular expression over module names',
  },
  seed: seedField,
  context: contextField,
  batchTokens: fitBatchTokensField,
  long: longField,
  commitEveryMs: commitEveryField(5_000, 'milliseconds between two savings of the sums at least'),
}

export const scoreFields: Fields<ScoreSettings> = {
  ...globalFields,
  ...watchedFields,
  run: runField,
  model: modelField,
  engine: engineField,
  device: deviceField,
  precision: {
    kind: kinds.choice('f32', 'f16', 'bf16'), argument: 'WIDTH', fallback: 'f32' as const,
    about: 'numbers that products take and give while documents are scored: f32, or f16 or bf16, faster on a GPU',
  },
  checkpoints: {
    kind: kinds.list('folders of checkpoints, each with =WEIGHT behind it or not'), argument: 'DIR=WEIGHT', fallback: [], fallbackAbout: 'none',
    about: 'further checkpoints of the same training: a run for each (NAME.1, ...), --model the last, and their weighted sum as the run',
  },
  queryModel: {
    kind: kinds.text('the folder of a Hugging Face checkpoint'), argument: 'DIR', fallback: null,
    fallbackAbout: 'that of --model', about: "checkpoint of the queries' gradients",
  },
  factors: { kind: kinds.name(), argument: 'NAME', about: 'name of the factor set, see `tributary fit`' },
  join: {
    kind: kinds.choice('auto', 'dense', 'low-rank', 'shared'), argument: 'HOW', fallback: 'auto',
    about: 'how documents meet queries: auto, dense, low-rank or shared',
  },
  rank: {
    kind: kinds.whole({ min: 1, max: 65_536 }), argument: 'R', fallback: 32, about: 'rank of a query in the low-rank join',
  },
  sharedRank: {
    kind: kinds.whole({ min: 1, max: 65_536 }), argument: 'K', fallback: 256, about: 'width of the bases of the shared join',
  },
  damping: {
    kind: kinds.damping(), argument: 'X', fallback: { kind: 'relative', factor: 0.1 }, fallbackAbout: '0.1x',
    about: "0.1x: a factor on each layer's mean eigenvalue; 1e-8: the same in all layers; segment:T: a segment of training (SOURCE)",
  },
  later: {
    kind: kinds.list('names of factor sets, each with =TIME behind it'), argument: 'FACTORS=TIME', fallback: [], fallbackAbout: 'none',
    about: 'with --damping segment:T, the segments of training that came after, in their order: factor sets and the sums of their learning rates',
  },
  memory: {
    kind: kinds.bytes({ min: 64 * MiB }), argument: 'BYTES', fallback: Math.floor(memoryOfMachine() / 2),
    fallbackAbout: "half of the machine's", about: 'memory for queries, factors and batches, such as 6GiB',
  },
  k: {
    kind: kinds.whole({ min: 1, max: 1_000_000 }), argument: 'N', short: 'k', fallback: 100, about: 'rows of every table',
  },
  rescore: {
    kind: kinds.whole({ min: 0, max: 1_000_000 }), argument: 'N', fallback: 0,
    about: 'score the first N rows of each table again with full-rank queries',
  },
  long: longField,
  context: contextField,
  batchTokens: batchTokensField,
  seed: seedField,
  commitEveryMs: commitEveryField(1_000, 'milliseconds between two commits; 0: after every batch'),
  follow: { kind: kinds.onOff(), fallback: false, about: 'when caught up, wait for more documents' },
  serve: { kind: kinds.onOff(), fallback: false, about: `serve the live page on the address of --listen (or ${pageAddressDefault}) while it runs` },
  queries: {
    kind: kinds.list('ids of queries'), argument: 'ID', fallback: [], fallbackAbout: 'all',
    about: 'only the queries with these ids',
  },
  group: {
    kind: kinds.list('names of groups'), argument: 'NAME', fallback: [], fallbackAbout: 'all',
    about: 'only the queries of these groups',
  },
  fromOffset: {
    kind: kinds.whole({ min: 0 }), argument: 'N', fallback: 0, about: 'only documents from this offset of their partition on',
  },
  fromTime: {
    kind: kinds.time(), argument: 'TIME', fallback: null, fallbackAbout: 'the beginning', about: 'only documents added at this time or later',
  },
  onlyPartition: {
    kind: kinds.wholes(), argument: 'P', fallback: [], fallbackAbout: 'all', about: 'only documents of these partitions',
  },
  onlySource: {
    kind: kinds.list('names of sources'), argument: 'NAME', fallback: [], fallbackAbout: 'all', about: 'only documents of these sources',
  },
}

export const sumFields: Fields<SumSettings> = {
  ...globalFields,
  ...watchedFields,
  run: runField,
  of: {
    kind: kinds.list('names of runs, each with =WEIGHT behind it or not'), positional: true, argument: 'RUN=WEIGHT',
    about: 'the runs to add up; a weight of 1 if none is given',
  },
  k: scoreFields.k,
  commitEveryMs: commitEveryField(1_000, 'milliseconds between two commits; 0: after every batch'),
}

export const topkFields: Fields<TopkSettings> = {
  ...globalFields,
  run: runField,
  query: {
    kind: kinds.list('ids of queries'), argument: 'ID', fallback: [], fallbackAbout: 'all of the run',
    about: 'only the tables of these queries',
  },
  rows: {
    kind: kinds.whole({ min: 1, max: 1_000_000 }), argument: 'N', short: 'k', fallback: 20, about: 'rows to show of each table',
  },
  bottom: { kind: kinds.onOff(), fallback: false, about: 'the most negative documents in place of the most positive' },
  normed: { kind: kinds.onOff(), fallback: false, about: "by influence over the norm of the document's gradient" },
}

export const planFields: Fields<PlanSettings> = {
  ...globalFields,
  model: modelField,
  device: deviceField,
  track: fitFields.track,
  blocks: fitFields.blocks,
  join: scoreFields.join,
  rank: scoreFields.rank,
  sharedRank: scoreFields.sharedRank,
  context: contextField,
  batchTokens: batchTokensField,
  memory: scoreFields.memory,
  deviceMemory: { kind: kinds.bytes({ min: 64 * MiB }), argument: 'BYTES', fallback: null, fallbackAbout: '--memory', about: "a GPU's memory, in place of --memory" },
  queryCount: { kind: kinds.whole({ min: 1, max: 1_000_000 }), argument: 'N', fallback: 100, about: 'queries' },
  documents: { kind: kinds.whole({ min: 1 }), argument: 'N', fallback: 100_000, about: 'documents to score' },
  fitDocuments: { kind: kinds.whole({ min: 1 }), argument: 'N', fallback: 2_000, about: 'documents to fit on' },
  tokensMean: { kind: kinds.whole({ min: 2 }), argument: 'T', fallback: 512, about: "tokens of a document, on the average; the context's at most" },
  gemmRate: { kind: kinds.whole({ min: 1, max: 1e9 }), argument: 'GFLOPS', fallback: null, fallbackAbout: 'measured', about: 'rate of float32 products, to plan for another machine' },
}

export const explainFields: Fields<ExplainSettings> = {
  ...globalFields,
  run: runField,
  device: deviceField,
  query: { kind: kinds.text('the id of a query'), argument: 'ID', file: false, about: 'the query of the run whose score is explained' },
  document: { kind: kinds.text('the id of a document'), argument: 'ID', file: false, about: 'the document' },
  source: { kind: kinds.text(), argument: 'NAME', fallback: null, fallbackAbout: 'whichever has it', file: false, about: 'its source, where several have a document of this id' },
  piece: { kind: kinds.whole({ min: 0 }), argument: 'N', fallback: null, fallbackAbout: 'the only one', file: false, about: 'which piece of a document that was split, from 0' },
  model: { ...modelField, fallback: null, fallbackAbout: "the run's", file: false, about: 'checkpoint, if it is no longer where the run had it' },
  queryModel: { ...modelField, fallback: null, fallbackAbout: "the run's", file: false, about: 'checkpoint of the queries, likewise' },
}

export const scoresFields: Fields<ScoresSettings> = {
  ...globalFields,
  run: runField,
  format: {
    kind: kinds.choice('jsonl', 'npy', 'parquet'), argument: 'FORMAT', fallback: 'jsonl', about: 'jsonl, npy or parquet',
  },
  out: {
    kind: kinds.text('a path'), argument: 'PATH',
    about: 'file to write (jsonl: - is standard output); npy: folder to write',
  },
  force: { kind: kinds.onOff(), fallback: false, file: false, about: 'overwrite what is there' },
}

const analysisFields: Fields<AnalysisSettings> = {
  ...globalFields,
  ...watchedFields,
  run: runField,
  depth: {
    kind: kinds.whole({ min: 500, max: 10_000_000 }), argument: 'N', fallback: 50_000,
    about: 'documents kept at each end of every query: sums and sources are exact up to it; 80 bytes each a query',
  },
  labelField: {
    kind: kinds.text('a field name'), argument: 'NAME', fallback: 'teaches',
    about: 'field of documents and queries that says what a document teaches, and a query needs',
  },
  spurious: {
    kind: kinds.whole({ min: 0, max: 1000 }), argument: 'N', fallback: 0,
    about: "look at the tokens of every query's first N documents for scores that hang on one, with the run's checkpoint and factors; 0: tell those that were looked at before",
  },
  selfCheck: {
    kind: kinds.onOff(), fallback: false,
    about: "score every query's own text as a document, with the run's checkpoint and factors",
  },
}

export const analysesFields: Fields<AnalysesSettings> = {
  ...analysisFields,
  which: {
    kind: kinds.listOf(...figureNames), positional: true, argument: 'WHICH', fallback: [], fallbackAbout: 'all', file: false,
    about: `figures: ${figureNames.join(', ')}`,
  },
}

export const reportFields: Fields<ReportSettings> = {
  ...analysisFields,
  out: { kind: kinds.text('a path'), argument: 'FILE', fallback: 'report.html', about: 'the HTML file to write' },
  data: {
    kind: kinds.text('a folder'), argument: 'DIR', fallback: null, fallbackAbout: 'none',
    about: 'folder to write: every figure as SVG, its data as CSV and Parquet',
  },
  rows: { kind: kinds.whole({ min: 1, max: 1_000_000 }), argument: 'N', short: 'k', fallback: 10, about: 'documents shown of each table' },
  force: { kind: kinds.onOff(), fallback: false, file: false, about: 'overwrite what is there' },
}

export const exportFields: Fields<ExportSettings> = {
  ...globalFields,
  run: runField,
  format: { kind: kinds.choice('ruis-demo'), argument: 'FORMAT', fallback: 'ruis-demo', file: false, about: "ruis-demo: the form of the paper's published demo" },
  out: { kind: kinds.text('a path'), argument: 'DIR', about: 'folder to write' },
  rows: {
    kind: kinds.whole({ min: 1, max: 1_000_000 }), argument: 'N', short: 'k', fallback: 100,
    about: 'documents: those among the first or last N of any query, raw or normed',
  },
  force: { kind: kinds.onOff(), fallback: false, file: false, about: 'overwrite what is there' },
}

export const serveFields: Fields<ServeSettings> = {
  ...globalFields,
  ...watchedFields,
  listen: {
    kind: kinds.address(), argument: 'HOST:PORT', fallback: pageAddressDefault,
    about: 'serve the page, its API, /metrics, /healthz and /readyz on this address; a port alone is one of 127.0.0.1',
  },
  run: { ...runField, fallback: null, fallbackAbout: 'the newest', about: 'name of the run that the page opens with' },
}

/** The fields of the commands that a run file has a section for. */
export const commandFields = {
  ingest: ingestFields,
  fit: fitFields,
  score: scoreFields,
  sum: sumFields,
  topk: topkFields,
  explain: explainFields,
  plan: planFields,
  scores: scoresFields,
  analyses: analysesFields,
  report: reportFields,
  export: exportFields,
  serve: serveFields,
} as const

export type SectionName = keyof typeof commandFields

/** `batchTokens` → `batch-tokens`. */
export const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
/** `batchTokens` → `TRIBUTARY_BATCH_TOKENS`. */
export const variableOf = (key: string): string => `TRIBUTARY_${kebab(key).replace(/-/g, '_').toUpperCase()}`
/** `batchTokens` → `--batch-tokens`; `k` → `-k`. */
export const flagOf = (key: string): string => (key.length === 1 ? `-${key}` : `--${kebab(key)}`)
