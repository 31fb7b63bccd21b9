/**
 * @file One query's score of a document, taken apart (docs/method.md §1, §5). A layer's gradient is a sum over tokens,
 * G = Σ_t δ_t ā_tᵀ, so its score is too:
 *
 *     ⟨Q̃, G⟩ = Σ_t δ_tᵀ Q̃ ā_t
 *
 * exactly, with Q̃ as each join has it. No G is formed: O·I' products a token and layer, as of a forward pass.
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, Program, ProgramSpec, StoredTensor } from '../tensor/index.js'
import { batchTensors, paddedLength, sequenceInputs } from './batch.js'
import { stageGradients } from './gradients.js'
import { joins, type JoinInput, type JoinKind } from './joins.js'
import { gradientShape, isGradientTransposed } from './layers.js'
import { sharedWidths } from './precondition.js'
import { stageInputs, type Stage } from './stages.js'

type Terms = <T>(ops: Ops<T>, layer: LinearLayer, rank: number, batch: Omit<JoinInput<T>, 'gradient'>, value: (name: string) => T) => T

/** Σ_i x_i y_i over the last axis: [B, T, N] → [B, T] */
const dots = <T>(ops: Ops<T>, x: T, y: T): T => ops.sum(ops.mul(x, y), { axes: [-1] })

/** δ_tᵀ Q̃ ā_t of one layer: [B, T]. The queries' tensors are those that the join asks for, of one query. */
export const tokenTerms: Readonly<Record<JoinKind, Terms>> = {
  dense: (ops, layer, _rank, { delta, input }, value) => {
    const query = ops.reshape(value(`Q/${layer.name}`), gradientShape(layer))
    return dots(ops, delta, ops.matmul(input, query, { transB: !isGradientTransposed(layer) }))
  },
  'low-rank': (ops, layer, _rank, { delta, input }, value) =>
    dots(ops, ops.matmul(delta, value(`U/${layer.name}`)), ops.matmul(input, value(`V/${layer.name}`))),
  shared: (ops, layer, rank, { delta, input }, value) => {
    const core = ops.reshape(value(`C/${layer.name}`), [...sharedWidths(layer, rank)]) // [kO, kI]
    return dots(ops, ops.matmul(delta, value(`P/${layer.name}`)), ops.matmul(ops.matmul(input, value(`R/${layer.name}`)), core, { transB: true }))
  },
}

/** A batch of documents and one query → `terms/<layer>` [B, T] of every tracked layer; zero where padded. */
export const explainProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, tracked: readonly LinearLayer[], kind: JoinKind, rank: number,
  { tokensMax, stage }: { readonly tokensMax?: number; readonly stage?: Stage } = {},
): ProgramSpec => ({
  name: `explaining (${kind} join)`,
  inputs: Object.assign({ ...stageInputs(model, sequenceInputs, stage) }, ...tracked.map((layer) => joins[kind].inputs(layer, { queries: 1, rank }))) as ProgramSpec['inputs'],
  weights,
  tokensMax,
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
    const terms: Record<string, T> = {}
    // Layer by layer in the order of the backward pass: no δ is kept for later.
    const use = ({ layer, input, delta }: { readonly layer: LinearLayer; readonly input: T; readonly delta: T }): readonly T[] => {
      const own = tokenTerms[kind](ops, layer, rank, { delta, input }, value)
      terms[`terms/${layer.name}`] = own
      return [own]
    }
    const { ends } = stageGradients(ops, model, tracked, value, weight, { use, stage })
    return { ...ends, ...terms }
  },
})

/** A document's score on one query, by token and layer. */
export interface ScoreTerms {
  /** In the order of the tracked layers: each f32 [T], the terms of the document's tokens. */
  readonly layers: readonly { readonly layer: string; readonly terms: Float32Array }[]
  /** L(z), nats. */
  readonly loss: number
}

/** Runs one document through the program. @param options.lengthMax positions that the model knows */
export const documentTerms = async (
  program: Program, tracked: readonly LinearLayer[], tokens: readonly number[], { lengthMax }: { readonly lengthMax: number },
): Promise<ScoreTerms> => {
  const { tokens: ids, rows, labels } = batchTensors([{ tokens }], { length: paddedLength(tokens.length, lengthMax) })
  const outputs = await program.run({ tokens: ids, rows, labels })
  return {
    loss: Number(outputs.loss.data[0]),
    layers: tracked.map(({ name }) => {
      const { data, type } = outputs[`terms/${name}`]
      if (!(data instanceof Float32Array)) throw new TypeError(`the terms of ${name} are ${type}, not float32`)
      return { layer: name, terms: data.slice(0, tokens.length) }
    }),
  }
}
