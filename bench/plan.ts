/**
 * @file What `tributary plan` foretells, beside what is then measured in the same minutes on the same model: speeds of both passes of a
 * fit and of scoring in every join, time of the eigendecompositions, memory, and the factor set's bytes.
 *
 *     node dist/bench/plan.js --model DIR --documents documents.jsonl
 *         [--queries 10] [--rank 32] [--shared-rank 256] [--track mlp] [--batch 1] [--fit-batch 4] [--batches 3] [--threads 2]
 *         [--parts fit,dense,low-rank,shared] [--out figures.json]
 *
 * Documents are those of bench/peer/make-inputs. Each part runs in a process of its own, whose highest resident memory is what is
 * held against the plan's. The plan takes the rate of products that it measures as it begins; where a machine's rate moves, the last
 * column says how well it would have done with the rate beside each part. The log's bytes are not measured.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import Table from 'cli-table3'
import { trackedLayers, type JoinKind } from '../src/influence/index.js'
import { openModel } from '../src/model/index.js'
import { planRun, type RunPlan } from '../src/pipeline/plan.js'
import { formatBytes, resolveSettings } from '../src/settings/index.js'
import { onnxEngine } from '../src/tensor/index.js'
import { jsonLines, madeQueries, peakBytes, timeFit, timeScoring, type Tokens } from './passes.js'

const { values } = parseArgs({
  options: {
    model: { type: 'string' }, documents: { type: 'string' }, queries: { type: 'string', default: '10' }, rank: { type: 'string', default: '32' },
    'shared-rank': { type: 'string', default: '256' }, track: { type: 'string', default: 'mlp' }, batch: { type: 'string', default: '1' }, 'fit-batch': { type: 'string', default: '4' },
    batches: { type: 'string', default: '3' }, threads: { type: 'string', default: '2' }, parts: { type: 'string', default: 'fit,dense,low-rank,shared' },
    part: { type: 'string' }, out: { type: 'string' },
  },
})
if (values.model === undefined || values.documents === undefined) throw new Error('--model and --documents are needed')
const { model: folder, documents: file, track } = values
const documents = jsonLines<{ readonly tokens: Tokens }>(file).map(({ tokens }) => tokens)
const context = documents[0].length

const joinKinds = ['dense', 'low-rank', 'shared'] as const satisfies readonly JoinKind[]
type Part = 'fit' | JoinKind

interface Measured {
  /** By the names of the table below. */
  readonly figures: Readonly<Record<string, number>>
  /** FLOP/s, beside each of them. */
  readonly rates: Readonly<Record<string, number>>
}

const speedOf = (kind: JoinKind): string => `${kind}, tokens/s`
const memoryOf = (kind: JoinKind): string => `${kind}, memory`

const measure = async (part: Part): Promise<Measured> => {
  const checkpoint = await openModel(folder, { positionsMax: Math.max(context, 4096) })
  const tracked = trackedLayers(checkpoint.model, track)
  await using engine = onnxEngine({ threads: Number(values.threads) })
  const batches = Number(values.batches)
  if (part !== 'fit') {
    const shape = { queries: Number(values.queries), rank: Number(part === 'shared' ? values['shared-rank'] : values.rank) }
    const speed = await timeScoring(engine, checkpoint, tracked, { documents, batch: Number(values.batch), batches, kind: part, shape, queries: madeQueries(part, tracked, shape) })
    return { figures: { [speedOf(part)]: speed.tokensPerSecond, [memoryOf(part)]: peakBytes() }, rates: { [speedOf(part)]: speed.gemmRate } }
  }
  const home = mkdtempSync(join(tmpdir(), 'tributary-plan-'))
  try {
    const fit = await timeFit(engine, checkpoint, tracked, home, { documents, batch: Number(values['fit-batch']), batches, track })
    const files = readdirSync(home, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    return {
      figures: {
        'covariances, tokens/s': fit.covariances.tokensPerSecond, 'eigenvalues, tokens/s': fit.eigenvalues.tokensPerSecond, 'eigendecompositions, s': fit.eigendecompositionSeconds,
        'sums of a fit, memory': fit.sumBytes, 'factor set, disk': files.reduce((bytes, entry) => bytes + statSync(join(entry.parentPath, entry.name)).size, 0),
      },
      rates: {
        'covariances, tokens/s': fit.covariances.gemmRate, 'eigenvalues, tokens/s': fit.eigenvalues.gemmRate,
        'eigendecompositions, s': Math.max(fit.covariances.gemmRate, fit.eigenvalues.gemmRate),
      },
    }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

const foretold = ({ fit, joins }: RunPlan): Readonly<Record<string, number>> => ({
  'covariances, tokens/s': fit.covarianceTokensPerSecond, 'eigenvalues, tokens/s': fit.eigenvalueTokensPerSecond, 'eigendecompositions, s': fit.eigendecompositionSeconds,
  'sums of a fit, memory': fit.sumBytes, 'factor set, disk': fit.diskBytes,
  ...Object.fromEntries(joins.flatMap(({ join: kind, tokensPerSecond, bytes }) => [[speedOf(kind), tokensPerSecond], [memoryOf(kind), bytes]])),
})

const isPart = (name: string): name is Part => name === 'fit' || joinKinds.some((kind) => kind === name)
const asPart = (name: string): Part => {
  if (!isPart(name)) throw new Error(`--parts ${name}: there are fit, ${joinKinds.join(', ')}`)
  return name
}

const main = async (): Promise<void> => {
  const parts = values.parts.split(',').map(asPart)
  const plan = await planRun(resolveSettings('plan', {
    flags: {
      model: folder, device: 'cpu', threads: values.threads, track, rank: values.rank, sharedRank: values['shared-rank'], queryCount: values.queries,
      context: String(context), tokensMean: String(context), batchTokens: String(Number(values.batch) * context), config: undefined,
    },
    env: {},
  }))
  console.error(`products: ${(plan.gemmRate / 1e9).toPrecision(3)} GFLOP/s`)
  const wanted = foretold(plan)
  const rows: { readonly name: string; readonly foretold: number; readonly measured: number; readonly ratio: number; readonly ratioAtRateBeside: number }[] = []
  for (const part of parts) {
    const { stdout } = await promisify(execFile)(process.execPath, [...process.argv.slice(1), '--part', part], { maxBuffer: 2 ** 24 })
    const { figures, rates } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Measured
    for (const [name, measured] of Object.entries(figures)) {
      const faster = rates[name] === undefined ? 1 : rates[name] / plan.gemmRate
      const ratio = measured / wanted[name]
      rows.push({ name, foretold: wanted[name], measured, ratio, ratioAtRateBeside: name.endsWith(', s') ? ratio * faster : ratio / faster })
    }
    console.error(`${part}: measured`)
  }
  const figure = (name: string, value: number): string =>
    /memory|disk/.test(name) ? formatBytes(value) : value.toLocaleString('en-US', { maximumSignificantDigits: 3 })
  const table = new Table({ head: ['', 'foretold', 'measured', 'measured / foretold', 'at the rate beside it'], style: { head: [], border: [] } })
  for (const { name, foretold: before, measured, ratio, ratioAtRateBeside } of rows)
    table.push([name, figure(name, before), figure(name, measured), ratio.toFixed(2), ratioAtRateBeside === ratio ? '' : ratioAtRateBeside.toFixed(2)])
  console.log(table.toString())
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify({ ...values, gemmGflops: plan.gemmRate / 1e9, rows }, null, 2)}\n`)
}

if (values.part === undefined) await main()
else process.stdout.write(`${JSON.stringify(await measure(asPart(values.part)))}\n`)
