/**
 * @file A long work made visible: log lines on standard error, with --listen metrics and health over HTTP, and with
 * --serve the live page beside them.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { packageRoot, traceOf } from '../base/index.js'
import type { Log } from '../log/index.js'
import { levelOfDebug, listen, logger, logObserver, monitor, monitorRoutes, type Work } from '../monitor/index.js'
import type { Progress } from '../pipeline/context.js'
import { observers, type Observer } from '../pipeline/observer.js'
import { pageAddressDefault, parseAddress, type GlobalSettings, type WatchedSettings } from '../settings/index.js'
import { loggedProgress } from './progress.js'

export interface Watching extends AsyncDisposable {
  readonly observer: Observer
  /** Where progress goes: a bar or lines as it was given, or lines of the log if these are JSON. */
  readonly progress: Progress
  /** The log is open: lag can be read from it, and the live page is served. @throws UserError if its address cannot be had */
  opened(log: Log): Promise<void>
  /** The work is over; before the log is closed. */
  ended(error?: unknown): Promise<void>
}

/** @throws UserError if the address of --listen cannot be had */
export const watching = async (settings: GlobalSettings & WatchedSettings & { readonly serve?: boolean }, work: Work, progress: Progress): Promise<Watching> => {
  const level = settings.logLevel ?? levelOfDebug(process.env.TRIBUTARY_DEBUG) ?? (settings.logFormat === 'json' ? 'info' : 'warn')
  const log = logger({
    level, format: settings.logFormat,
    fields: {
      pid: process.pid, pipeline: work.pipeline, ...(work.run === '' ? {} : { run: work.run }),
      // For machines: which lines are of one working, where several workers of a run write to one place.
      ...(settings.logFormat === 'json' ? { trace: traceOf(process.env.TRACEPARENT) } : {}),
    },
    // Above the bar where there is one; --quiet silences progress, not the log.
    write: settings.quiet || settings.logFormat === 'json' ? (line) => void process.stderr.write(`${line}\n`) : (line) => progress.log(line),
  })
  const clock = (): number => performance.now()
  const told = logObserver(log, { clock })
  const shown = settings.logFormat === 'json' && !settings.quiet ? loggedProgress((fields, line) => log.info(fields, line), { now: clock }) : progress
  const isServed = settings.serve === true
  if (settings.listen === null && !isServed) {
    return { observer: told, progress: shown, opened: () => Promise.resolve(), ended: () => Promise.resolve(), [Symbol.asyncDispose]: () => Promise.resolve() }
  }
  const watched = monitor({ work, versions: versions() })
  const address = parseAddress(settings.listen ?? pageAddressDefault)
  if (isServed) {
    let page: AsyncDisposable | undefined
    return {
      observer: observers(watched.observer, told),
      progress: shown,
      opened: async (opened) => {
        watched.watch(opened)
        const { servePage } = await import('./page.js')
        const served = await servePage(settings, { address, others: monitorRoutes(watched), run: work.run })
        page = served
        shown.log(`the live page: ${served.url} (beside it /metrics, /healthz, /readyz)`)
      },
      ended: (error) => watched.ended(error),
      [Symbol.asyncDispose]: async () => page?.[Symbol.asyncDispose](),
    }
  }
  const server = await listen(monitorRoutes(watched), address)
  shown.log(`metrics and health: ${server.url}/metrics, /healthz, /readyz`)
  return {
    observer: observers(watched.observer, told),
    progress: shown,
    opened: (opened) => Promise.resolve(watched.watch(opened)),
    ended: (error) => watched.ended(error),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

export const versions = (): { version: string; node: string; onnxruntime: string } => {
  const versionOf = (path: string): string => (JSON.parse(readFileSync(path, 'utf8')) as { readonly version: string }).version
  return {
    version: versionOf(join(packageRoot(), 'package.json')),
    node: process.versions.node,
    onnxruntime: versionOf(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
  }
}
