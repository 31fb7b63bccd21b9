/**
 * @file A small client of a Confluent-compatible schema registry over HTTP (Confluent, "Schema Registry API Reference"):
 *
 *     POST /subjects/SUBJECT            {"schema"} → {"id"}      what is registered already, with rights to read alone
 *     POST /subjects/SUBJECT/versions   {"schema"} → {"id"}      registers; 409: incompatible with the versions before
 *     GET  /schemas/ids/ID              → {"schema"}
 *
 * What was answered once is kept, since an id never changes its schema. Failures that may pass (no connection, 429, 5xx)
 * are tried again with growing pauses; all others, and those that do not pass, are UserErrors with the fix.
 */
import { UserError } from '../../base/index.js'

/** Tries of one request, and the pause before the second, ms; each pause is twice the one before. */
const TRIES_MAX = 7
const PAUSE_MS = 100
const PAUSE_MS_MAX = 5_000
/** One answer's bounds. The schemas of topics have a few KiB. */
const ANSWER_MS_MAX = 10_000
const ANSWER_BYTES_MAX = 1 << 20
/** Schemas kept, and schema ids that the registry did not have. */
const KEPT_MAX = 1_000
const MISSING_MAX = 1_000

const MEDIA_TYPE = 'application/vnd.schemaregistry.v1+json'
/** `error_code` of "schema not found"; also sent by path for a subject that is not there. */
const NOT_FOUND = 404
const INCOMPATIBLE = 409

export interface SchemaRegistryOptions {
  /** Waits; tests do not. */
  readonly pause?: (ms: number) => Promise<void>
  readonly fetch?: typeof fetch
}

interface Answer {
  readonly status: number
  readonly body: { readonly [field: string]: unknown }
  /** What the registry says of a failure. */
  readonly message: string
}

export class SchemaRegistry {
  /** Without user and password. */
  readonly url: string
  readonly #authorization: string | undefined
  readonly #pause: (ms: number) => Promise<void>
  readonly #fetch: typeof fetch
  readonly #schemas = new Map<number, Promise<string | undefined>>()
  readonly #missing = new Set<number>()

  /**
   * @param url http or https, with a path if need be, and with user and password for basic authentication
   *   (`https://user:password@host:8081`), percent-encoded
   * @throws UserError if it is no such URL
   */
  constructor(url: string, { pause = sleep, fetch: send = fetch }: SchemaRegistryOptions = {}) {
    const parsed = parseUrl(url)
    if (parsed.username !== '' || parsed.password !== '') {
      const user = [parsed.username, parsed.password].map(percentDecoded).join(':')
      this.#authorization = `Basic ${Buffer.from(user).toString('base64')}`
    }
    this.url = `${parsed.origin}${parsed.pathname.replace(/\/+$/, '')}`
    this.#pause = pause
    this.#fetch = send
  }

  /**
   * The id of a schema under a subject; it is registered if it is not there yet.
   * @throws UserError if it is refused (incompatible, not permitted) or the registry cannot be asked
   */
  async register(subject: string, schemaText: string): Promise<number> {
    const path = `/subjects/${encodeURIComponent(subject)}`
    const body = JSON.stringify({ schema: schemaText })
    const there = await this.#ask('POST', path, body)
    if (there.status === 200) return idIn(there, this.url, path)
    if (there.status !== NOT_FOUND) throw this.#refused(there, `look up the schema of subject "${subject}"`)
    const added = await this.#ask('POST', `${path}/versions`, body)
    if (added.status === 200) return idIn(added, this.url, `${path}/versions`)
    if (added.status === INCOMPATIBLE)
      throw new UserError(`the schema registry at ${this.url} refuses this version's schema of subject "${subject}": it is ` +
        `incompatible with one registered before (${added.message})`, {
        fix: `use the version of tributary that wrote the topic last, or topics of its own; the rule in force: GET ${this.url}/config/${encodeURIComponent(subject)}`,
      })
    throw this.#refused(added, `register the schema of subject "${subject}"`)
  }

  /**
   * The text of a schema, or undefined if the registry has none of this id.
   * @throws UserError if the registry cannot be asked, or has it in another language than Avro
   */
  schema(id: number): Promise<string | undefined> {
    if (this.#missing.has(id)) return Promise.resolve(undefined)
    const known = this.#schemas.get(id)
    if (known !== undefined) return known
    const asked = this.#schemaNow(id)
    if (this.#schemas.size >= KEPT_MAX) this.#schemas.clear()
    this.#schemas.set(id, asked)
    asked.then(
      (text) => {
        if (text === undefined) this.#forget(id)
      },
      () => this.#schemas.delete(id),
    )
    return asked
  }

  #forget(id: number): void {
    this.#schemas.delete(id)
    if (this.#missing.size >= MISSING_MAX) this.#missing.clear()
    this.#missing.add(id)
  }

  async #schemaNow(id: number): Promise<string | undefined> {
    const answer = await this.#ask('GET', `/schemas/ids/${id}`)
    if (answer.status === NOT_FOUND) return undefined
    if (answer.status !== 200) throw this.#refused(answer, `read schema ${id}`)
    const { schema, schemaType = 'AVRO', references = [] } = answer.body
    // A value written with another language's schema is no value of ours: of it alone, not of the run.
    if (schemaType !== 'AVRO' || (Array.isArray(references) && references.length > 0)) return undefined
    if (typeof schema !== 'string') throw unexpected(this.url, `/schemas/ids/${id}`, 'it has no schema')
    return schema
  }

  #refused({ status, message }: Answer, purpose: string): UserError {
    const what = `the schema registry at ${this.url} did not let us ${purpose}: ${status} ${message}`
    if (status === 401)
      return new UserError(what, { fix: 'give user and password: --schema-registry https://USER:PASSWORD@HOST (percent-encoded)' })
    if (status === 403) return new UserError(what, { fix: 'have this user granted reading and writing of the subject' })
    if (status === 422) return new UserError(what, { fix: `look at the registry's mode and rules: GET ${this.url}/mode and ${this.url}/config` })
    return new UserError(what, { fix: `see whether ${this.url}/subjects is a schema registry's list of subjects` })
  }

  /** One request until it is answered by something that does not pass. */
  async #ask(method: 'GET' | 'POST', path: string, body?: string): Promise<Answer> {
    let why = ''
    let cause: unknown
    for (let tried = 1; ; tried++) {
      let waitMs = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (tried - 1))
      try {
        const { answer, retryAfterMs } = await this.#send(method, path, body)
        if (answer.status !== 429 && answer.status < 500) return answer
        why = `${answer.status} ${answer.message}`
        waitMs = Math.min(PAUSE_MS_MAX, Math.max(waitMs, retryAfterMs))
      } catch (error) {
        if (error instanceof UserError) throw error
        cause = error
        why = reasonOf(error)
      }
      if (tried >= TRIES_MAX) break
      await this.#pause(waitMs)
    }
    throw new UserError(`the schema registry at ${this.url} does not answer ${method} ${path} (tried ${TRIES_MAX} times; last: ${why})`, {
      fix: 'see whether it runs and can be reached from here (curl), or mend --schema-registry',
      cause,
    })
  }

  async #send(method: string, path: string, body: string | undefined): Promise<{ answer: Answer; retryAfterMs: number }> {
    const response = await this.#fetch(`${this.url}${path}`, {
      method,
      headers: {
        accept: `${MEDIA_TYPE}, application/json`,
        ...(body === undefined ? {} : { 'content-type': MEDIA_TYPE }),
        ...(this.#authorization === undefined ? {} : { authorization: this.#authorization }),
      },
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    })
    const text = await boundedText(response, this.url, path)
    const retryAfterMs = 1000 * (Number(response.headers.get('retry-after')) || 0)
    const parsed = parseObject(text)
    if (response.ok && parsed === undefined) throw unexpected(this.url, path, 'it is no JSON object')
    const said = parsed?.['message']
    const message = typeof said === 'string' ? said : text.slice(0, 200).replace(/\s+/g, ' ').trim() || response.statusText
    return { answer: { status: response.status, body: parsed ?? {}, message }, retryAfterMs }
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const parseUrl = (url: string): URL => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:'))
    // The text is not repeated: there may be a password in it.
    throw new UserError('the address of the schema registry is no http:// or https:// URL', {
      fix: '--schema-registry http://HOST:8081, with USER:PASSWORD@ before the host where it asks for them',
    })
  return parsed
}

/** A lone % stands for itself. */
const percentDecoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const unexpected = (url: string, path: string, what: string): UserError =>
  new UserError(`${url}${path} answers as no schema registry does: ${what}`, { fix: 'mend --schema-registry' })

const idIn = ({ body }: Answer, url: string, path: string): number => {
  const id = body['id']
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > 0x7fffffff) throw unexpected(url, path, 'it has no id of a schema')
  return id
}

const boundedText = async (response: Response, url: string, path: string): Promise<string> => {
  const parts: Uint8Array[] = []
  let bytes = 0
  if (response.body !== null)
    for await (const part of response.body as AsyncIterable<Uint8Array>) {
      bytes += part.length
      if (bytes > ANSWER_BYTES_MAX) throw unexpected(url, path, `it is longer than ${ANSWER_BYTES_MAX} bytes`)
      parts.push(part)
    }
  return Buffer.concat(parts).toString('utf8')
}

const parseObject = (text: string): { readonly [field: string]: unknown } | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as { [field: string]: unknown }) : undefined
  } catch {
    return undefined
  }
}

/** fetch says "fetch failed" and hides why in its cause. */
const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `no answer within ${ANSWER_MS_MAX / 1000} s`
  const { cause } = error
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  const inner = cause instanceof Error && cause.message !== '' ? cause.message : code
  return inner === '' ? error.message : inner
}
