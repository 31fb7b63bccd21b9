/**
 * @file How long symmetric eigendecompositions take, beside LAPACK's (numpy) in the same run, turn about.
 *
 *     node dist/bench/eigh.js [--python PATH] [--sizes 576,768,1536] [--rounds 3] [--queue 8] [--threads 2]
 *                             [--lapack-threads 2]
 *
 * Per size one matrix: ours on one thread, LAPACK's on one and on `lapack-threads`. Then a queue of `queue` matrices
 * each of n = 1536 and 576: ours side by side on `threads` threads, numpy one after another on `lapack-threads`. Wall
 * and CPU seconds: on a machine that others use, trust the CPU seconds of one thread (threads that wait for each other
 * spin). Without a python that has numpy, ours alone.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { normals } from '../src/base/index.js'
import { eighAll, type Symmetric } from '../src/tensor/linalg/index.js'

interface Taken {
  readonly wall: number
  readonly cpu: number
}

/** XᵀX of standard normals with a graded scale, as the covariance of activations. */
const covariance = (n: number, seed: number): Float64Array => {
  const next = normals(seed)
  const x = Float64Array.from({ length: 32 * n }, (_, i) => next() * 10 ** ((-3 * (i % n)) / n))
  const a = new Float64Array(n * n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = (i === j ? 1e-2 : 1e-3) * next()
      for (let t = 0; t < 32; t++) sum += x[t * n + i] * x[t * n + j]
      a[i * n + j] = a[j * n + i] = sum
    }
  return a
}

const ours = async (jobs: readonly Symmetric[], threads: number): Promise<Taken> => {
  const [wall, cpu] = [performance.now(), process.cpuUsage()]
  for await (const eigen of eighAll(jobs, { threads })) if (eigen.values.length === 0) throw new Error('empty')
  const { user, system } = process.cpuUsage(cpu)
  return { wall: (performance.now() - wall) / 1e3, cpu: (user + system) / 1e6 }
}

const script = `
import json, resource, sys, time
import numpy as np
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
np.linalg.eigh(np.eye(64))
for line in sys.stdin:
    a = [np.fromfile(f).reshape(n, n) for f, n in json.loads(line)]
    wall0, cpu0 = time.perf_counter(), cpu()
    for x in a:
        np.linalg.eigh(x)
    print(json.dumps({'wall': time.perf_counter() - wall0, 'cpu': cpu() - cpu0}), flush=True)
`

/** A python that decomposes the matrices in files, one after another. */
const lapack = (python: string, threads: number) => {
  const env = { ...process.env, OPENBLAS_NUM_THREADS: `${threads}`, OMP_NUM_THREADS: `${threads}` }
  // Where these are set they choose slow kernels.
  for (const name of ['OPENBLAS_CORETYPE', 'OPENBLAS_L2_SIZE']) delete (env as NodeJS.ProcessEnv)[name]
  const child = spawn(python, ['-c', script], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    run: async (files: readonly (readonly [string, number])[]): Promise<Taken> => {
      child.stdin.write(`${JSON.stringify(files)}\n`)
      const { value } = await lines.next()
      return JSON.parse(String(value)) as Taken
    },
    close: async (): Promise<void> => {
      child.stdin.end()
      await once(child, 'exit')
    },
  }
}

const least = (taken: readonly Taken[]): Taken => ({
  wall: Math.min(...taken.map(({ wall }) => wall)),
  cpu: Math.min(...taken.map(({ cpu }) => cpu)),
})

const shown = ({ wall, cpu }: Taken): string => `${wall.toFixed(3).padStart(8)} wall ${cpu.toFixed(3).padStart(8)} cpu`

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      python: { type: 'string' },
      sizes: { type: 'string', default: '576,768,1536' },
      rounds: { type: 'string', default: '3' },
      queue: { type: 'string', default: '8' },
      threads: { type: 'string', default: '2' },
      'lapack-threads': { type: 'string' },
    },
  })
  const [rounds, queue, threads] = [Number(values.rounds), Number(values.queue), Number(values.threads)]
  const lapackThreads = Number(values['lapack-threads'] ?? threads)
  const folder = await mkdtemp(join(tmpdir(), 'eigh-'))
  const pythons = values.python === undefined ? [] : [1, lapackThreads].map((count) => lapack(values.python ?? '', count))
  try {
    const made = new Map<number, { job: Symmetric; file: string }>()
    const make = async (n: number) => {
      const known = made.get(n)
      if (known) return known
      const job = { matrix: covariance(n, n), n }
      const file = join(folder, `${n}.f64`)
      await writeFile(file, job.matrix)
      made.set(n, { job, file })
      return { job, file }
    }
    await ours([(await make(576)).job, (await make(576)).job], 1) // compiled kernels

    const compare = async (name: string, sizes: readonly number[], count: number): Promise<void> => {
      const parts = await Promise.all(sizes.map(make))
      const [mine, one, many]: Taken[][] = [[], [], []]
      for (let round = 0; round < rounds; round++) {
        mine.push(await ours(parts.map(({ job }) => job), count))
        const files = parts.map(({ job, file }) => [file, job.n] as const)
        if (pythons.length === 0) continue
        if (count === 1) one.push(await pythons[0].run(files))
        many.push(await pythons[1].run(files))
      }
      console.log(`${name}\n  ours,   ${count} thread(s)  ${shown(least(mine))}`)
      if (one.length > 0) console.log(`  LAPACK, 1 thread(s)  ${shown(least(one))}`)
      if (many.length > 0) console.log(`  LAPACK, ${lapackThreads} thread(s)  ${shown(least(many))}`)
      const ratios = many.map(({ wall }, i) => mine[i].wall / wall).sort((a, b) => a - b)
      if (ratios.length > 0)
        console.log(`  wall, ours/LAPACK's ${lapackThreads}, by round: ${ratios.map((ratio) => ratio.toFixed(2)).join(' ')}`)
    }
    for (const n of values.sizes.split(',').map(Number)) await compare(`n = ${n}`, [n], 1)
    const sizes = [1536, 576].flatMap((n) => new Array<number>(queue).fill(n))
    if (queue > 0) await compare(`${queue} × 1536 and ${queue} × 576, with threads starting`, sizes, threads)
  } finally {
    await Promise.all(pythons.map((python) => python.close()))
    await rm(folder, { recursive: true })
  }
}

await main()
