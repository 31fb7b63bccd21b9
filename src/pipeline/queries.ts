/**
 * @file Queries: a file of lines {id, prompt, completion, group?, task?, answer?, steps?} → topic `queries`.
 * A file is added whole or not at all: every line is judged before any is added.
 */
import { readFileSync } from 'node:fs'
import { UserError } from '../base/index.js'
import type { Log, NewRecord, QueryValue } from '../log/index.js'
import { canonicalJson, type Json } from '../settings/index.js'
import type { Pipeline } from './steps.js'

export const steps: Pipeline = {
  name: 'queries',
  about: 'lines of a query file → topic `queries`, whole or not at all',
  steps: [
    { name: 'parseQueries', in: 'file queries.jsonl', out: 'queries', note: 'judges every line before any is added' },
    { name: 'addQueries', in: 'queries', out: 'topic queries', note: 'what is there already adds nothing' },
  ],
}

/** A file of queries may be this big. */
const FILE_BYTES_MAX = 256 * 1024 ** 2
/** With the name of a run it must fit into a key of the log. */
const ID_BYTES_MAX = 500

/** What a line of the file is: `value`, or why it is none. */
type Parsed = { readonly value: QueryValue } | { readonly problem: string }

 
const controls = /[\u0000-\u001f\u007f]/

const parseLine = (line: string): Parsed => {
  let row: unknown
  try {
    row = JSON.parse(line)
  } catch (error) {
    return { problem: `is not JSON: ${(error as Error).message}` }
  }
  return judge(row)
}

const judge = (row: unknown): Parsed => {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return { problem: 'is not a JSON object' }
  const { id: givenId, prompt, completion, group, task, answer, steps: givenSteps, ...others } = row as Record<string, Json>
  const id = Number.isSafeInteger(givenId) ? String(givenId) : givenId
  if (typeof id !== 'string' || id === '') return { problem: 'has no "id" (non-empty text)' }
  if (controls.test(id)) return { problem: 'has an "id" with control characters' }
  if (Buffer.byteLength(id) > ID_BYTES_MAX) return { problem: `has an "id" of over ${ID_BYTES_MAX} bytes` }
  if (typeof prompt !== 'string') return { problem: 'has no "prompt" (text)' }
  if (typeof completion !== 'string') return { problem: 'has no "completion" (text)' }
  if (completion === '') return { problem: 'has an empty "completion": nothing to measure' }
  const remarks: Record<string, string | null> = {}
  for (const [name, remark] of Object.entries({ group, task, answer })) {
    // An answer may be a number: as text it says the same.
    const text = typeof remark === 'number' ? String(remark) : (remark ?? null)
    if (text !== null && typeof text !== 'string') return { problem: `has a "${name}" that is not text` }
    remarks[name] = text
  }
  if (givenSteps !== undefined && givenSteps !== null && !Array.isArray(givenSteps))
    return { problem: 'has "steps" that are not a list of texts' }
  const list = (givenSteps as readonly Json[] | null | undefined)?.map((step) => (typeof step === 'number' ? String(step) : step))
  if (list !== undefined && list.some((step) => typeof step !== 'string'))
    return { problem: 'has "steps" that are not a list of texts' }
  return {
    value: {
      id,
      prompt,
      completion,
      group: remarks.group,
      task: remarks.task,
      answer: remarks.answer,
      steps: list === undefined ? null : (list as readonly string[]),
      extra: Object.keys(others).length === 0 ? null : canonicalJson(others),
    },
  }
}

/** A query as it is given: a line of the file, parsed. Other fields are kept. */
export interface GivenQuery {
  readonly id: string
  readonly prompt: string
  readonly completion: string
  readonly group?: string | null
  readonly task?: string | null
  readonly answer?: string | null
  readonly steps?: readonly string[] | null
}

/** A query as the topic keeps it. @throws UserError for what a line of a file would be refused for */
export const toQuery = (given: GivenQuery): QueryValue => {
  const judged = judge(given)
  if ('problem' in judged) throw new UserError(`query ${JSON.stringify(given.id)} ${judged.problem}`)
  return judged.value
}

/**
 * The queries of a file's text.
 * @param name of the file, for messages
 * @throws UserError with the number of every line that is none (the first ten)
 */
export const parseQueries = (name: string, text: string): readonly QueryValue[] => {
  const queries: QueryValue[] = []
  const lineOf = new Map<string, number>()
  const problems: string[] = []
  text.replace(/^\ufeff/, '').split(/\r?\n/).forEach((line, at) => {
    if (line.trim() === '') return
    const parsed = parseLine(line)
    if ('problem' in parsed) {
      problems.push(`line ${at + 1} ${parsed.problem}`)
      return
    }
    const { id } = parsed.value
    const earlier = lineOf.get(id)
    if (earlier !== undefined) problems.push(`line ${at + 1} has the "id" of line ${earlier}: ${id}`)
    lineOf.set(id, at + 1)
    queries.push(parsed.value)
  })
  if (problems.length > 0) {
    const more = problems.length > 10 ? `\n  and ${problems.length - 10} more` : ''
    throw new UserError(
      `${name}: ${problems.length} ${problems.length === 1 ? 'line is' : 'lines are'} no query; none was added\n` +
        problems.slice(0, 10).map((problem) => `  ${problem}`).join('\n') + more,
      { fix: 'one JSON object a line: {"id": "...", "prompt": "...", "completion": "..."}' },
    )
  }
  if (queries.length === 0)
    throw new UserError(`${name} holds no query`, { fix: 'one JSON object a line: {"id", "prompt", "completion"}' })
  return queries
}

/** The queries of a file. @throws UserError if it cannot be read, or as `parseQueries` */
export const readQueries = (path: string): readonly QueryValue[] => {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    throw new UserError(`query file "${path}" cannot be read: ${(cause as Error).message}`, { cause })
  }
  if (bytes.length > FILE_BYTES_MAX) throw new UserError(`query file "${path}" is over ${FILE_BYTES_MAX} bytes`)
  return parseQueries(path, bytes.toString('utf8'))
}

/** All queries, by id. */
export const listQueries = async (log: Log): Promise<readonly QueryValue[]> => {
  const records = await log.latest('queries')
  return records.map(({ key, value, problem }) => {
    if (value === undefined) throw new UserError(`query "${key}" cannot be read: ${problem ?? 'unknown'}`)
    return value
  })
}

export interface QueriesAdded {
  readonly added: number
  readonly replaced: number
  /** Were there with the same content. */
  readonly alreadyThere: number
}

/**
 * Adds queries, all or none.
 * @param options.replace  a query of the same id and other content is replaced, not refused
 * @throws UserError that lists ids which are there with other content
 */
export const addQueries = async (
  log: Log,
  queries: readonly QueryValue[],
  { replace = false }: { readonly replace?: boolean } = {},
): Promise<QueriesAdded> => {
  const text = (query: QueryValue): string => canonicalJson({ ...query })
  const known = new Map((await listQueries(log)).map((query) => [query.id, text(query)]))
  const fresh = queries.filter(({ id }) => !known.has(id))
  const changed = queries.filter((query) => known.has(query.id) && known.get(query.id) !== text(query))
  if (changed.length > 0 && !replace) {
    const ids = changed.slice(0, 5).map(({ id }) => id).join(', ') + (changed.length > 5 ? ', ...' : '')
    throw new UserError(`${changed.length} of the queries are there already with other content: ${ids}; none was added`, {
      fix: 'give them other ids, or replace them: tributary queries add FILE --replace (runs keep the queries they began with)',
    })
  }
  const records = [...fresh, ...changed].map((value): NewRecord => ({ topic: 'queries', key: value.id, value }))
  if (records.length > 0) await log.append(records)
  return { added: fresh.length, replaced: changed.length, alreadyThere: queries.length - fresh.length - changed.length }
}

/** Removes queries. @throws UserError, and removes none, if one of them is not there */
export const removeQueries = async (log: Log, ids: readonly string[]): Promise<void> => {
  const known = new Set((await listQueries(log)).map(({ id }) => id))
  const missing = ids.filter((id) => !known.has(id))
  if (missing.length > 0)
    throw new UserError(`there is no query ${missing.map((id) => `"${id}"`).join(', ')}; none was removed`, {
      fix: 'tributary queries list',
    })
  await log.append([...new Set(ids)].map((key): NewRecord => ({ topic: 'queries', key, value: null })))
}

/**
 * The queries of a run: those whose id or group is named, all if nothing is, ordered by id.
 * @throws UserError for an id or a group that no query has, and where there is no query at all
 */
export const chooseQueries = (
  all: readonly QueryValue[],
  { queries, group }: { readonly queries: readonly string[]; readonly group: readonly string[] },
): readonly QueryValue[] => {
  if (all.length === 0)
    throw new UserError('there are no queries', { fix: 'tributary queries add FILE.jsonl' })
  const ids = new Set(all.map(({ id }) => id))
  const groups = new Set(all.map((query) => query.group))
  for (const id of queries)
    if (!ids.has(id)) throw new UserError(`there is no query "${id}"`, { fix: 'tributary queries list' })
  for (const name of group)
    if (!groups.has(name))
      throw new UserError(`no query is of group "${name}"`, {
        fix: `groups: ${[...groups].filter((other) => other !== null).join(', ') || 'none'}`,
      })
  const chosen = queries.length + group.length === 0
    ? all
    : all.filter((query) => queries.includes(query.id) || (query.group !== null && group.includes(query.group)))
  return [...chosen].sort((a, b) => (a.id < b.id ? -1 : 1))
}
