/**
 * @file A query's forward and backward pass: ā and δ of every tracked layer, for its own few tokens. Labels are masked
 * over the prompt, δ is not: attention carries gradient back into the prompt (docs/method.md §2).
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, Program, ProgramSpec, StoredTensor } from '../tensor/index.js'
import { batchTensors, sequenceInputs } from './batch.js'
import { stageGradients } from './gradients.js'
import { inputName } from './layers.js'
import type { QueryLayerGradient } from './precondition.js'
import { stageInputs, type Stage } from './stages.js'

/** A query as token ids: `encode(prompt)` with specials, then `encode(completion)` without. */
export interface TokenizedQuery {
  readonly tokens: readonly number[]
  readonly promptTokens: number
}

export interface QueryGradient {
  /** −f = −log p(completion | prompt), nats. */
  readonly informationNats: number
  /** By the layer's name; arrays of layers with a common input are shared. */
  readonly layers: ReadonlyMap<string, QueryLayerGradient>
}

export const queryProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, tracked: readonly LinearLayer[],
  { tokensMax, stage }: { readonly tokensMax?: number; readonly stage?: Stage } = {},
): ProgramSpec => ({
  name: 'query gradients',
  inputs: stageInputs(model, sequenceInputs, stage),
  weights,
  tokensMax,
  // A query has a few tokens: packing all weights takes longer than hundreds of queries (SmolLM2-135M: 2 s of 4), and their size again.
  weightsInPlace: true,
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
    const { ends, layers } = stageGradients(ops, model, tracked, value, weight, { stage })
    const outputs: Record<string, T> = { ...ends }
    for (const { layer, input, delta } of layers) {
      outputs[`A/${inputName(layer)}`] = input
      outputs[`D/${layer.name}`] = delta
    }
    return outputs
  },
})

export const queryGradient = async (program: Program, tracked: readonly LinearLayer[], { tokens, promptTokens }: TokenizedQuery): Promise<QueryGradient> => {
  const { tokens: ids, rows, labels } = batchTensors([{ tokens, lossFrom: Math.max(promptTokens, 1) }])
  const outputs = await program.run({ tokens: ids, rows, labels })
  const layers = tracked.map((layer): readonly [string, QueryLayerGradient] => [
    layer.name,
    { tokens: ids.shape[1], delta: outputs[`D/${layer.name}`].data as Float32Array, input: outputs[`A/${inputName(layer)}`].data as Float32Array },
  ])
  return { informationNats: Number(outputs.loss.data[0]), layers: new Map(layers) }
}
