/** @file A fit without a log: factors of a few sequences, by the same programs as `tributary fit`. For tests. */
import type { Checkpoint, LinearLayer } from '../../src/model/index.js'
import { eigh, type Engine } from '../../src/tensor/index.js'
import {
  batchTensors, blockBounds, boundBases, covarianceOf, covarianceProgram, covarianceShapes, eigenvalueProgram, inputName, inputWidth,
  strategyParts, type Basis, type LayerFactors, type Sequence, type Strategy,
} from '../../src/influence/index.js'

export interface InMemoryFit {
  readonly factors: ReadonlyMap<string, LayerFactors>
  /** A and S as they were averaged, by `A/<input>` and `S/<layer>`. */
  readonly covariances: ReadonlyMap<string, Float64Array>
}

export const fitInMemory = async (
  engine: Engine,
  { model, tensors }: Checkpoint,
  tracked: readonly LinearLayer[],
  batches: readonly (readonly Sequence[])[],
  { strategy, blocks = 1, empirical = true }: { readonly strategy: Strategy; readonly blocks?: number; readonly empirical?: boolean },
): Promise<InMemoryFit> => {
  const count = batches.flat().length
  const covariances = new Map<string, Float64Array>()
  const bases = { inputs: new Map<string, Basis>(), outputs: new Map<string, Basis>() }
  if (strategyParts[strategy].bases) {
    await using program = await engine.compile(covarianceProgram(model, tensors, tracked, { empirical }))
    let tokens = 0
    for (const batch of batches) {
      const { tokens: ids, rows, labels, real, uniforms } = batchTensors(batch)
      tokens += real.data.length
      await program.run({ tokens: ids, rows, real, ...(empirical ? { labels } : { uniforms }) })
    }
    for (const shape of covarianceShapes(tracked)) {
      const whole = covarianceOf(program.sums, shape, tokens)
      covariances.set(shape.name, whole)
      const basis = await basisOf(whole, shape.width, blocks)
      if (shape.name.startsWith('A/')) bases.inputs.set(shape.name.slice(2), basis)
      else bases.outputs.set(shape.name.slice(2), basis)
    }
  }
  const eigenvalues = new Map<string, Float32Array>()
  if (strategyParts[strategy].eigenvalues) {
    await using program = await engine.compile(eigenvalueProgram(model, tensors, tracked, bases, { empirical, context: 64 }))
    await program.bind(boundBases(bases))
    for (const batch of batches) {
      const { tokens, rows, labels, uniforms } = batchTensors(batch)
      await program.run({ tokens, rows, ...(empirical ? { labels } : { uniforms }) })
    }
    for (const layer of tracked) eigenvalues.set(layer.name, Float32Array.from(program.sums[`L/${layer.name}`], (sum) => sum / count))
  }
  const factors = tracked.map((layer): readonly [string, LayerFactors] => {
    const inputs = bases.inputs.get(inputName(layer)) ?? null
    const outputs = bases.outputs.get(layer.name) ?? null
    const columns = inputWidth(layer)
    const kfac = (): Float32Array =>
      Float32Array.from({ length: layer.outputs * columns }, (_, n) => (outputs?.values[Math.floor(n / columns)] ?? 0) * (inputs?.values[n % columns] ?? 0))
    return [layer.name, { layer, inputs, outputs, eigenvalues: eigenvalues.get(layer.name) ?? (strategy === 'kfac' ? kfac() : new Float32Array(layer.outputs * columns)) }]
  })
  return { factors: new Map(factors), covariances }
}

const basisOf = async (matrix: Float64Array, width: number, count: number): Promise<Basis> => {
  const values = new Float64Array(width)
  const blocks = []
  for (const { from, size } of blockBounds(width, count)) {
    const own = Float64Array.from({ length: size * size }, (_, n) => matrix[(from + Math.floor(n / size)) * width + from + (n % size)])
    const eigen = await eigh(own, size)
    values.set(eigen.values.map((value) => Math.max(value, 0)), from)
    blocks.push({ from, size, vectors: Float32Array.from(eigen.vectors) })
  }
  return { width, blocks, values }
}
