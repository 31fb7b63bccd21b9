/**
 * @file The second fitting pass (docs/method.md §3.3): the corrected eigenvalues, sums over documents of
 * (Q_Sᵀ Ĝ Q_A)², with Ĝ = Σ_t δ̂_t ā_tᵀ. δ̂ and ā are rotated token by token, 2(I² + O²) each, or Ĝ is
 * rotated once a document, 2·I·O·(I + O)/T a token, whichever is less at the context's length.
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, ProgramSpec, StoredTensor, TensorData } from '../tensor/index.js'
import { basisInputs, basisTensors, rotate, type Basis } from './basis.js'
import { fitInputs } from './batch.js'
import { overTokens, stageGradients, type LayerGradient } from './gradients.js'
import { inputName, inputWidth } from './layers.js'
import { stageInputs, type Stage } from './stages.js'

export interface Bases {
  /** Q_A of a layer's input, and Q_S; absent for `diagonal`, which stays in the parameter basis. */
  readonly inputs: ReadonlyMap<string, Basis>
  readonly outputs: ReadonlyMap<string, Basis>
}

/** What the program below is bound to. */
export const boundBases = ({ inputs, outputs }: Bases): Readonly<Record<string, TensorData>> =>
  Object.assign(
    {},
    ...[...inputs].map(([name, basis]) => basisTensors(`QA/${name}`, basis)),
    ...[...outputs].map(([name, basis]) => basisTensors(`QS/${name}`, basis)),
  )

/** Sums over documents, `L/<layer>` [O, I'], as the program's float64 accumulators. */
export const eigenvalueProgram = (
  model: Model,
  weights: ReadonlyMap<string, StoredTensor>,
  tracked: readonly LinearLayer[],
  { inputs, outputs }: Bases,
  { empirical, context, stage }: { readonly empirical: boolean; readonly context: number; readonly stage?: Stage },
): ProgramSpec => ({
  name: 'corrected eigenvalues',
  inputs: {
    ...stageInputs(model, fitInputs(empirical), stage),
    ...Object.assign({}, ...[...inputs].map(([name, basis]) => basisInputs(`QA/${name}`, basis, { fixed: true }))),
    ...Object.assign({}, ...[...outputs].map(([name, basis]) => basisInputs(`QS/${name}`, basis, { fixed: true }))),
  },
  weights,
  tokensMax: context,
  accumulate: Object.fromEntries(tracked.map((layer) => [`L/${layer.name}`, [layer.outputs, inputWidth(layer)]])),
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
    const result: Record<string, T> = {}
    const use = ({ layer, input, delta }: LayerGradient<T>): readonly T[] => {
      const basisA = inputs.get(inputName(layer))
      const basisS = outputs.get(layer.name)
      const toA = (x: T): T => (basisA === undefined ? x : rotate(ops, x, basisA, (b) => value(`QA/${inputName(layer)}.${b}`)))
      const toS = (x: T): T => (basisS === undefined ? x : rotate(ops, x, basisS, (b) => value(`QS/${layer.name}.${b}`)))
      const [i, o] = [inputWidth(layer), layer.outputs]
      const byToken = i * i + o * o <= (i * o * (i + o)) / context
      const rotated = byToken
        ? overTokens(ops, toS(delta), toA(input)) // [B, O, I']
        : toA(ops.transpose(toS(ops.matmul(input, delta, { transA: true })), [0, 2, 1]))
      const squares = ops.sumSquares(rotated, { axes: [0] })
      result[`L/${layer.name}`] = squares
      return [squares]
    }
    const { ends } = stageGradients(ops, model, tracked, value, weight, { sampled: !empirical, use, stage })
    return { ...result, ...ends }
  },
})
