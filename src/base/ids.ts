/** @file Branded ids: one cannot be passed where another is meant. */

declare const brand: unique symbol
type Branded<Name extends string> = string & { readonly [brand]: Name }

/** A document's id as its shard gave it, or the hash of its content where the shard gave none. */
export type DocumentId = Branded<'DocumentId'>
/** A query's id as its file gave it. */
export type QueryId = Branded<'QueryId'>
/** The name of a run. */
export type RunId = Branded<'RunId'>

export const documentId = (id: string): DocumentId => id as DocumentId
export const queryId = (id: string): QueryId => id as QueryId
export const runId = (id: string): RunId => id as RunId
