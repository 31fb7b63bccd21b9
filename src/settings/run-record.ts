/** @file What a run is, as the topic `runs` keeps it (the JSON of `RunValue.settings`). */
import { UserError } from '../base/index.js'

/** A value that JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

/** A query of a run, as it was when the run began. */
export interface RunQuery {
  readonly id: string
  readonly prompt: string
  readonly completion: string
  readonly group: string | null
  readonly task: string | null
  readonly answer: string | null
  readonly steps: readonly string[] | null
  /** Tokens of prompt and completion together, and of the prompt. */
  readonly tokens: number
  readonly promptTokens: number
  /** −f in nats (docs/method.md §1): influence per nat is influence over this. */
  readonly informationNats: number
}

/** An approximate join against full-rank queries, on a sample of documents and queries. */
export interface Accuracy {
  readonly documents: number
  readonly queries: number
  /** Over queries: mean and least Pearson's r of a query's scores. */
  readonly pearsonMean: number
  readonly pearsonMin: number
  /** ‖approximate − exact‖ / ‖exact‖ over all sampled scores. */
  readonly relativeError: number
}

/** A run: what it was told, what that came to, and its queries in the order of `InfluenceValue.influence`. */
export interface RunRecord {
  readonly run: string
  /** What identifies the run, see identity.ts. */
  readonly settings: { readonly [name: string]: Json }
  /** The checkpoints' folders as they were given; their hashes. */
  readonly model: string
  readonly queryModel: string
  readonly checkpoint: string
  readonly queryCheckpoint: string
  /** The factor set's name and hash. */
  readonly factors: string
  readonly factorsHash: string
  /** The join that was chosen, and why, in a sentence. */
  readonly join: 'dense' | 'low-rank' | 'shared'
  readonly joinReason: string
  /** λ of every tracked layer, by the layer's name. */
  readonly damping: { readonly [layer: string]: number }
  readonly queries: readonly RunQuery[]
  readonly createdMs: number
  /** How near the scores of an approximate join come to full-rank ones, measured when the run had caught up. */
  readonly accuracy?: Accuracy
  /** Versions of what computed: tributary, node, onnxruntime-node, ... */
  readonly versions: { readonly [name: string]: string }
}

/** What a run scores and ranks: documents, or the pieces that long ones are split into. */
export const rankedOf = ({ settings }: Pick<RunRecord, 'settings'>): 'documents' | 'pieces' => (settings['long'] === 'split' ? 'pieces' : 'documents')

/** The record of a run from the text in its topic. @throws UserError if it is of another make. */
export const parseRunRecord = (run: string, settings: string): RunRecord => {
  let value: unknown
  try {
    value = JSON.parse(settings)
  } catch (cause) {
    throw new UserError(`the record of run "${run}" is not JSON`, { cause })
  }
  const record = value as Partial<RunRecord> | null
  if (typeof record !== 'object' || record === null || !Array.isArray(record.queries) || typeof record.settings !== 'object')
    throw new UserError(`the record of run "${run}" was written by another version of tributary`, {
      fix: 'score again under a new --run name',
    })
  return record as RunRecord
}
