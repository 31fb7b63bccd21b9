/** @file The server: opens a port, answers, and closes without leaving anything behind. */
import type { Server } from 'node:http'
import { isIP, type AddressInfo } from 'node:net'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { serve } from '@hono/node-server'
import type { Hono } from 'hono'
import { packageRoot, UserError } from '../base/index.js'
import type { Log } from '../log/index.js'
import { webApp } from './app.js'
import type { Explain } from './parts.js'
import { LogWatch } from './watch.js'

export interface WebServerOptions {
  /** Opened for reading is enough. Stays the caller's to close, after the server. */
  readonly log: Log
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
  readonly explain?: Explain
  /** Served beside: /metrics, /healthz, /readyz. */
  readonly others?: Hono
  /** Told of errors that nobody meant. */
  readonly onBug: (error: unknown) => void
  readonly now?: () => number
  /** Looks at the topics so often while somebody watches, and sends each client no more than one event in so long. */
  readonly everyMs?: number
}

export interface WebServer extends AsyncDisposable {
  /** Where the page is: http://127.0.0.1:8080/ */
  readonly url: string
  readonly port: number
}

/** A connection that sends nothing is given up. */
const requestTimeoutMs = 30_000

/** Starts to answer. @throws UserError if the address cannot be listened on */
export const startWebServer = async (options: WebServerOptions): Promise<WebServer> => {
  const { log, host, port, now = Date.now, everyMs = 500, onBug, explain, others } = options
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { readonly version: string }
  const closing = new AbortController()
  const watch = new LogWatch(log, { now, everyMs })
  const app = webApp({ log, watch, now, version, explain, others, onBug, listenHost: host, throttleMs: everyMs, signal: closing.signal })
  const server = await new Promise<Server>((resolve, reject) => {
    const made = serve({ fetch: app.fetch, hostname: host, port, serverOptions: { requestTimeout: requestTimeoutMs } }, () => resolve(made as Server))
    made.once('error', (cause: NodeJS.ErrnoException) => reject(listenError(cause, host, port)))
  })
  const address = server.address() as AddressInfo
  return {
    port: address.port,
    url: `http://${isIP(host) === 6 ? `[${host}]` : host}:${address.port}/`,
    [Symbol.asyncDispose]: async () => {
      closing.abort()
      watch.close()
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
      // What is being read is read to its end: the log may be closed after this.
      await watch.look()
    },
  }
}

const listenError = (cause: NodeJS.ErrnoException, host: string, port: number): UserError => {
  const where = `${host}:${port}`
  if (cause.code === 'EADDRINUSE') return new UserError(`${where} is taken by another process`, { cause, fix: `--listen ${host}:0 takes any port that is free` })
  if (cause.code === 'EACCES') return new UserError(`${where} may not be listened on by this user`, { cause, fix: 'a port from 1024 on' })
  return new UserError(`${where} cannot be listened on: ${cause.message}`, { cause, fix: '--listen 127.0.0.1:8080' })
}
