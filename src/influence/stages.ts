/**
 * @file A model in stages: consecutive parts of its forward pass (`Span`) whose weights are in memory together, one stage
 * at a time. Between stages goes the residual stream, upwards, and the loss's gradient by it, downwards; a stage's own
 * activations are computed again where the backward pass comes by (Chen et al. 2016, arXiv 1604.06174). Whatever is a sum
 * over tracked layers (scores, norms), or is one layer's own (ā, δ, covariances), comes out stage by stage.
 */
import { UserError } from '../base/index.js'
import type { LinearLayer, Model, Span } from '../model/index.js'
import type { InputSpec, Ops, ProgramSpec, StoredTensor } from '../tensor/index.js'
import { sequenceInputs } from './batch.js'

export interface Stage extends Span {
  /** Whether a tracked layer lies below, so that the backward pass goes on there. */
  readonly goesOnBelow: boolean
}

/** Parts of a model: the embedding, its blocks, and the final norm with the head. */
export const partsOf = ({ blocks }: Pick<Model, 'blocks'>): number => blocks + 2

export const wholeModel = (model: Pick<Model, 'blocks'>): Stage => ({ from: 0, to: partsOf(model), goesOnBelow: false })
export const beginsModel = ({ from }: Span): boolean => from === 0
export const endsModel = ({ to }: Span, model: Pick<Model, 'blocks'>): boolean => to === partsOf(model)

/** The tracked layers of a span. */
export const layersIn = ({ from, to }: Span, tracked: readonly LinearLayer[]): readonly LinearLayer[] =>
  tracked.filter(({ block }) => from <= block + 1 && block + 1 < to)

/** Inputs of the loss. */
const atHead: ReadonlySet<string> = new Set(['rows', 'labels', 'uniforms'])

/** A program's inputs, given what it has of a whole model: labels with the head, the stream at both ends. */
export const stageInputs = (
  model: Pick<Model, 'blocks' | 'width'>, inputs: Readonly<Record<string, InputSpec>>, stage: Span = wholeModel(model),
): Readonly<Record<string, InputSpec>> => {
  const stream = { type: 'float32', shape: ['B', 'T', model.width] } as const
  const others = Object.fromEntries(Object.entries(inputs).filter(([name]) => !atHead.has(name)))
  return {
    ...(endsModel(stage, model) ? inputs : { ...others, cotangent: stream }),
    ...(beginsModel(stage) ? {} : { entry: stream }),
  }
}

/** tokens, or the stream before the stage → `exit`, the stream after it: [B, T, D]. */
export const forwardProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, span: Span, { tokensMax, precision }: Pick<ProgramSpec, 'tokensMax' | 'precision'> = {},
): ProgramSpec => ({
  name: `forward pass of parts ${span.from} to ${span.to - 1}`,
  inputs: {
    tokens: sequenceInputs.tokens,
    ...(beginsModel(span) ? {} : { entry: { type: 'float32', shape: ['B', 'T', model.width] } as const }),
  },
  weights,
  tokensMax,
  precision,
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => ({
    exit: model.forward(ops, weight, { tokens: value('tokens'), entry: beginsModel(span) ? undefined : value('entry') }, (_layer, x, compute) => compute(x), span),
  }),
})

/** Bytes of a span's weights as an engine computes with them: 4 a number, whatever they are stored as. */
export const spanBytes = (model: Pick<Model, 'weightsOf' | 'weightShapes'>, span: Span): number =>
  model.weightsOf(span).reduce((sum, name) => sum + 4 * (model.weightShapes.get(name) ?? []).reduce((product, d) => product * d, 1), 0)

/**
 * The fewest stages whose weights take at most `bytesMax` each; one, if the whole model does.
 * @throws UserError if a single part takes more: it cannot be cut
 */
export const planStages = (model: Model, bytesMax: number): readonly Span[] => {
  const stages: Span[] = []
  const last = partsOf(model)
  let from = 0
  for (let to = 1; to <= last; to++) {
    const own = spanBytes(model, { from: to - 1, to })
    if (own > bytesMax) throw tooSmall(model, bytesMax)
    if (spanBytes(model, { from, to }) <= bytesMax) continue
    stages.push({ from, to: to - 1 })
    from = to - 1
  }
  return [...stages, { from, to: last }]
}

const tooSmall = (model: Model, bytesMax: number): UserError => {
  const sizes = Array.from({ length: partsOf(model) }, (_, part) => spanBytes(model, { from: part, to: part + 1 }))
  const most = Math.max(...sizes)
  const at = sizes.indexOf(most)
  const name = at === 0 ? 'its embedding' : at > model.blocks ? 'its head' : `block ${at - 1}`
  const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20).toLocaleString('en-US')} MiB`
  return new UserError(`a stage of ${mib(bytesMax)} holds not even ${name}, which takes ${mib(most)}`, { fix: `--stage-memory ${Math.ceil(most / 2 ** 20)}MiB, or more` })
}

/** The stages that have anything to do in the backward pass know whether it goes on below them. */
export const stageOf = (span: Span, tracked: readonly LinearLayer[]): Stage => ({ ...span, goesOnBelow: tracked.some(({ block }) => block + 1 < span.from) })
