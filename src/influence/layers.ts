/** @file Which linear layers are tracked (attributed). */
import { UserError } from '../base/index.js'
import type { LinearLayer, Model } from '../model/index.js'

/** I + 1 with a bias (homogeneous inputs ā = [a; 1]), else I: the columns of a layer's gradient. */
export const inputWidth = ({ inputs, bias }: LinearLayer): number => inputs + Number(bias)

/**
 * Whether a layer's gradient is held transposed where it is formed for each document: where it has more columns then. On a CPU
 * Σ_t δ_t ā_tᵀ of 512 tokens, 1536×576, takes 1.03 to 1.25 times as long the other way.
 */
export const isGradientTransposed = (layer: LinearLayer): boolean => layer.outputs > inputWidth(layer)

/** Its rows and columns there: [O, I'], or [I', O]. */
export const gradientShape = (layer: LinearLayer): readonly [rows: number, columns: number] =>
  isGradientTransposed(layer) ? [inputWidth(layer), layer.outputs] : [layer.outputs, inputWidth(layer)]

/** The name of the input that a layer shares with others of its block (gate and up; q, k and v): ā, A and Q_A are theirs together. */
export const inputName = ({ block, inputGroup }: LinearLayer): string => `${block}.${inputGroup}`

/** O·(I + 1) over the layers: the parameters that are attributed. */
export const trackedParameters = (layers: readonly LinearLayer[]): number =>
  layers.reduce((sum, layer) => sum + layer.outputs * inputWidth(layer), 0)

/**
 * The layers that `track` names: `mlp` (as Grosse and Ruis do), `attention`, `all`, or a regular expression that a
 * whole module name must match (`model.layers.(0|10).mlp.*`). All layers of the blocks can be tracked; the output head
 * can not, and an expression that names it is refused rather than silently cut.
 * @throws UserError if the expression is malformed, matches nothing, or matches the head
 */
export const trackedLayers = (model: Model, track: string): readonly LinearLayer[] => {
  const chosen = model.layers.filter(filterOf(track, model))
  if (chosen.length > 0) return chosen
  const examples = model.layers.slice(0, 7).map(({ name }) => name)
  throw new UserError(`--track ${track} matches none of the ${model.layers.length} linear layers`, {
    fix: `modules are named like ${examples.join(', ')}`,
  })
}

const filterOf = (track: string, model: Model): ((layer: LinearLayer) => boolean) => {
  if (track === 'all') return () => true
  if (track === 'mlp' || track === 'attention') return ({ part }) => part === track
  let pattern: RegExp
  try {
    pattern = new RegExp(`^(?:${track})$`, 'u')
  } catch (cause) {
    throw new UserError(`--track ${track} is no regular expression: ${(cause as Error).message}`, { cause })
  }
  // A tied head goes by the embedding's name.
  if ([model.head.weight.replace(/\.weight$/, ''), 'lm_head'].some((name) => pattern.test(name))) {
    throw new UserError(`--track ${track} matches the output head, which cannot be tracked: its covariance would have ${model.vocabulary}² entries`, {
      fix: 'write an expression that matches layers of the blocks only',
    })
  }
  return ({ name }) => pattern.test(name)
}
