/**
 * @file A process of its own for the tests of the embedded log: `node child.js COMMAND HOME ...`. Says on standard
 * output, a line of JSON each, what it did.
 */
import { runId } from '../../src/base/index.js'
import { embeddedLog, type Log } from '../../src/log/index.js'
import { document, tables } from './records.js'

const [command, home, ...rest] = process.argv.slice(2)
const say = (line: unknown): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

const commands: { readonly [name: string]: (log: Log) => Promise<void> } = {
  /** Takes a lease and keeps it until it is killed. */
  hold: async (log) => {
    log.lease(rest[0], 'be killed')
    say({ held: process.pid })
    await new Promise(() => setInterval(() => {}, 1000))
  },
  /** Tries to take a lease. */
  take: async (log) => {
    log.lease(rest[0], 'see who has it')
    say({ taken: process.pid })
  },
  /** Appends documents `from` to `to`, unique, some at a time. */
  append: async (log) => {
    const [from, to, each, bytes] = rest.map(Number)
    for (let next = from; next < to; next += each) {
      const ids = Array.from({ length: Math.min(each, to - next) }, (_, i) => next + i)
      const { appended } = await log.append(ids.map((id) => document(`d${id}`, 'x'.repeat(bytes))), { unique: true })
      say({ appended })
    }
  },
  /** Appends until the disk is full, and then tries twice more: a process lives on after a failed write. */
  fill: async (log) => {
    for (let next = 0, failures = 0; failures < 3; ) {
      const ids = Array.from({ length: 500 }, (_, i) => next + i)
      try {
        const { appended } = await log.append(ids.map((id) => document(`d${id}`, 'x'.repeat(2000))), { unique: true })
        say({ appended })
        next += appended
      } catch (error) {
        failures++
        say({ error: String(error), fix: (error as { fix?: string }).fix })
      }
    }
    say({ held: process.pid })
  },
  /** Commits for ever: after commit n the position is n, the table says n, and n(n+1)/2 influence records are there. */
  commit: async (log) => {
    for await (const assignment of log.assignments(runId('crash'), { signal: new AbortController().signal })) {
      const { position } = await assignment.restore()
      for (let n = position.offset + 1; ; n++) {
        const influence = Array.from({ length: n }, (_, i) => ({
          topic: 'influence' as const,
          key: `${n} ${i}`,
          value: {
            run: 'crash', document: 'd', source: 's', partition: assignment.partition, offset: n, piece: i, pieces: n,
            tokens: 1, tokensTotal: 1, loss: 0, gradientNorm: 0, influence: Array<number>(50).fill(n),
          },
        }))
        await assignment.commit({
          append: [...influence, tables(assignment.partition, n, 'q', 'crash')],
          position: { offset: n, detail: (n * (n + 1)) / 2 },
        })
        say({ committed: n })
      }
    }
  },
}

try {
  await using log = await embeddedLog(home)
  await log.ensureTopics()
  await commands[command](log)
} catch (error) {
  say({ error: String(error), name: error instanceof Error ? error.name : '', fix: (error as { fix?: string }).fix })
  process.exitCode = 1
}
