/**
 * @file Tensor programs: operations, the reverse-mode tape around them, the engines that run them, linear algebra.
 * Knows nothing of models, documents or topics.
 */
export type { AttentionOptions, Composites, HeadOptions, MatmulOptions, NormOptions, Ops, PartOptions, Primitives, SumOptions } from './ops.js'
