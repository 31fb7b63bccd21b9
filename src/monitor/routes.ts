/** @file /metrics, /healthz and /readyz, as an app that can be mounted beside others. */
import { Hono } from 'hono'
import type { Health } from './health.js'
import type { Monitor } from './monitor.js'

/** 200 or 503, and why in JSON: what Kubernetes and load balancers ask for, and people read. */
export const monitorRoutes = (monitor: Pick<Monitor, 'health' | 'metrics'>): Hono => {
  const app = new Hono()
  app.use(async (c, next) => {
    await next()
    c.header('Cache-Control', 'no-store')
  })
  app.get('/metrics', async (c) => {
    const { text, contentType } = await monitor.metrics()
    return c.body(text, 200, { 'Content-Type': contentType })
  })
  const answer = (path: string, isWell: (health: Health) => boolean): void => {
    app.get(path, async (c) => {
      const health = await monitor.health()
      return c.json(health, isWell(health) ? 200 : 503)
    })
  }
  answer('/healthz', ({ healthy }) => healthy)
  answer('/readyz', ({ ready, healthy }) => ready && healthy)
  return app
}
