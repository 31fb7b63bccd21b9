/** @file The page's files, as they ship: read once, served from memory with their hash. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import type { Handler } from 'hono'
import { packageRoot } from '../base/index.js'
import { HttpProblem } from './problem.js'

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.svg': 'image/svg+xml',
}

interface PageFile {
  readonly body: string
  readonly type: string
  readonly etag: string
}

const readPage = (folder: string): ReadonlyMap<string, PageFile> =>
  new Map(
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).flatMap((name) => {
      const type = types[extname(name)]
      if (type === undefined) return []
      const body = readFileSync(join(folder, name), 'utf8')
      const path = `/${name.replaceAll('\\', '/')}`
      return [[path === '/index.html' ? '/' : path, { body, type, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 20)}"` }] as const]
    }),
  )

/** Serves what is in the page's folder, and nothing else. */
export const pageFiles = (folder: string = join(packageRoot(), 'src', 'web', 'page')): Handler => {
  const files = readPage(folder)
  return (context) => {
    const file = files.get(context.req.path)
    if (file === undefined) throw new HttpProblem(404, `there is nothing at ${context.req.path.slice(0, 200)}`, { fix: 'the page is at /, the API at /api/openapi.json' })
    const headers = { 'content-type': file.type, etag: file.etag, 'cache-control': 'no-cache' }
    return context.req.header('if-none-match') === file.etag ? context.body(null, 304, headers) : context.body(file.body, 200, headers)
  }
}
