/** @file The OpenAPI 3.1 document of the API, from the descriptions of its routes. */
import { z } from 'zod'
import { problemSchema } from './problem.js'
import type { Route } from './route.js'

/** JSON Schema 2020-12, which is what OpenAPI 3.1 takes; of the values as they are after the check. */
const schemaOf = (type: z.ZodType): Record<string, unknown> => {
  const { $schema: _, ...schema } = z.toJSONSchema(type, { target: 'draft-2020-12', unrepresentable: 'any', reused: 'inline' })
  return schema
}

const parameter = (place: 'path' | 'query', name: string, type: z.ZodType): Record<string, unknown> => {
  const { description, id: _, ...schema } = schemaOf(type)
  const isRequired = place === 'path' || !type.safeParse(undefined).success
  return { name, in: place, required: isRequired, schema, ...(description === undefined ? {} : { description }) }
}

const problems = { description: 'a problem (RFC 9457)', content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } } }

export const openApi = (routes: readonly Route[], version: string): Record<string, unknown> => ({
  openapi: '3.1.0',
  info: {
    title: 'tributary',
    version,
    summary: 'The results of training-data attribution, while they come in.',
    description: 'For reading only. Scores are influence: positive where training on the document more would make the completion ' +
      'likelier. Offsets count from 0 in their partition; times are milliseconds since the epoch.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  servers: [{ url: '/api' }],
  paths: {
    ...Object.fromEntries(
      routes.map((route) => [
        route.path,
        {
          get: {
            operationId: route.name,
            summary: route.summary,
            ...(route.description === undefined ? {} : { description: route.description }),
            parameters: [
              ...Object.entries(route.params).map(([name, type]) => parameter('path', name, type)),
              ...Object.entries(route.query).map(([name, type]) => parameter('query', name, type)),
            ],
            responses: {
              200: { description: 'the answer', content: { 'application/json': { schema: schemaOf(route.result) } } },
              '4XX': problems,
              '5XX': problems,
            },
          },
        },
      ]),
    ),
    '/runs/{run}/events': {
      get: {
        operationId: 'events',
        summary: 'What changes, as it changes (server-sent events)',
        description: 'Events named `progress`, at most two a second: the answer of /runs/{run}/progress, and `changed`, which tells ' +
          'what to ask for again: ids of queries whose tables changed (null: take all for changed), and whether the moments and ' +
          'the dead letters did. An id is the place in the topics that an event tells of: a client that comes back with ' +
          'Last-Event-ID is told what changed since, also by another server over the same log.',
        parameters: [
          { name: 'run', in: 'path', required: true, schema: { type: 'string' } },
          { name: 'Last-Event-ID', in: 'header', required: false, schema: { type: 'string', maxLength: 200 } },
        ],
        responses: { 200: { description: 'a stream of events', content: { 'text/event-stream': { schema: { type: 'string' } } } }, '4XX': problems, '5XX': problems },
      },
    },
  },
  components: { schemas: { Problem: schemaOf(problemSchema) } },
})
