/**
 * @file Segments of a training, as SOURCE has them (Bae et al. 2024, arXiv 2405.12186). A training of L segments, each with
 * the time t_ℓ (the sum of the learning rates of its steps) and a Gauss-Newton matrix G_ℓ that is taken for constant in it:
 * a document's gradient ∇L_ℓ moves the parameters at the end by
 *
 *     S_L ⋯ S_{ℓ+1} F_ℓ ∇L_ℓ        F = (1 − exp(−t G)) G⁻¹,  S = exp(−t G)
 *
 * F_ℓ takes the place of the damped inverse: directions of much curvature have settled (1/Λ), those of little have gone t along
 * their gradient, and no damping is needed. S is what is left of it after a later segment. Both are functions of G, so of Λ in
 * the eigenbasis of the segment's factors.
 */
import type { Damping, LayerFactors } from './factors.js'

/** A segment that came after the one that is scored. */
export interface LaterFactors {
  readonly factors: LayerFactors
  /** t: the sum of the learning rates of its steps. */
  readonly time: number
}

/** What each direction is multiplied by in place of 1/Λ: f32, as the eigenvalues. */
export const inverseOf = (eigenvalues: Float32Array, lambda: number, damping: Damping): Float32Array => {
  const inverse = new Float32Array(eigenvalues.length)
  if (damping.kind === 'segment') {
    for (const [at, value] of eigenvalues.entries()) inverse[at] = value > 0 ? -Math.expm1(-damping.time * value) / value : damping.time
    return inverse
  }
  for (let at = 0; at < inverse.length; at++) {
    const sum = eigenvalues[at] + lambda
    // Without damping, what no document has any gradient in counts for nothing, rather than for infinity times nothing.
    inverse[at] = sum > 0 ? 1 / sum : 0
  }
  return inverse
}

/** S of a later segment: exp(−t Λ). */
export const decayOf = (eigenvalues: Float32Array, time: number): Float32Array => eigenvalues.map((value) => Math.exp(-time * value))
