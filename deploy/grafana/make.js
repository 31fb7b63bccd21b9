// Makes dashboard.json: node deploy/grafana/make.js. A test compares, and looks every metric up in the registry.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const datasource = { type: 'prometheus', uid: '${datasource}' }
const own = 'run=~"$run"'
const byPartition = `${own}, partition=~"$partition"`

/** [title, unit, what it shows, [query, legend]...]; a row begins with a string alone. */
const panels = [
  'Progress',
  ['Documents per second', 'cps', 'Documents that came to a result, each once; and their pieces, where long ones are split.',
    [`sum by (pipeline, run) (rate(tributary_documents_total{${byPartition}}[$__rate_interval]))`, '{{pipeline}} {{run}}'],
    [`sum by (pipeline, run) (rate(tributary_pieces_total{${byPartition}}[$__rate_interval]))`, '{{pipeline}} {{run}} pieces']],
  ['Tokens per second', 'cps', 'Without padding.', [`sum by (pipeline, run) (rate(tributary_tokens_total{${byPartition}}[$__rate_interval]))`, '{{pipeline}} {{run}}']],
  ['Lag', 'short', 'Records from the committed position to the end of the partition.', [`tributary_consumer_lag_records{${byPartition}}`, '{{run}} {{partition}}']],
  ['Since the last progress', 's', 'Longer than a batch takes: look at the alert of stalled workers.', [`time() - tributary_last_progress_timestamp_seconds{${own}}`, '{{run}} {{instance}}']],
  ['Append to commit', 's', 'From the append of a document to the commit of its scores: median and 99 %.',
    [`histogram_quantile(0.5, sum by (run, le) (rate(tributary_end_to_end_latency_seconds_bucket{${byPartition}}[$__rate_interval])))`, '{{run}} p50'],
    [`histogram_quantile(0.99, sum by (run, le) (rate(tributary_end_to_end_latency_seconds_bucket{${byPartition}}[$__rate_interval])))`, '{{run}} p99']],
  ['Dead letters per second', 'cps', 'By stage and class of cause.', [`sum by (stage, cause) (rate(tributary_dead_letters_total{${own}}[$__rate_interval]))`, '{{stage}}: {{cause}}']],
  'Where the time goes',
  ['Seconds a second, by stage', 's', 'Stages overlap: the next chunk is read and tokenized while this one is computed. Compute near 1 is an engine that is always busy.', [`sum by (stage) (rate(tributary_stage_duration_seconds_sum{${own}}[$__rate_interval]))`, '{{stage}}']],
  ['Duration of a stage, 95 %', 's', 'Once per chunk, batch or commit.', [`histogram_quantile(0.95, sum by (stage, le) (rate(tributary_stage_duration_seconds_bucket{${own}}[$__rate_interval])))`, '{{stage}}']],
  ['Sequences and tokens of a batch', 'short', 'Means.',
    [`sum by (run) (rate(tributary_batch_sequences_sum{${own}}[$__rate_interval])) / sum by (run) (rate(tributary_batch_sequences_count{${own}}[$__rate_interval]))`, '{{run}} sequences'],
    [`sum by (run) (rate(tributary_batch_tokens_sum{${own}}[$__rate_interval])) / sum by (run) (rate(tributary_batch_tokens_count{${own}}[$__rate_interval]))`, '{{run}} tokens']],
  ['Padding', 'percentunit', 'Share of what is computed.', [`run:tributary_padding:ratio_rate5m{${own}}`, '{{run}}']],
  ['Query cache', 'short', 'Entries that were looked for when the queries were prepared.', [`sum by (kind, result) (tributary_query_cache_requests_total{${own}})`, '{{kind}}: {{result}}']],
  ['Tables: rows changed per second', 'cps', 'It falls as 1/n while a corpus goes by evenly; a jump is a part of it that the queries like.', [`sum by (run) (rate(tributary_table_changes_total{${byPartition}}[$__rate_interval]))`, '{{run}}']],
  'Commits and partitions',
  ['Commits per second', 'cps', 'By result.', [`sum by (run, result) (rate(tributary_commits_total{${byPartition}}[$__rate_interval]))`, '{{run}} {{result}}']],
  ['Records committed per second', 'cps', 'Scores, tables, moments and dead letters.', [`sum by (run) (rate(tributary_committed_records_total{${byPartition}}[$__rate_interval]))`, '{{run}}']],
  ['Committed offset', 'short', 'The next record to read.', [`tributary_committed_offset{${byPartition}}`, '{{run}} {{partition}}']],
  ['Partitions of each worker', 'short', '', [`tributary_assigned_partitions{${own}}`, '{{run}} {{instance}}']],
  ['Assignments', 'short', 'Partitions that came or went, in five minutes.', [`sum by (run, change) (increase(tributary_assignment_changes_total{${own}}[5m]))`, '{{run}} {{change}}']],
  ['Documents that were there already', 'short', 'Since the start of an ingest.', ['sum by (instance) (tributary_duplicates_total{pipeline="ingest"})', '{{instance}}']],
  'Scores',
  ['Shift of late scores', 'short', 'Late mean less that of the run, in standard deviations of the run.', [`tributary_score_shift_stddevs{${own}}`, '{{run}} {{over}} over queries']],
  ['Spread of late scores', 'short', 'Late standard deviation over that of the run. 1: as ever.', [`tributary_score_scale_ratio{${own}}`, '{{run}}']],
  'Process',
  ['Ready and healthy', 'bool_yes_no', '', [`tributary_ready{${own}}`, '{{run}} {{instance}} ready'], [`tributary_healthy{${own}}`, '{{run}} {{instance}} healthy']],
  ['Memory', 'bytes', 'Native: weights, arenas of the engine, mapped pages of the log.',
    ['process_resident_memory_bytes{job="tributary"}', '{{instance}} resident'], ['tributary_native_memory_bytes', '{{instance}} native'],
    ['nodejs_heap_size_used_bytes{job="tributary"}', '{{instance}} heap'], ['nodejs_external_memory_bytes{job="tributary"}', '{{instance}} buffers']],
  ['Engine', 'bytes', 'Bytes of weights and of prepared queries.', [`tributary_engine_weights_bytes{${own}}`, '{{run}} weights'], [`tributary_engine_bound_bytes{${own}}`, '{{run}} queries']],
  ['CPU', 'short', 'Seconds a second: cores in use; and the threads that the engine was given.', ['rate(process_cpu_seconds_total{job="tributary"}[$__rate_interval])', '{{instance}}'], [`tributary_engine_threads{${own}}`, '{{run}} threads of the engine']],
  ['Event loop', 's', 'Delay of the main thread.', ['nodejs_eventloop_lag_p99_seconds{job="tributary"}', '{{instance}} p99'], ['nodejs_eventloop_lag_max_seconds{job="tributary"}', '{{instance}} max']],
  ['Versions', 'short', '', ['tributary_build_info', '{{version}}, node {{node}}, onnxruntime {{onnxruntime}}']],
]

const width = 8
const height = 8
let x = 0
let y = 0
let id = 1
const placed = panels.map((panel) => {
  if (typeof panel === 'string') {
    if (x > 0) y += height
    x = 0
    return { id: id++, type: 'row', title: panel, collapsed: false, panels: [], gridPos: { h: 1, w: 24, x: 0, y: y++ } }
  }
  const [title, unit, description, ...queries] = panel
  const gridPos = { h: height, w: width, x, y }
  x += width
  if (x === 24) {
    x = 0
    y += height
  }
  return {
    id: id++, type: 'timeseries', title, description, datasource, gridPos,
    fieldConfig: { defaults: { unit, custom: { lineWidth: 1, fillOpacity: 8, showPoints: 'never' } }, overrides: [] },
    options: { legend: { displayMode: 'list', placement: 'bottom', showLegend: true }, tooltip: { mode: 'multi', sort: 'desc' } },
    targets: queries.map(([expr, legendFormat], at) => ({ datasource, expr, legendFormat, refId: String.fromCharCode(65 + at) })),
  }
})

const variable = (name, label, query) => ({
  name, label, type: 'query', datasource, definition: query, query: { query, refId: `variable-${name}` }, refresh: 2, sort: 3, multi: true,
  includeAll: true, allValue: '.*', current: { selected: true, text: ['All'], value: ['$__all'] },
})

export const dashboard = {
  uid: 'tributary', title: 'tributary', tags: ['tributary'], schemaVersion: 39, version: 1, editable: true, graphTooltip: 1, refresh: '15s',
  time: { from: 'now-1h', to: 'now' }, timezone: 'browser', annotations: { list: [] },
  templating: {
    list: [
      { name: 'datasource', label: 'Prometheus', type: 'datasource', query: 'prometheus', current: {} },
      variable('run', 'run', 'label_values(tributary_healthy, run)'),
      variable('partition', 'partition', 'label_values(tributary_documents_total{run=~"$run"}, partition)'),
    ],
  },
  panels: placed,
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(new URL('dashboard.json', import.meta.url), `${JSON.stringify(dashboard, null, 2)}\n`)
