/** @file The whole of a decoder around its blocks: embedding, blocks, final norm, head. */
import type { Blueprint } from '../architectures/architecture.js'
import type { Model, Span } from '../model.js'
import type { Heads } from './attention.js'
import { chain, type Part, type Scope, type WeightShape } from './part.js'

export interface DecoderSpec {
  /** config.json's model_type. */
  readonly architecture: string
  /** D */
  readonly width: number
  readonly vocabulary: number
  readonly positionsMax: number
  readonly heads: Pick<Heads, 'heads' | 'headDim'>
  /** The name of the token embedding's weight. */
  readonly embedding: string
  /** A factor on the embedding (Gemma); 1 if absent. */
  readonly embeddingScale?: number
  /** The name of a table of learned positions [positions, D], added to the embedding. */
  readonly positions?: WeightShape
  readonly blocks: readonly Part[]
  readonly norm: Part
  readonly tied: boolean
  readonly logitScale?: number
  readonly softCap?: number
}

export const decoder = (spec: DecoderSpec): Blueprint => {
  const { width, vocabulary, embedding, logitScale, softCap } = spec
  const parts = [embeddingOf(spec), ...spec.blocks, spec.norm]
  const whole: Span = { from: 0, to: parts.length }
  const forward: Model['forward'] = (ops, weights, { tokens, entry }, onLinear, { from, to } = whole) => {
    const made = new Map<object, readonly (typeof tokens)[]>()
    const once: Scope<typeof tokens>['once'] = (key, make) => {
      const known = made.get(key) ?? make()
      made.set(key, known)
      return known
    }
    const x = from === 0 ? tokens : entry
    if (x === undefined) throw new RangeError(`parts from ${from} on go on with a residual stream, which is not given`)
    return chain(...parts.slice(from, to)).apply({ ops, weights, tokens, onLinear, once }, x)
  }
  const { layers, shapes } = chain(...parts)
  return {
    embedding,
    tied: spec.tied,
    build: (head) => ({
      architecture: spec.architecture,
      width,
      blocks: spec.blocks.length,
      vocabulary,
      positionsMax: spec.positionsMax,
      layers,
      heads: spec.heads.heads,
      headDim: spec.heads.headDim,
      forward,
      head: { weight: head, logitScale, softCap },
      weightShapes: new Map<string, readonly number[]>([...shapes, [head, [vocabulary, width]]]),
      weightsOf: ({ from, to }) => [
        ...new Set([...parts.slice(from, to).flatMap((part) => part.shapes.map(([name]) => name)), ...(to === parts.length ? [head] : [])]),
      ],
    }),
  }
}

/** tokens int [B, T] → [B, T, D] */
const embeddingOf = ({ embedding, embeddingScale = 1, positions, vocabulary, width }: DecoderSpec): Part => ({
  layers: [],
  shapes: [[embedding, [vocabulary, width]], ...(positions === undefined ? [] : [positions])],
  apply: ({ ops, weights }, tokens) => {
    const rows = ops.gather(weights(embedding), tokens)
    const scaled = embeddingScale === 1 ? rows : ops.scale(rows, embeddingScale)
    return positions === undefined ? scaled : ops.add(scaled, ops.gather(weights(positions[0]), ops.positions(tokens)))
  },
})
