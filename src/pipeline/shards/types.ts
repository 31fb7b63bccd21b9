/** @file The words of this folder; see index.ts for its law. */

/** A document as its shard gave it. */
export interface ShardDocument {
  /** As text; numbers are written out. Absent where the line has none, or an empty one. */
  readonly id?: string
  /** Never empty. */
  readonly text: string
  /** The line's own, else the default source; absent where there is neither. */
  readonly source?: string
  /** The other fields, fit for JSON. */
  readonly extra: Readonly<Record<string, unknown>>
}

/** One place of a shard: a document, or why there is none. `index` counts lines (rows) from 0, blank ones too. */
export type ShardLine =
  | { readonly ok: ShardDocument; readonly index: number; readonly bytes: number }
  | {
      readonly problem: string
      readonly index: number
      readonly bytes: number
      /** The line's bytes (a row's as JSON), cut at `originalBytesMax`. */
      readonly original: Uint8Array
    }

export interface ShardOptions {
  /** Named here rather than left to default, a field that no line has is a UserError. Default: "text". */
  readonly textField?: string
  /** As `textField`. Default: "id". */
  readonly idField?: string
  /** The source of lines that name none in their field "source". */
  readonly source?: string
  /** A longer line (.txt: file; .parquet: text) is a problem. Default: 16 MiB. */
  readonly lineBytesMax?: number
  /** A larger row group, uncompressed, is a UserError: it is held in memory whole. Default: 1 GiB. */
  readonly rowGroupBytesMax?: number
}

/** What is kept of a line that is a problem. */
export const originalBytesMax = 1 << 20
export const lineBytesMaxDefault = 16 << 20
export const rowGroupBytesMaxDefault = 2 ** 30

/** A shard ends, or stops making sense, in the middle. Becomes a UserError where file and line are known. */
export class Torn extends Error {
  override readonly name = 'Torn'
}
