/**
 * @file A broker on the local JVM. It never outlives the process that started it: a guard, a shell that waits for the end
 * of its standard input, ends it and removes its folder, also after SIGKILL.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { STARTED, formatArguments, log4jProperties, serverProperties, type ListenerPorts, type Place } from './config.js'
import { brokerJars } from './jars.js'

const run = promisify(execFile)

/** 3 s on a quiet machine, 20 s on a busy one after SIGKILL. */
const startMsMax = 120_000

export interface Node {
  /** SIGKILL: what was not yet written to disk by the kernel is there all the same, as after a crash of the JVM. */
  kill(): Promise<void>
  /** SIGSTOP and SIGCONT: connections stay, nothing answers. */
  pause(): void
  resume(): void
  start(): Promise<void>
  dispose(): Promise<void>
}

export interface NodeOptions {
  readonly ports: ListenerPorts
  /** In a cluster of several, which have to be started together; only on the JVM. */
  readonly place?: Place
  /** Files for the folder `tls`, by name. */
  readonly tlsFiles: Readonly<Record<string, string>>
  readonly overrides?: Readonly<Record<string, string>>
  /** The compiler of the JVM: `quick` starts faster, `full` runs faster. */
  readonly jit?: 'quick' | 'full'
}

export const newClusterId = (): string => randomBytes(16).toString('base64url').replace(/^-/, 'a')

/** Formats and starts a broker. Rejects with its own words where it does not start. */
export const jvmNode = async ({ ports, place, tlsFiles, overrides, jit = 'quick' }: NodeOptions): Promise<Node> => {
  const classPath = join(await brokerJars(), '*')
  const folder = mkdtempSync(join(tmpdir(), 'tributary-broker-'))
  const guards = new Set<ChildProcess>()
  let child: ChildProcess | undefined

  const guard = (pid: number): ChildProcess => {
    const started = spawn('sh', ['-c', 'cat >/dev/null; kill -9 "$1" 2>/dev/null; sleep 0.2; rm -rf "$2"', 'guard', String(pid), folder], {
      stdio: ['pipe', 'ignore', 'ignore'], detached: true,
    })
    started.unref()
    guards.add(started)
    started.once('exit', () => guards.delete(started))
    return started
  }
  const file = (name: string, text: string): string => {
    const path = join(folder, name)
    writeFileSync(path, text)
    return path
  }
  const java = [
    ...(place === undefined ? ['-Xmx400m', '-Xms128m'] : ['-Xmx256m', '-Xms96m']), '-XX:+UseSerialGC', ...(jit === 'quick' ? ['-XX:TieredStopAtLevel=1'] : []), '-Xshare:auto',
    '-Djava.awt.headless=true', '-cp', classPath,
  ]

  const start = async (): Promise<void> => {
    const properties = join(folder, 'server.properties')
    const started = spawn('java', [`-Dlog4j2.configurationFile=${join(folder, 'log4j2.properties')}`, ...java, 'kafka.Kafka', properties], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    if (started.pid === undefined) throw new Error('java does not start')
    child = started
    const watch = guard(started.pid)
    started.once('exit', () => watch.kill('SIGKILL'))
    let said = ''
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => fail(`the broker did not start within ${startMsMax / 1000} s`), startMsMax)
      const fail = (what: string): void => {
        clearTimeout(timer)
        started.kill('SIGKILL')
        reject(new Error(`${what}\n${said}`))
      }
      const onText = (text: string): void => {
        said = (said + text).slice(-8000)
        if (said.includes(STARTED)) {
          clearTimeout(timer)
          resolve()
        }
      }
      started.stdout?.setEncoding('utf8').on('data', onText)
      started.stderr?.setEncoding('utf8').on('data', onText)
      started.once('exit', (code, signal) => fail(`the broker ended with ${code ?? signal}`))
    })
  }

  const kill = async (): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  const dispose = async (): Promise<void> => {
    await kill()
    for (const one of guards) one.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }

  try {
    mkdirSync(join(folder, 'tls'))
    for (const [name, text] of Object.entries(tlsFiles)) file(join('tls', name), text)
    file('log4j2.properties', log4jProperties)
    const properties = file('server.properties', serverProperties({
      ports, place, overrides, bind: '127.0.0.1', dataFolder: join(folder, 'data'), tlsFolder: join(folder, 'tls'),
    }))
    await run('java', [...java, 'kafka.tools.StorageTool', ...formatArguments(place?.clusterId ?? newClusterId(), properties, ports.tls !== undefined)], { timeout: startMsMax })
    await start()
  } catch (error) {
    await dispose()
    throw error
  }
  return { kill, start, dispose, pause: () => void child?.kill('SIGSTOP'), resume: () => void child?.kill('SIGCONT') }
}
