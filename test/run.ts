/**
 * @file `npm test`: the test files of dist/test in processes of their own, as many at a time as there are cores; all but those
 * that start clusters or stop and kill processes, which `npm run test:faults` runs. `npm test -- NAME...`: only the files,
 * of both, whose path holds one of the names (`npm test -- log table/tables`). Prints what failed and at the end node's own
 * counts; ends with 1 if anything failed or nothing ran.
 */
import { spec } from 'node:test/reporters'
import { availableParallelism } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { run } from 'node:test'
import { fileURLToPath } from 'node:url'
import { globSync } from 'tinyglobby'

/** A file that takes longer hangs. */
const fileMsMax = 8 * 60_000

/** What `npm run test:faults` runs: real brokers, killed and stopped processes, a full disk. */
const faults = [
  'kafka/', 'log/kafka/kafkajs.test', 'log/kafka/real-contract.test', 'pipeline/kill.test', 'pipeline/kafka-workers.test', 'pipeline/processes.test', 'cli/experiments-on-kafka', 'cli/topics',
]

/** Files that run after the others, one by one: they start brokers, browsers and workers that have clocks of their own. */
const alone = [...faults, 'monitor/', 'pipeline/several-workers.test', 'cli/serve', 'report/', 'web/']

const here = dirname(fileURLToPath(import.meta.url))
const isOf = (file: string, some: readonly string[]): boolean => some.some((part) => relative(here, file).startsWith(part))
const onlyFaults = process.argv.includes('--faults')
const names = process.argv.slice(2).filter((name) => name !== '--faults')
const all = globSync('**/*.test.js', { cwd: here, absolute: true }).sort()
const files =
  names.length === 0
    ? all.filter((file) => isOf(file, faults) === onlyFaults)
    : all.filter((file) => names.some((name) => relative(here, file).replace(/\.js$/, '.ts').includes(name.replace(/^test\//, ''))))

if (files.length === 0) {
  process.stderr.write(`no test file of ${all.length} has ${names.map((name) => `"${name}"`).join(' or ')} in its path\n`)
  process.exitCode = 1
} else {
  const startedMs = performance.now()
  const took = new Map<string, number>()
  const isAlone = (file: string): boolean => isOf(file, alone)
  for (const [some, concurrency] of [
    [files.filter((file) => !isAlone(file)), Math.max(1, availableParallelism())], [files.filter(isAlone), 1],
  ] as const)
    if (some.length > 0) await runFiles(some, concurrency, took)
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
  const slowest = [...took].sort(([, a], [, b]) => b - a).slice(0, 8).filter(([, ms]) => ms > 1000)
  process.stdout.write(`${files.length} files in ${seconds(performance.now() - startedMs)}\n`)
  for (const [file, ms] of slowest) process.stdout.write(`  ${seconds(ms).padStart(8)}  ${join('test', relative(here, file)).replace(/\.js$/, '.ts')}\n`)
}

/** Resolves when all is printed. */
function runFiles(some: readonly string[], concurrency: number, took: Map<string, number>): Promise<void> {
  const stream = run({ files: [...some], concurrency, timeout: fileMsMax })
  const count = ({ file = '', details, nesting }: { file?: string; details: { duration_ms: number }; nesting: number }): void => {
    if (nesting === 0) took.set(file, (took.get(file) ?? 0) + details.duration_ms)
  }
  stream.on('test:pass', count)
  stream.on('test:fail', count)
  stream.on('test:fail', () => (process.exitCode = 1))
  const printed = stream.compose(new spec())
  printed.pipe(process.stdout, { end: false })
  return new Promise((resolve, reject) => printed.on('end', resolve).on('error', reject))
}
