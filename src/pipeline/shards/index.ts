/**
 * @file Input shards as documents: .jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt (one document a file). Knows nothing
 * of topics. What it holds is bounded, whatever the file: one line (one row group) and a chunk of bytes. A line that
 * is no document is handed on as a problem; a shard that breaks off ends in a UserError, after every whole line
 * before the break.
 */
export { findShards, shardExtensions } from './find.js'
export { readShard } from './read.js'
export { rereadLine } from './reread.js'
export { bytesField } from './parse.js'
export type { ShardDocument, ShardLine, ShardOptions } from './types.js'
