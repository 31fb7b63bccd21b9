/** @file What the workers of worker.ts score, and how: as cheap as can be, and different for every document and query. */
import { setTimeout as sleep } from 'node:timers/promises'
import { uniforms } from '../../src/base/index.js'
import { keyOf, type DocumentValue, type Log } from '../../src/log/index.js'
import { textOf } from '../pipeline/drive.js'

export const documentOf = (i: number): DocumentValue => ({
  id: `d${i}`, idGiven: true, source: `s${i % 3}`, text: `${textOf(i)} ${i}`, tokens: null, shard: 's.jsonl', index: i, extra: null,
})

export const appendDocuments = async (log: Log, count: number, from = 0): Promise<void> => {
  const values = Array.from({ length: count }, (_, i) => documentOf(from + i))
  await log.append(values.map((value) => ({ topic: 'documents' as const, key: keyOf(value.source, value.id), value })), { unique: true })
}

export interface Trickle {
  readonly from: number
  /** Absent: until the signal is aborted. */
  readonly end?: number
  readonly pauseMs: number
  readonly seed: number
  readonly signal?: AbortSignal
}

/**
 * Documents from one on, one to five at a time: each time is a transaction, whose mark takes an offset of its own in every
 * partition, so that offsets have gaps everywhere. Resolves to where it ended.
 */
export const trickleDocuments = async (log: Log, { from, end = Infinity, pauseMs, seed, signal }: Trickle): Promise<number> => {
  const chance = uniforms(seed)
  let at = from
  for (; at < end && signal?.aborted !== true; await sleep(pauseMs)) {
    const count = Math.min(end - at, 1 + Math.floor(5 * chance()))
    await appendDocuments(log, count, at)
    at += count
  }
  return at
}

/** A token for each character. */
export const tokensOf = (text: string): number[] => Array.from(text, (character) => character.charCodeAt(0))

/** Influence on each query and the norm of the gradient, of a sequence: f32 exactly. */
export const scoresOf = (tokens: readonly number[], queries: number): { readonly influence: readonly number[]; readonly norm: number } => {
  const sum = tokens.reduce((hash, token) => (Math.imul(hash, 31) + token) | 0, 7)
  return { influence: Array.from({ length: queries }, (_, q) => (Math.imul(sum, 2 * q + 1) % 4096) / 64), norm: 0.5 + (Math.abs(sum) % 7) }
}
