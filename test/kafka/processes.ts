/**
 * @file Child processes that do not outlive this one, stopped ones included: a guard, a shell that is told their ids,
 * ends them when its standard input ends.
 */
import { spawn, type ChildProcess } from 'node:child_process'

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Process {
  readonly child: ChildProcess
  /** What it has printed, its last part. */
  readonly said: () => string
  readonly alive: () => boolean
  readonly ended: Promise<Ended>
}

export interface Processes {
  start(args: readonly string[], options?: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv }): Process
  /** Ends all that there are. */
  end(): Promise<void>
}

export const processes = (): Processes => {
  const all = new Set<Process>()
  // The last line counts: ids of processes that have ended are other processes' now.
  const guard = spawn('sh', ['-c', 'while read -r line; do pids=$line; done; [ -z "$pids" ] || kill -9 $pids'], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  guard.unref()
  const tell = (): void => void guard.stdin.write(`${[...all].map(({ child }) => child.pid).join(' ')}\n`)
  return {
    start: (args, { cwd, env } = {}) => {
      const child = spawn(process.execPath, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
      let said = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (said = (said + part.toString()).slice(-4000)))
      const own: Process = {
        child,
        said: () => said,
        alive: () => child.exitCode === null && child.signalCode === null,
        ended: new Promise((resolve, reject) => {
          child.on('error', reject)
          child.on('close', (code, signal) => {
            all.delete(own)
            tell()
            resolve({ code, signal })
          })
        }),
      }
      all.add(own)
      tell()
      return own
    },
    end: async () => {
      const ends = [...all].map(({ ended }) => ended)
      for (const { child } of all) child.kill('SIGKILL')
      await Promise.all(ends)
      guard.stdin.end('\n')
    },
  }
}
