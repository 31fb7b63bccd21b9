/** @file The application: the page at /, the API under /api, and whatever else is mounted; every answer guarded. */
import { Hono } from 'hono'
import { eventStreams } from './events.js'
import { openApi } from './openapi.js'
import { pageFiles } from './page.js'
import { runOf, type ApiParts } from './parts.js'
import { HttpProblem, problemResponse } from './problem.js'
import type { Route } from './route.js'
import { documentRoutes } from './routes/documents.js'
import { resultRoutes } from './routes/results.js'
import { runRoutes } from './routes/runs.js'
import { guarded } from './security.js'

export interface AppOptions extends ApiParts {
  /** What the server listens on, as it was given: a Host that is a name must be this one, or localhost. */
  readonly listenHost: string
  /** Events of one client come no faster. */
  readonly throttleMs: number
  /** Aborted when the server closes: streams end. */
  readonly signal: AbortSignal
  /** Told of errors that nobody meant. */
  readonly onBug: (error: unknown, trace: string) => void
  /** Served beside: /metrics, /healthz, /readyz. */
  readonly others?: Hono
}

/** Longest address that is looked at. */
const urlMax = 16_384

export const apiRoutes = (parts: ApiParts): readonly Route[] => [...runRoutes(parts), ...resultRoutes(parts), ...documentRoutes(parts)]

export const webApp = (options: AppOptions): Hono => {
  const { version, listenHost, onBug, others } = options
  const app = new Hono()
  app.onError((error, context) => problemResponse(context, error, onBug))
  app.use(guarded(listenHost))
  app.use(async ({ req }, next) => {
    if (req.method !== 'GET' && req.method !== 'HEAD') throw new HttpProblem(405, `${req.method} is not allowed: this server is for reading only`)
    if (req.url.length > urlMax) throw new HttpProblem(400, `the address is longer than ${urlMax} characters`)
    await next()
  })
  const routes = apiRoutes(options)
  const description = openApi(routes, version)
  app.get('/api/openapi.json', (context) => context.json(description))
  for (const { path, answer } of routes)
    app.get(`/api${path.replace(/\{(\w+)\}/g, ':$1')}`, async (context) => {
      const params = context.req.param() as Readonly<Record<string, string>>
      const result = await answer({ params, query: context.req.queries(), signal: context.req.raw.signal })
      context.header('cache-control', 'no-store')
      return context.json(result as object)
    })
  const events = eventStreams(options)
  app.get('/api/runs/:run/events', async (context) => {
    const { run } = await runOf(options, context.req.param('run'))
    return events(context, run)
  })
  if (others !== undefined) app.route('/', others)
  app.get('*', pageFiles())
  return app
}
