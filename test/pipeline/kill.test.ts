/**
 * @file Whole processes, killed at random moments and started again until they are done: what lies in the home then is
 * what an undisturbed home holds, byte for byte.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { uniforms } from '../../src/base/index.js'
import { openLogForReading } from '../../src/pipeline/home.js'
import { mainPath } from '../cli/tributary.js'
import { queries, readAll, stateOf, temporary, textOf } from './drive.js'
import { tinyCheckpoint } from './tiny-checkpoint.js'

/** Kills in all, at the least; the issue asks for 25. */
const killsMin = 25
const seed = Number(process.env.TRIBUTARY_TEST_SEED ?? 20_261_123)
const shards = 10
const documentsEach = 26

const folder = temporary()
const model = join(folder, 'model')
const common = ['--model', model, '--factors', 'f', '--batch-tokens', '128', '--threads', '1', '--commit-every-ms', '0']
interface Step {
  readonly args: readonly string[]
  /** After so many kills in a home the process is let be. */
  readonly killsMax: number
}
/** Everything that a home goes through. Commits as often as can be, so that kills meet them. */
const steps: readonly Step[] = [
  { args: ['ingest', join(folder, 'shards'), '--partitions', '3'], killsMax: 4 },
  { args: ['queries', 'add', join(folder, 'queries.jsonl')], killsMax: 0 },
  { args: ['fit', ...common, '--documents', '150'], killsMax: 6 },
  { args: ['score', ...common, '--run', 'r', '-k', '7', '--join', 'dense'], killsMax: 10 },
  { args: ['score', ...common, '--run', 'r2', '-k', '7', '--join', 'low-rank', '--rank', '4', '--rescore', '3'], killsMax: 2 },
]

const makeInputs = async (): Promise<void> => {
  await tinyCheckpoint(model, { overflowing: '~' })
  mkdirSync(join(folder, 'shards'), { recursive: true })
  for (let s = 0; s < shards; s++) {
    const lines = Array.from({ length: documentsEach }, (_, i) => {
      const n = s * documentsEach + i
      // Now and then one that cannot be read, one without a token to predict, one without a finite loss, one with no id.
      if (n % 97 === 50) return '{"text": "torn'
      return JSON.stringify({ ...(n % 5 === 4 ? {} : { id: `d${n}` }), source: `s${n % 4}`, text: n % 61 === 30 ? 'x' : n % 83 === 40 ? 'a ~ b' : `${textOf(n)} ${n}` })
    })
    writeFileSync(join(folder, 'shards', `part-${s}.jsonl`), `${lines.join('\n')}\n`)
  }
  writeFileSync(join(folder, 'queries.jsonl'), queries.map((query) => `${JSON.stringify(query)}\n`).join(''))
}

interface Ended {
  readonly code: number | null
  readonly killed: boolean
  readonly ms: number
  readonly output: string
}

/** One process; killed after `killAfterMs` unless it was done before. */
const tributary = (home: string, args: readonly string[], killAfterMs?: number): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TRIBUTARY_')))
    const child = spawn(process.execPath, [mainPath, ...args, '--home', home], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    child.stdout.on('data', (part: Buffer) => (output += part.toString()))
    child.stderr.on('data', (part: Buffer) => (output += part.toString()))
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, killed: signal === 'SIGKILL', ms: performance.now() - began, output })
    })
  })

/** All that is in a home and is meant to be the same: by identity, not by the order in which things were appended. */
const contentsOf = async (home: string): Promise<Readonly<Record<string, unknown>>> => {
  await using log = await openLogForReading({ home })
  const documents = (await readAll(log, 'documents')).map(({ partition, offset, key, value }) => [partition, offset, key, value])
  const letters = (await readAll(log, 'dead-letters')).map(({ key, value }) => JSON.stringify([key, { ...value, original: Buffer.from(value?.original ?? []).toString() }])).sort()
  const rescored = (await log.latest('rescored')).map(({ key, value }) => [key, value])
  const factors: Record<string, string> = {}
  const walk = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const own = join(path, entry.name)
      if (entry.isDirectory()) walk(own)
      else factors[own.slice(home.length)] = own.endsWith('.json') ? readFileSync(own, 'utf8') : createHash('sha256').update(readFileSync(own)).digest('hex')
    }
  }
  walk(join(home, 'factors'))
  return { documents, letters, rescored, factors, state: JSON.parse(await stateOf(log, 'r')), state2: JSON.parse(await stateOf(log, 'r2')) }
}

describe('a home whose processes are killed', () => {
  test(`ends as an undisturbed one (seed ${seed})`, { timeout: 290_000 }, async (t) => {
    await makeInputs()
    const undisturbed = join(folder, 'undisturbed')
    const usualMs: number[] = []
    for (const { args } of steps) {
      const { code, ms, output } = await tributary(undisturbed, args)
      assert.equal(code, 0, output)
      usualMs.push(ms)
    }
    const wanted = await contentsOf(undisturbed)
    const chance = uniforms(seed)
    const kills: Record<string, number> = {}
    let total = 0
    const disturbed = async (h: number): Promise<void> => {
      const home = join(folder, `home-${h}`)
      for (const [at, { args, killsMax }] of steps.entries()) {
        for (let tries = 0; ; tries++) {
          // Half of a process's time is its start: the moments lie rather in what follows.
          const { code, killed, output } = await tributary(home, args, tries < killsMax && total < killsMin ? usualMs[at] * (0.4 + 0.7 * chance()) : undefined)
          if (!killed) {
            assert.equal(code, 0, `seed ${seed}, home ${h}: ${output}`)
            break
          }
          kills[args[0]] = (kills[args[0]] ?? 0) + 1
          total++
        }
      }
      const found = await contentsOf(home)
      for (const part of Object.keys(wanted)) assert.deepEqual(found[part], wanted[part], `${part} of home ${h} differ (seed ${seed}, kills ${JSON.stringify(kills)})`)
    }
    // Two at a time: a process is busy on one core.
    for (let h = 0; total < killsMin; h += 2) await Promise.all([disturbed(h), disturbed(h + 1)])
    t.diagnostic(`${total} kills: ${JSON.stringify(kills)}; undisturbed ${usualMs.map(Math.round).join(', ')} ms`)
  })
})
