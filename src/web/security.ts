/**
 * @file What keeps a page of somebody else's from reading this server, and corpus text from becoming code.
 *
 * The server has no accounts: whoever reaches it may read the home. So it listens on 127.0.0.1 unless told otherwise, and
 * answers only requests whose Host is not a name that somebody could point here (DNS rebinding: a page of evil.example
 * whose name changes to 127.0.0.1 sends Host: evil.example). An address is what was typed; a name is taken if it is
 * localhost, this machine's, or the one that was listened on.
 */
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import type { MiddlewareHandler } from 'hono'
import { HttpProblem } from './problem.js'

/** Nothing but this server's own scripts and styles runs or loads, and no text can be made into HTML (Trusted Types). */
const contentSecurityPolicy = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
  "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
].join('; ')

const headers: Readonly<Record<string, string>> = {
  'content-security-policy': contentSecurityPolicy,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
}

/** The name in a Host header, without port and brackets, in lower case; undefined if it is none. */
const nameIn = (host: string): string | undefined => {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:/@\\?#]+))(?::\d{1,5})?$/i.exec(host)
  return (match?.[1] ?? match?.[2])?.toLowerCase()
}

/** Whether a Host header can be meant for this server. @param listenHost what the server listens on, as it was given */
export const isOwnHost = (host: string | undefined, listenHost: string): boolean => {
  const name = host === undefined ? undefined : nameIn(host)
  if (name === undefined) return false
  return isIP(name) !== 0 || name === 'localhost' || name.endsWith('.localhost') || name === listenHost.toLowerCase() || name === hostname().toLowerCase()
}

/** Refuses what other sites send; sets the headers on every answer. */
export const guarded =
  (listenHost: string): MiddlewareHandler =>
  async (context, next) => {
    // Set first, so that errors carry them too.
    for (const [name, value] of Object.entries(headers)) context.header(name, value)
    const host = context.req.header('host')
    if (!isOwnHost(host, listenHost))
      throw new HttpProblem(421, `this server does not answer for the host "${host ?? ''}"`, { fix: 'open it by its address, or as localhost' })
    const origin = context.req.header('origin')
    if (origin !== undefined && origin !== `http://${host ?? ''}` && origin !== `https://${host ?? ''}`)
      throw new HttpProblem(403, `pages of "${origin}" may not read this server`)
    const site = context.req.header('sec-fetch-site')
    if (site === 'cross-site' && context.req.header('sec-fetch-mode') !== 'navigate')
      throw new HttpProblem(403, 'pages of other sites may not read this server')
    await next()
  }
