/** @file The words of this folder; see index.ts for its law. */
import type { DocumentId } from '../base/index.js'

/** One document (or a piece of it) with its scores against all queries, in the order of the query set. */
export interface Scored {
  readonly document: DocumentId
  readonly source: string
  readonly piece: number
  readonly partition: number
  readonly offset: number
  /** ‖∇L(z)‖ */
  readonly gradientNorm: number
  /** Raw influence, f32 [Q]. */
  readonly influence: Float32Array
}

/** A row of a table. Rows are told apart by (document, source, piece). */
export interface Row {
  readonly document: DocumentId
  readonly source: string
  readonly piece: number
  readonly partition: number
  readonly offset: number
  readonly score: number
}

/** The four tables of one query, rows best first: `top` from the greatest score down, `bottom` from the least up. */
export interface QueryTables {
  readonly top: readonly Row[]
  readonly bottom: readonly Row[]
  readonly topNormed: readonly Row[]
  readonly bottomNormed: readonly Row[]
}

/** One query's moments as bytes: Σx, Σx², and the cross products with the queries from this one on. */
export interface MomentsRow {
  readonly count: number
  readonly raw: Uint8Array
  readonly normed: Uint8Array
}
