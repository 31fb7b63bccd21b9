/** @file Errors as the API tells them: problem details (RFC 9457), media type application/problem+json. */
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { z } from 'zod'
import { traceOf, TransientError, UserError } from '../base/index.js'

export const problemSchema = z
  .object({
    type: z.literal('about:blank'),
    title: z.string().describe('the meaning of the status'),
    status: z.int(),
    detail: z.string().describe('what is wrong with this request'),
    fix: z.string().optional().describe('what to do about it'),
    trace: z.string().optional().describe("of an error that nobody meant: the trace id under which the server's standard error tells of it"),
    errors: z
      .array(z.object({ parameter: z.string(), detail: z.string() }))
      .optional()
      .describe('the parameters that are not allowed, and what is'),
  })
  .meta({ id: 'Problem' })

const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 409: 'Conflict', 410: 'Gone',
  421: 'Misdirected Request', 500: 'Internal Server Error', 501: 'Not Implemented', 503: 'Service Unavailable',
}

/** A request that cannot be answered, and why. */
export class HttpProblem extends Error {
  override readonly name = 'HttpProblem'
  readonly status: ContentfulStatusCode
  readonly fix: string | undefined
  readonly errors: readonly { readonly parameter: string; readonly detail: string }[] | undefined

  constructor(
    status: ContentfulStatusCode,
    detail: string,
    { fix, errors }: { readonly fix?: string; readonly errors?: readonly { readonly parameter: string; readonly detail: string }[] } = {},
  ) {
    super(detail)
    this.status = status
    this.fix = fix
    this.errors = errors
  }
}

/** What a client is told of an error. Of a bug: that it is one, and nothing of its inside. */
const asProblem = (error: unknown): HttpProblem => {
  if (error instanceof HttpProblem) return error
  if (error instanceof UserError) return new HttpProblem(409, error.message, { fix: error.fix })
  if (error instanceof TransientError) return new HttpProblem(503, error.message, { fix: 'try again' })
  return new HttpProblem(500, 'this is a bug in tributary; the server has written what it knows of it to its standard error')
}

/**
 * The answer for an error. `onBug` is told of those that nobody meant, under the trace id that the client gave (`traceparent`)
 * or else a new one, which the answer has, too.
 */
export const problemResponse = (context: Context, error: unknown, onBug: (error: unknown, trace: string) => void): Response => {
  const problem = asProblem(error)
  const trace = problem.status === 500 ? traceOf(context.req.header('traceparent')) : undefined
  if (trace !== undefined) onBug(error, trace)
  const body: z.infer<typeof problemSchema> = {
    type: 'about:blank',
    title: titles[problem.status] ?? 'Error',
    status: problem.status,
    detail: problem.message,
    ...(problem.fix === undefined ? {} : { fix: problem.fix }),
    ...(trace === undefined ? {} : { trace }),
    ...(problem.errors === undefined ? {} : { errors: [...problem.errors] }),
  }
  return context.body(JSON.stringify(body), problem.status, { 'content-type': 'application/problem+json' })
}
