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
