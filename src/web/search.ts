/**
 * @file Search within the documents: a scan of the topic with a budget, continued by a cursor. Exact, needs no index to be
 * built or kept, holds one read of the topic; some hundred MB of text a second.
 */
import type { DocumentValue, Log, TopicInfo } from '../log/index.js'
import { excerptOf, folded, termsOf, type Excerpt } from './text.js'

const bounds = { recordsMax: 512, bytesMax: 4 << 20 } as const

export interface SearchHit {
  readonly partition: number
  readonly offset: number
  readonly document: string
  readonly source: string
  readonly characters: number
  readonly excerpt: Excerpt
}

export interface SearchResult {
  readonly hits: readonly SearchHit[]
  /** Documents looked at by this request, and how many there are beyond. */
  readonly searched: number
  readonly left: number
  /** Where to go on; null: everything was looked at. */
  readonly cursor: string | null
}

export interface SearchOptions {
  /** All of its words must stand in the text or the id, in any case; "in quotes" as they stand. Empty: every document. */
  readonly search: string
  /** Only documents of this source. */
  readonly source?: string
  readonly limit: number
  readonly cursor?: string
  readonly excerptLength: number
  /** After so long it answers with what it has. */
  readonly budgetMs: number
  readonly now: () => number
  readonly signal: AbortSignal
}

/** "partition.offset" of the next record to look at. */
export const cursorPattern = /^\d{1,5}\.\d{1,15}$/

export const searchDocuments = async (log: Log, info: TopicInfo | undefined, options: SearchOptions): Promise<SearchResult> => {
  const { limit, source, excerptLength, budgetMs, now, signal } = options
  const terms = termsOf(options.search)
  const wanted = terms.map(folded)
  const ends = info?.ends ?? []
  const starts = info?.starts ?? []
  const deadline = now() + budgetMs
  let [partition, offset] = options.cursor === undefined ? [0, 0] : options.cursor.split('.').map(Number)
  const hits: SearchHit[] = []
  let searched = 0
  const isMatch = ({ id, text, source: of }: DocumentValue): boolean => {
    if (source !== undefined && source !== of) return false
    if (wanted.length === 0) return true
    const lower = folded(`${id}\n${text ?? ''}`)
    return wanted.every((term) => lower.includes(term))
  }
  scan: for (; partition < ends.length; partition++, offset = 0) {
    offset = Math.max(offset, starts[partition])
    while (offset < ends[partition]) {
      if (signal.aborted || (now() >= deadline && searched > 0)) break scan
      const records = await log.read('documents', partition, offset, bounds)
      if (records.length === 0) break
      for (const { value, offset: at } of records) {
        if (at >= ends[partition]) break
        offset = at + 1
        searched++
        if (value === undefined || !isMatch(value)) continue
        const { id, source: of, text } = value
        hits.push({
          partition, offset: at, document: id, source: of, characters: text?.length ?? 0,
          excerpt: excerptOf(text ?? '', { length: excerptLength, terms }),
        })
        if (hits.length === limit) break scan
      }
      // Whoever waits for an answer comes first.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const left = ends.reduce((sum, end, at) => sum + (at < partition ? 0 : Math.max(0, end - (at === partition ? Math.max(offset, starts[at]) : starts[at]))), 0)
  return { hits, searched, left, cursor: left === 0 ? null : `${partition}.${offset}` }
}
