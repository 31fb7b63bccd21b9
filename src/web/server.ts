/** @file The page and its API on a port; closes without leaving anything behind. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Hono } from 'hono'
import { packageRoot } from '../base/index.js'
import type { Log } from '../log/index.js'
import { listen, type Address } from '../monitor/index.js'
import { webApp } from './app.js'
import { AnalysesDesk, type Analyse } from './analyses-desk.js'
import type { Explain } from './parts.js'
import { LogWatch } from './watch.js'

export interface WebServerOptions extends Address {
  /** Opened for reading is enough. Stays the caller's to close, after the server. */
  readonly log: Log
  /** The run that the page opens with; absent: the newest. */
  readonly run?: string
  readonly explain?: Explain
  readonly analyse?: Analyse
  /** Served beside: /metrics, /healthz, /readyz. */
  readonly others?: Hono
  /** Told of errors that nobody meant. */
  readonly onBug: (error: unknown, trace: string) => void
  readonly now?: () => number
  /** Looks at the topics so often while somebody watches, and sends each client no more than one event in so long. */
  readonly everyMs?: number
}

export interface WebServer extends AsyncDisposable {
  /** Where the page is: http://127.0.0.1:8080 */
  readonly url: string
  readonly port: number
}

/** Starts to answer. @throws UserError if the address cannot be had */
export const startWebServer = async (options: WebServerOptions): Promise<WebServer> => {
  const { log, host, port, now = Date.now, everyMs = 500, onBug, run, explain, analyse, others } = options
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { readonly version: string }
  const closing = new AbortController()
  const watch = new LogWatch(log, { now, everyMs })
  const analyses = analyse === undefined ? undefined : new AnalysesDesk(analyse, { now, signal: closing.signal })
  const app = webApp({ log, watch, now, version, run, explain, analyses, others, onBug, listenHost: host, throttleMs: everyMs, signal: closing.signal })
  const server = await listen(app, { host, port })
  return {
    port: server.port,
    url: server.url,
    [Symbol.asyncDispose]: async () => {
      closing.abort()
      watch.close()
      await server[Symbol.asyncDispose]()
      // What is being read is read to its end: the log may be closed after this.
      await watch.look().catch(() => undefined)
    },
  }
}
