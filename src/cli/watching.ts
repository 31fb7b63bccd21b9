/**
 * @file A long work made visible: log lines on standard error, and with --listen metrics and health over HTTP.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot } from '../base/index.js'
import type { Log } from '../log/index.js'
import { levelOfDebug, listen, logger, logObserver, monitor, monitorRoutes, type Work } from '../monitor/index.js'
import type { Progress } from '../pipeline/context.js'
import { observers, type Observer } from '../pipeline/observer.js'
import { parseAddress, type GlobalSettings, type WatchedSettings } from '../settings/index.js'
import { loggedProgress } from './progress.js'

export interface Watching extends AsyncDisposable {
  readonly observer: Observer
  /** Where progress goes: a bar or lines as it was given, or lines of the log if these are JSON. */
  readonly progress: Progress
  /** The log is open: lag can be read from it. */
  opened(log: Log): void
  /** The work is over; before the log is closed. */
  ended(error?: unknown): Promise<void>
}

/** @throws UserError if the address of --listen cannot be had */
export const watching = async (settings: GlobalSettings & WatchedSettings, work: Work, progress: Progress): Promise<Watching> => {
  const level = settings.logLevel ?? levelOfDebug(process.env.TRIBUTARY_DEBUG) ?? (settings.logFormat === 'json' ? 'info' : 'warn')
  const log = logger({
    level, format: settings.logFormat, fields: { pid: process.pid, ...work },
    // Above the bar where there is one; --quiet silences progress, not the log.
    write: settings.quiet || settings.logFormat === 'json' ? (line) => void process.stderr.write(`${line}\n`) : (line) => progress.log(line),
  })
  const clock = (): number => performance.now()
  const told = logObserver(log, { clock })
  const shown = settings.logFormat === 'json' && !settings.quiet ? loggedProgress((fields, line) => log.info(fields, line), { now: clock }) : progress
  if (settings.listen === null) {
    return { observer: told, progress: shown, opened: () => {}, ended: () => Promise.resolve(), [Symbol.asyncDispose]: () => Promise.resolve() }
  }
  const watched = monitor({ work, versions: versions() })
  const server = await listen(monitorRoutes(watched), parseAddress(settings.listen))
  shown.log(`metrics and health: ${server.url}/metrics, /healthz, /readyz`)
  return {
    observer: observers(watched.observer, told),
    progress: shown,
    opened: (opened) => watched.watch(opened),
    ended: (error) => watched.ended(error),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

const versions = (): { version: string; node: string; onnxruntime: string } => {
  const versionOf = (path: string): string => (JSON.parse(readFileSync(path, 'utf8')) as { readonly version: string }).version
  return {
    version: versionOf(join(packageRoot(), 'package.json')),
    node: process.versions.node,
    onnxruntime: versionOf(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
  }
}
