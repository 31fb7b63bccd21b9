/**
 * @file Top-k tables and running moments. Pure; knows nothing of topics or tensors. `merge` is associative and
 * commutative, with a zero that has seen nothing; ties go by document id: any order of arrival, batches, partitions or
 * merges ends in the same tables and in the same bits of every sum. A document that comes twice counts once in a table.
 */
export { problemOf, scoreMax } from './check.js'
export { ExactSums, rangeOf } from './exact-sum.js'
export { RunningMoments, type Moments } from './running-moments.js'
export { RunningTables } from './running-tables.js'
export { compareRows, empty, insert, merge, type End, type TopK } from './top-k.js'
export type { MomentsRow, QueryTables, Row, Scored } from './types.js'
