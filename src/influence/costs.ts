/**
 * @file What fitting and preparing cost, in arithmetic and in bytes, from shapes alone: the counts that `tributary plan`
 * tells and the bench holds measurements against. FLOP are multiplications and additions of products; elementwise work
 * and moving data are not in them.
 */
import type { LinearLayer, Model } from '../model/index.js'
import { covarianceShapes } from './covariance.js'
import { inputWidth, trackedParameters } from './layers.js'
import { modelFlop } from './planner.js'

/** FLOP a token of the first pass: the model's, without gradients of weights, and five eighths of each covariance's product. */
export const covarianceFlop = (model: Model, tracked: readonly LinearLayer[], context: number): number =>
  modelFlop(model, tracked, context) - 2 * trackedParameters(tracked) + covarianceShapes(tracked).reduce((sum, { width }) => sum + 2 * width * width * 0.625, 0)

/** FLOP a token of the second pass: the model's, and both rotations into the eigenbasis. */
export const eigenvalueFlop = (model: Model, tracked: readonly LinearLayer[], context: number): number =>
  modelFlop(model, tracked, context) + covarianceShapes(tracked).reduce((sum, { width }) => sum + 2 * width * width, 0)

/** Σ n³ over all eigendecompositions, with `blocks` diagonal blocks each. */
export const eigenCubes = (tracked: readonly LinearLayer[], blocks: number): number =>
  covarianceShapes(tracked).reduce((sum, { width }) => sum + width ** 3 / Math.min(blocks, width) ** 2, 0)

/** FLOP of one rotation of a query's gradients: Q_Sᵀ G Q_A in every layer. */
export const rotationFlop = (tracked: readonly LinearLayer[]): number =>
  tracked.reduce((sum, layer) => sum + 2 * layer.outputs * inputWidth(layer) * (layer.outputs + inputWidth(layer)), 0)

/** Bytes of a factor set: eigenbases (distinct inputs once) and corrected eigenvalues, float32; and of the first pass's sums, float64. */
export const factorBytes = (tracked: readonly LinearLayer[], blocks: number): { readonly disk: number; readonly sums: number } => {
  const squares = covarianceShapes(tracked).reduce((sum, { width }) => sum + width * width, 0)
  return { disk: 4 * (squares / blocks + trackedParameters(tracked)), sums: Math.max(8 * 0.625 * squares, 8 * trackedParameters(tracked)) }
}
