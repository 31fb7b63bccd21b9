/**
 * @file One description of each route of the API, from which come its check of what is given, its types, and its part of
 * the OpenAPI document.
 */
import { z } from 'zod'
import { HttpProblem } from './problem.js'

type Shape = Readonly<Record<string, z.ZodType>>

export interface RouteDescription<P extends Shape, Q extends Shape, R extends z.ZodType> {
  /** Below /api, parameters in braces: `/runs/{run}`. */
  readonly path: string
  readonly name: string
  readonly summary: string
  readonly description?: string
  readonly params: P
  readonly query: Q
  readonly result: R
  readonly handle: (input: {
    readonly params: z.infer<z.ZodObject<P>>
    readonly query: z.infer<z.ZodObject<Q>>
    /** Aborted when the client has gone. */
    readonly signal: AbortSignal
  }) => Promise<z.infer<R>>
}

/** A route whose types are checked already. */
export interface Route {
  readonly path: string
  readonly name: string
  readonly summary: string
  readonly description: string | undefined
  readonly params: Shape
  readonly query: Shape
  readonly result: z.ZodType
  /** @throws HttpProblem 400 that names each parameter that is not allowed */
  readonly answer: (given: {
    readonly params: Readonly<Record<string, string>>
    readonly query: Readonly<Record<string, readonly string[]>>
    readonly signal: AbortSignal
  }) => Promise<unknown>
}

export const route = <P extends Shape, Q extends Shape, R extends z.ZodType>(description: RouteDescription<P, Q, R>): Route => {
  const { path, name, summary, params, query, result, handle } = description
  const [paramsSchema, querySchema] = [z.strictObject(params), z.strictObject(query)]
  return {
    path, name, summary, description: description.description, params, query, result,
    answer: ({ params: givenParams, query: givenQuery, signal }) => {
      const single = Object.fromEntries(Object.entries(givenQuery).map(([key, values]) => [key, values.length === 1 ? values[0] : values]))
      return handle({ params: checked(paramsSchema, givenParams), query: checked(querySchema, single), signal })
    },
  }
}

const checked = <S extends z.ZodType>(schema: S, given: unknown): z.infer<S> => {
  const result = schema.safeParse(given)
  if (result.success) return result.data
  const errors = result.error.issues.slice(0, 20).map((issue) =>
    issue.code === 'unrecognized_keys'
      ? { parameter: issue.keys.join(', ').slice(0, 200), detail: 'there is no such parameter' }
      : { parameter: issue.path.join('.'), detail: issue.message })
  throw new HttpProblem(400, errors.map(({ parameter, detail }) => `${parameter}: ${detail}`).join('; '), { errors })
}

/** A whole number given as text. */
export const whole = ({ min = 0, max = Number.MAX_SAFE_INTEGER }: { readonly min?: number; readonly max?: number } = {}) =>
  z.string().regex(/^\d{1,16}$/, 'not a whole number').transform(Number).pipe(z.int().min(min).max(max))

/** The name of a run, the id of a query: as long as a key of the log may be. */
export const nameText = z.string().min(1).max(600)
