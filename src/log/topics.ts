/**
 * @file The topics and the types of their values. Schemas: schemas/*.avsc; declarations: topics/*.yaml; the Avro
 * schema and the type here say the same and a test holds them together.
 */
import type { Stage } from '../base/index.js'

/** One pretraining document. Key: `source` + "\u001f" + `id`, or the content hash where there is no id. */
export interface DocumentValue {
  readonly id: string
  /** Whether the id came with the shard (else it is the content hash). */
  readonly idGiven: boolean
  readonly source: string
  readonly text: string | null
  /** Token ids instead of text, for corpora that are tokenized already. */
  readonly tokens: readonly number[] | null
  /** The shard's file name and the record's place in it, from 0. */
  readonly shard: string
  readonly index: number
  /** The other fields of the line, as JSON; null if there were none. */
  readonly extra: string | null
}

/** One document's scores against every query of a run. Key: run + "\u001f" + document key. */
export interface InfluenceValue {
  readonly run: string
  readonly document: string
  readonly source: string
  /** Where the document came from in `documents`. */
  readonly partition: number
  readonly offset: number
  /** Which piece of a document longer than the context this is, of how many (0 of 1: the whole). */
  readonly piece: number
  readonly pieces: number
  /** Tokens scored, and tokens of the whole document. More in the document than scored: truncated or split. */
  readonly tokens: number
  readonly tokensTotal: number
  /** L(z), nats, summed over predicted tokens. */
  readonly loss: number
  /** ‖∇L(z)‖, Frobenius over all tracked layers. */
  readonly gradientNorm: number
  /** Raw influence, f32, in the order of the run's query set. */
  readonly influence: readonly number[]
}

/** A row of a table. */
export interface TableRowValue {
  readonly document: string
  readonly source: string
  readonly piece: number
  readonly score: number
  readonly partition: number
  readonly offset: number
}

/** One query's tables over one partition. Key: run + "\u001f" + query + "\u001f" + partition. Rows best first. */
export interface TablesValue {
  readonly run: string
  readonly query: string
  readonly partition: number
  readonly k: number
  readonly top: readonly TableRowValue[]
  readonly bottom: readonly TableRowValue[]
  readonly topNormed: readonly TableRowValue[]
  readonly bottomNormed: readonly TableRowValue[]
}

/** One query's running moments over one partition. Key as `tables`. Exact sums as bytes (table/exact-sum.ts). */
export interface MomentsValue {
  readonly run: string
  readonly query: string
  readonly partition: number
  readonly count: number
  /** Serialized exact accumulators: Σx, Σx², and the row of cross products with the queries from this one on. */
  readonly raw: Uint8Array
  readonly normed: Uint8Array
}

/** A query's first rows over all partitions, scored again with full-rank queries. Key: run + "\u001f" + query. */
export interface RescoredValue {
  readonly run: string
  readonly query: string
  /** Documents (pieces) that the run had scored then: with more, the rows are out of date. */
  readonly scored: number
  /** Rows of each table that were scored again. */
  readonly rows: number
  readonly top: readonly TableRowValue[]
  readonly bottom: readonly TableRowValue[]
  readonly topNormed: readonly TableRowValue[]
  readonly bottomNormed: readonly TableRowValue[]
}

/** A run's settings, hashes and query set, JSON. Key: run. */
export interface RunValue {
  readonly run: string
  readonly createdMs: number
  readonly settings: string
}

/** A query. Key: id. */
export interface QueryValue {
  readonly id: string
  readonly prompt: string
  readonly completion: string
  readonly group: string | null
  readonly task: string | null
  readonly answer: string | null
  readonly steps: readonly string[] | null
  /** The other fields of the line, as JSON; null if there were none. */
  readonly extra: string | null
}

/** A record that could not be processed. Key: as the original. */
export interface DeadLetterValue {
  /** Null where it failed before any run (ingest). */
  readonly run: string | null
  readonly stage: Stage
  readonly cause: string
  /** Where from: a topic's partition and offset, or a shard and the place in it. */
  readonly topic: string | null
  readonly partition: number | null
  readonly offset: number | null
  readonly shard: string | null
  readonly index: number | null
  /** The document's id if it was known. */
  readonly document: string | null
  /** Which piece of the document, from 0; null: the whole, or not recorded. */
  readonly piece: number | null
  /** The original bytes, cut at 1 MiB. */
  readonly original: Uint8Array
}

/** That a dead letter is to be tried again, or what came of it. Lies in the dead letter's partition; key: pipeline/retries.ts. */
export interface RetryValue {
  /** The dead letter's; null for those of ingest. */
  readonly run: string | null
  /** Where the dead letter lies. */
  readonly partition: number
  readonly offset: number
  /** From 1. */
  readonly attempt: number
  readonly state: 'wanted' | 'done' | 'failed'
  /** Why it failed again. */
  readonly cause: string | null
  /** The offset of the document in `documents`, if it lies there. */
  readonly document: number | null
}

/** How far a run is in a partition, as the log of a cluster keeps it. Key: run + "\u001f" + partition. */
export interface PositionValue {
  readonly run: string
  readonly partition: number
  /** The next record of `documents` to read. */
  readonly offset: number
  /** What the pipeline needs beside it, as JSON; null if there is nothing. */
  readonly detail: string | null
}

/** A record that is there, by a digest of its topic and key (kafka/identities.ts). Key: the digest. */
export interface IdentityValue {
  readonly topic: string
}

/** A run was reset: what it wrote before is not read any more. Key: run + "\u001f" + partition. */
export interface ForgottenValue {
  readonly run: string
  readonly partition: number
  /** Records of the run before these offsets of the partition do not count. */
  readonly influence: number
  readonly deadLetters: number
}

/** A schema that records were written with. Key: its fingerprint in hexadecimal. */
export interface SchemaValue {
  /** JSON. */
  readonly schema: string
}

export interface TopicValues {
  readonly documents: DocumentValue
  readonly influence: InfluenceValue
  readonly tables: TablesValue
  readonly moments: MomentsValue
  readonly rescored: RescoredValue
  readonly runs: RunValue
  readonly queries: QueryValue
  readonly 'dead-letters': DeadLetterValue
  readonly retries: RetryValue
  readonly positions: PositionValue
  readonly identities: IdentityValue
  readonly forgotten: ForgottenValue
  readonly schemas: SchemaValue
}

export type TopicName = keyof TopicValues

/** Joins the parts of a key; the unit separator cannot stand in an id (ingest replaces it). */
export const keyOf = (first: string | number, ...others: readonly (string | number)[]): string => {
  let key = String(first)
  for (const part of others) key += `\u001f${part}`
  return key
}
