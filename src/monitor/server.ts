/** @file One HTTP server of a process: whatever app it is given, on an address that is this machine's own unless told otherwise. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import type { Hono } from 'hono'
import { UserError } from '../base/index.js'

export interface Address {
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
}

export interface HttpServer extends AsyncDisposable {
  /** http://127.0.0.1:9464 */
  readonly url: string
  readonly port: number
}

/** Serves until disposed, which ends open connections. @throws UserError if the address cannot be had */
export const listen = async (app: Pick<Hono, 'fetch'>, { host, port }: Address): Promise<HttpServer> => {
  // The globals of the process (Request, Response) stay as they are.
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  const server = createServer((request, response) => void listener(request, response))
  try {
    server.listen(port, host)
    await once(server, 'listening')
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const why = code === 'EADDRINUSE' ? 'is in use' : `cannot be had (${message})`
    throw new UserError(`the address ${shown(host)}:${port} ${why}`, { cause, fix: 'another --listen HOST:PORT; port 0 takes any that is free' })
  }
  const bound = server.address() as AddressInfo
  return { url: `http://${shown(host)}:${bound.port}`, port: bound.port, [Symbol.asyncDispose]: () => close(server) }
}

const shown = (host: string): string => (host.includes(':') ? `[${host}]` : host)

const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
