/** @file The live page of a home, for the commands that serve it. */
import type { Hono } from 'hono'
import type { Address } from '../monitor/index.js'
import { openLogForReading } from '../pipeline/home.js'
import type { ExplainOnDemand } from '../pipeline/explain-on-demand.js'
import type { GlobalSettings } from '../settings/index.js'
import { analyseBeside } from './analyse-beside.js'
import { startWebServer, type Explain, type WebServer } from '../web/index.js'

export interface PageOptions {
  readonly address: Address
  /** /metrics, /healthz, /readyz. */
  readonly others?: Hono
  /** The run that the page opens with; absent: the newest. */
  readonly run?: string
}

/**
 * Serves until disposed, with a log of its own: what it reads keeps a work in the same process from nothing. Explanations
 * are computed when they are asked for; until then no engine and no model is loaded.
 */
export const servePage = async (settings: GlobalSettings, { address, others, run }: PageOptions): Promise<WebServer> => {
  const log = await openLogForReading(settings)
  let desk: ExplainOnDemand | undefined
  const explain: Explain = async (request) => {
    const { explainOnDemand } = await import('../pipeline/explain-on-demand.js')
    desk ??= explainOnDemand(log, { home: settings.home, threads: settings.threads, model: null, queryModel: null })
    return await desk.explain(request)
  }
  try {
    const server = await startWebServer({
      log, ...address, others, run, explain, analyse: analyseBeside(settings),
      onBug: (error, trace) => void process.stderr.write(`the live page, trace ${trace}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`),
    })
    return {
      url: server.url,
      port: server.port,
      [Symbol.asyncDispose]: async () => {
        await server[Symbol.asyncDispose]()
        await desk?.[Symbol.asyncDispose]()
        await log[Symbol.asyncDispose]()
      },
    }
  } catch (error) {
    await log[Symbol.asyncDispose]()
    throw error
  }
}

/** Whether only this machine reaches an address. */
export const isLocal = ({ host }: Address): boolean => host === 'localhost' || host === '::1' || /^127\./.test(host)
