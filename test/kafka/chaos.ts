/** @file One round: a run, its workers, and what is done to them; all of it follows from a seed. */
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { uniforms } from '../../src/base/index.js'
import { mainPath } from '../cli/tributary.js'
import type { Process, Processes } from './processes.js'
import type { Fate } from './proxy.js'
import type { WorkerOptions } from './worker.js'

/** The group's session: as short as a busy machine bears. */
export const sessionMs = 3_000
/** Until the answer of a request counts as lost. */
const requestMs = 2_000
/** Faults begin and end with these commits of a run; it has more. */
const commitFirst = 5
const commitLast = 70
const roundMsMax = 180_000

type Blow = 'kill' | 'stop' | 'end' | 'join' | 'broker'

export interface RoundParts {
  readonly seed: number
  readonly processes: Processes
  readonly brokers: string
  readonly prefix: string
  readonly queries: readonly string[]
  readonly k: number
  /** The real command line, with all that `score` needs; without it the workers of worker.ts. */
  readonly commandLine?: { readonly home: string; readonly args: readonly string[] }
  /** Resolves when all documents are there. Until then workers follow; then they are asked to end, and others end by themselves. */
  readonly arrived: Promise<unknown>
  /** Kills the broker and starts it again. */
  readonly restartBroker: () => Promise<void>
}

export interface Round {
  readonly run: string
  /** For the proxy: the run commits. What is due with this commit happens now. */
  readonly fateOf: () => Fate
  /** Starts the workers; resolves when all of them have ended by themselves. Rejects for one that ends otherwise. */
  go(): Promise<string>
}

export const newRound = ({ seed, processes, brokers, prefix, queries, k, commandLine, arrived, restartBroker }: RoundParts): Round => {
  const run = `round-${seed}`
  const chance = uniforms(seed)
  const below = (count: number): number => Math.floor(chance() * count)
  const blows = new Map<number, Blow[]>()
  const fates = new Map<number, Fate>()
  const commit = (): number => commitFirst + below(commitLast - commitFirst)
  const kinds: Blow[] = ['kill', 'stop', ...(['kill', 'stop', 'end', 'join'] as const).filter(() => chance() < 0.4), ...(seed % 10 === 3 ? ['broker' as const] : [])]
  for (const kind of kinds) {
    const at = commit()
    blows.set(at, [...(blows.get(at) ?? []), kind])
  }
  const accidents: readonly Fate[] = ['answer lost', 'answer cut', 'request cut', { heldMs: requestMs / 4 }, { heldMs: requestMs * 1.5 }]
  for (let i = 0; i < 4; i++) fates.set(commit(), accidents[below(accidents.length)])
  const plan = `blows ${JSON.stringify([...blows])}, commits ${JSON.stringify([...fates])}`

  const workers: Process[] = []
  const hit = new Set<Process>()
  const failed: unknown[] = []
  const running: Promise<void>[] = []
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TRIBUTARY_')))
  let follow = true
  const start = (): void => {
    const options: WorkerOptions = { brokers: [brokers], prefix, run, queries, k, sessionMs, requestMs, batchMs: 5, follow }
    const worker = commandLine === undefined
      ? processes.start([fileURLToPath(new URL('worker.js', import.meta.url)), JSON.stringify(options)], { env: environment })
      : processes.start([mainPath, ...commandLine.args, ...(follow ? ['--follow'] : []), '--run', run, '-k', String(k), '--home', commandLine.home], {
        env: { ...environment, TRIBUTARY_LOG: `kafka://${brokers}`, TRIBUTARY_KAFKA_PREFIX: prefix, TRIBUTARY_KAFKA_SESSION_TIMEOUT_MS: String(sessionMs) },
      })
    workers.push(worker)
    running.push(worker.ended.then(({ code, signal }) => {
      if (code !== 0 && !hit.has(worker)) failed.push(new Error(`a worker of ${run} ended with ${code ?? signal}: ${worker.said()}`))
    }))
  }

  const replace = (victim: Process, signal: 'SIGKILL' | 'SIGTERM'): void => {
    hit.add(victim)
    victim.child.kill(signal)
    start()
  }
  /** Those that wait for more documents give way to workers that end when the run has caught up. */
  const finish = async (): Promise<void> => {
    await arrived
    follow = false
    for (const worker of [...workers]) if (worker.alive() && !hit.has(worker)) replace(worker, 'SIGTERM')
  }

  const strike = async (blow: Blow): Promise<void> => {
    if (blow === 'broker') return restartBroker()
    const alive = workers.filter((worker) => worker.alive() && !hit.has(worker))
    if (alive.length === 0) return
    if (blow === 'join') return start()
    const victim = alive[below(alive.length)]
    if (blow === 'stop') {
      victim.child.kill('SIGSTOP')
      await sleep(1.6 * sessionMs)
      victim.child.kill('SIGCONT')
      return
    }
    replace(victim, blow === 'kill' ? 'SIGKILL' : 'SIGTERM')
  }

  let commits = 0
  return {
    run,
    fateOf: () => {
      commits++
      for (const blow of blows.get(commits) ?? []) running.push(strike(blow).catch((error: unknown) => void failed.push(error)))
      return fates.get(commits) ?? 'fine'
    },
    go: async () => {
      start()
      start()
      running.push(finish().catch((error: unknown) => void failed.push(error)))
      const endMs = Date.now() + roundMsMax
      for (let waitedFor = 0; ;) {
        const left = endMs - Date.now()
        const rest = running.slice(waitedFor)
        if (rest.length === 0) break
        waitedFor = running.length
        const over = await Promise.race([Promise.all(rest).then(() => false), sleep(Math.max(0, left), true, { ref: false })])
        if (over) {
          const state = workers.map((worker) => `${worker.child.pid} ${worker.alive() ? 'alive' : 'ended'}: ${worker.said()}`).join('\n')
          assert.fail(`round ${seed} is not done after ${roundMsMax / 1000} s and ${commits} commits; ${plan}\n${state}`)
        }
      }
      if (failed.length > 0) throw new AggregateError(failed, `round ${seed}; ${plan}; ${failed.map(String).join('\n')}`)
      return `${workers.length} workers, ${commits} commits, ${plan}`
    },
  }
}
