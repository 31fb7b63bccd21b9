/**
 * @file `npm test [-- NAME...]`: every test file of dist/test in processes of their own, as many at a time as there are
 * cores. With names, only the files whose path holds one of them (`npm test -- log table/tables`). Prints what failed and
 * at the end node's own counts; ends with 1 if anything failed or nothing ran.
 */
import { spec } from 'node:test/reporters'
import { availableParallelism } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { run } from 'node:test'
import { fileURLToPath } from 'node:url'
import { globSync } from 'tinyglobby'

/** A file that takes longer hangs: the whole suite has ten minutes. */
const fileMsMax = 8 * 60_000

const here = dirname(fileURLToPath(import.meta.url))
const names = process.argv.slice(2)
const all = globSync('**/*.test.js', { cwd: here, absolute: true }).sort()
const files = all.filter((file) => names.length === 0 || names.some((name) => relative(here, file).replace(/\.js$/, '.ts').includes(name.replace(/^test\//, ''))))

if (files.length === 0) {
  process.stderr.write(`no test file of ${all.length} has ${names.map((name) => `"${name}"`).join(' or ')} in its path\n`)
  process.exitCode = 1
} else {
  const startedMs = performance.now()
  const took = new Map<string, number>()
  const stream = run({ files, concurrency: Math.max(1, availableParallelism()), timeout: fileMsMax })
  stream.on('test:fail', () => (process.exitCode = 1))
  const count = ({ file = '', details, nesting }: { file?: string; details: { duration_ms: number }; nesting: number }): void => {
    if (nesting === 0) took.set(file, (took.get(file) ?? 0) + details.duration_ms)
  }
  stream.on('test:pass', count)
  stream.on('test:fail', count)
  stream.compose(new spec()).pipe(process.stdout)
  stream.on('end', () => {
    const slowest = [...took].sort(([, a], [, b]) => b - a).slice(0, 5).filter(([, ms]) => ms > 1000)
    const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
    process.on('exit', () => {
      process.stdout.write(`${files.length} files in ${seconds(performance.now() - startedMs)}\n`)
      for (const [file, ms] of slowest) process.stdout.write(`  ${seconds(ms).padStart(8)}  ${join('test', relative(here, file)).replace(/\.js$/, '.ts')}\n`)
    })
  })
}
