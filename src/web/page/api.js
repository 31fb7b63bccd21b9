/** @file The API and its events, from the page's side. */

/** @template T @typedef {import('zod').infer<T>} Infer */
/** @typedef {typeof import('../schemas.js')} Schemas */
/** @typedef {Infer<Schemas['status']>} Status */
/** @typedef {Infer<Schemas['query']>} Query */
/** @typedef {Infer<Schemas['table']>} Table */
/** @typedef {Infer<Schemas['progress']>} Progress */
/** @typedef {Infer<Schemas['runDetail']>} RunDetail */
/** @typedef {Infer<Schemas['documentDetail']>} DocumentDetail */
/** @typedef {Infer<Schemas['documentScores']>} DocumentScores */
/** @typedef {Infer<Schemas['hit']>} Hit */
/** @typedef {Infer<Schemas['deadLetters']>} DeadLetters */
/** @typedef {Infer<Schemas['correlation']>} Correlation */
/** @typedef {Infer<Schemas['curves']>} Curves */
/** @typedef {Infer<Schemas['analysesAnswer']>} Analyses */
/** @typedef {Infer<Schemas['explanation']>} Explanation */
/** @typedef {{ queries: string[] | null, moments: boolean, deadLetters: boolean }} Changed */
/** @typedef {Progress & { changed: Changed }} ProgressEvent */

/** A request that was refused, in the server's words. */
export class ApiError extends Error {
  /** @param {number} status @param {string} detail @param {string} [fix] */
  constructor(status, detail, fix) {
    super(detail)
    this.status = status
    this.fix = fix
  }
}

/**
 * @param {readonly (string | number)[]} path  below /api
 * @param {Readonly<Record<string, string | number | readonly string[] | undefined>>} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const get = async (path, query = {}, signal) => {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined || value === '') continue
    for (const one of typeof value === 'object' ? value : [value]) search.append(name, String(one))
  }
  const text = search.toString()
  /** @type {Response} */
  let response
  try {
    response = await fetch(`/api/${path.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`, { signal })
  } catch (error) {
    if (signal?.aborted) throw error
    throw new ApiError(0, 'The server does not answer.', 'Is tributary serve still running? The page goes on by itself when it is back.')
  }
  const body = await response.json().catch(() => undefined)
  if (response.ok) return body
  throw new ApiError(response.status, body?.detail ?? `the server answered ${response.status}`, body?.fix)
}

/**
 * Listens to what changes of a run, also after the server was away. A browser comes back by itself with the last id; only
 * where it gave up (the answer was no stream) it is begun again.
 * @param {string} run
 * @param {{ onEvent: (event: ProgressEvent) => void, onState: (isLive: boolean) => void }} handlers
 * @returns {() => void} ends it
 */
export const listen = (run, { onEvent, onState }) => {
  /** @type {EventSource | undefined} */
  let source
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  const open = () => {
    source = new EventSource(`/api/runs/${encodeURIComponent(run)}/events`)
    source.addEventListener('open', () => onState(true))
    source.addEventListener('progress', (event) => {
      onState(true)
      onEvent(JSON.parse(event.data))
    })
    source.addEventListener('error', () => {
      onState(false)
      if (source?.readyState !== EventSource.CLOSED) return
      clearTimeout(timer)
      timer = setTimeout(open, 2000)
    })
  }
  open()
  return () => {
    clearTimeout(timer)
    source?.close()
  }
}
