/**
 * @file Every metric of tributary, once: name, help, labels, buckets. Base units, `_total` and `_seconds` as Prometheus
 * wants them (https://prometheus.io/docs/practices/naming/); `run` and `partition` mean what they mean in `tributary
 * status`. docs/monitoring.md lists them for users.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

/** From a millisecond to half an hour. */
const stageBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800]
/** From a tenth of a second to a week: a corpus that was ingested yesterday has waited since. */
const latencyBuckets = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21_600, 86_400, 604_800]
const powersOfTwo = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => 2 ** (from + i))

export type Metrics = ReturnType<typeof makeMetrics>

/** Registers all of them, and those of the process, in a registry that holds nothing else. */
export const makeMetrics = (registry: Registry) => {
  const of = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) => ({
    name: `tributary_${name}`, help, labelNames, registers: [registry],
  })
  const counter = <Label extends string>(name: string, help: string, labels: readonly Label[]) => new Counter<Label>(of(name, help, labels))
  const gauge = <Label extends string>(name: string, help: string, labels: readonly Label[]) => new Gauge<Label>(of(name, help, labels))
  const histogram = <Label extends string>(name: string, help: string, labels: readonly Label[], buckets: readonly number[]) =>
    new Histogram<Label>({ ...of(name, help, labels), buckets: [...buckets] })
  const work = ['pipeline', 'run'] as const
  collectDefaultMetrics({ register: registry })
  return {
    documents: counter('documents_total', 'Documents that came to a result, each once.', [...work, 'partition']),
    pieces: counter('pieces_total', 'Their pieces: as many as documents, unless long ones are split.', [...work, 'partition']),
    tokens: counter('tokens_total', 'Tokens of these documents, padding left out.', [...work, 'partition']),
    duplicates: counter('duplicates_total', 'Documents that were ingested again and added nothing.', work),
    deadLetters: counter('dead_letters_total', 'Documents (or pieces) that could not be processed, by stage and class of cause.', [...work, 'stage', 'cause']),
    batchSequences: histogram('batch_sequences', 'Sequences of a batch.', work, powersOfTwo(0, 10)),
    batchTokens: histogram('batch_tokens', 'Tokens of a batch, padding left out.', work, powersOfTwo(4, 16)),
    padding: counter('padding_tokens_total', 'Tokens of padding that were computed beside those of documents.', work),
    stages: histogram(
      'stage_duration_seconds', 'Time that a stage took, once per chunk, batch or commit; compute is forward, backward and join, without waiting for the engine.',
      [...work, 'stage'], stageBuckets,
    ),
    latency: histogram('end_to_end_latency_seconds', "From a document's append to the commit of its scores and tables.", ['run', 'partition'], latencyBuckets),
    lag: gauge('consumer_lag_records', 'Records of documents from the committed position to the end of the partition.', ['run', 'partition']),
    position: gauge('committed_offset', 'The next record of documents to read after the last commit.', ['run', 'partition']),
    commits: counter('commits_total', 'Commits by result: committed; fenced, where another worker has the partition; failed.', ['run', 'partition', 'result']),
    records: counter('committed_records_total', 'Records that commits made durable.', ['run', 'partition']),
    assigned: gauge('assigned_partitions', 'Partitions that this worker owns.', ['run']),
    assignments: counter('assignment_changes_total', 'Partitions that were assigned to this worker or lost by it.', ['run', 'change']),
    tableChanges: counter('table_changes_total', 'Rows that entered a table, or moved in it.', ['run', 'partition']),
    cache: counter('query_cache_requests_total', 'Entries of the query cache that were looked for, by kind and result.', ['run', 'kind', 'result']),
    shift: gauge('score_shift_stddevs', 'Mean of late normed scores less that of the run, in standard deviations of the run: greatest and mean over queries.', ['run', 'over']),
    scale: gauge('score_scale_ratio', 'Standard deviation of late normed scores over that of the run, geometric mean over queries.', ['run']),
    weights: gauge('engine_weights_bytes', "Bytes of the model's weights, as they lie in the checkpoint.", ['run', 'engine']),
    bound: gauge('engine_bound_bytes', 'Bytes of prepared queries that are bound to the program.', ['run', 'engine']),
    threads: gauge('engine_threads', 'Threads of the engine.', ['run', 'engine']),
    native: new Gauge({
      ...of('native_memory_bytes', "Resident memory outside of JavaScript's heap and buffers: the engine's weights and arenas, the log's mapped pages.", []),
      collect() {
        const { rss, heapTotal, external } = process.memoryUsage()
        this.set(Math.max(0, rss - heapTotal - external))
      },
    }),
    ready: gauge('ready', '1 once state is restored and the program compiled.', work),
    healthy: gauge('healthy', '1 while there is progress or nothing to do.', work),
    progressed: gauge('last_progress_timestamp_seconds', 'When a stage, a batch or a commit was last done, in seconds since the epoch.', work),
    build: gauge('build_info', '1; the labels say what runs.', ['version', 'node', 'onnxruntime']),
  }
}
