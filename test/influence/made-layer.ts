/** @file One tracked layer with factors, queries and documents made from a seed, and what preconditioning is by definition. */
import { normals } from '../../src/base/index.js'
import { blockBounds, dampingOf, inputWidth, type Basis, type Damping, type LayerFactors, type QueryLayerGradient, type Strategy } from '../../src/influence/index.js'
import type { LinearLayer } from '../../src/model/index.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import { eigh } from '../../src/tensor/index.js'
import { randomTensor } from '../tensor/tensors.js'

const ops = plainOps()

export const layerOf = (outputs: number, inputs: number, { bias = true, name = 'layer' } = {}): LinearLayer => ({
  name, block: 0, part: 'mlp', inputs, outputs, bias, inputGroup: name,
})

/** Q̃ [O, I'] row by row, of a dense query, which is transposed where O > I'. */
export const parametersOf = (layer: LinearLayer, dense: ArrayLike<number>): Float64Array => {
  const [O, I] = [layer.outputs, inputWidth(layer)]
  return Float64Array.from({ length: O * I }, (_, n) => (O > I ? dense[(n % I) * O + Math.floor(n / I)] : dense[n]))
}

/** X diag(spectrum) Xᵀ with X random: a covariance whose directions differ in size. */
const covariance = (width: number, decay: number, seed: number): PlainTensor => {
  const x = randomTensor([width, width], seed)
  const spectrum = plainTensor(Array.from({ length: width }, (_, i) => Math.exp(-decay * i)), [width])
  return ops.scale(ops.matmul(ops.mul(x, spectrum), x, { transB: true }), 1 / width)
}

const basisOf = async (matrix: PlainTensor, count: number): Promise<Basis> => {
  const [width] = matrix.shape
  const values = new Float64Array(width)
  const blocks = []
  for (const { from, size } of blockBounds(width, count)) {
    const own = ops.slice(ops.slice(matrix, { axis: 0, from, to: from + size }), { axis: 1, from, to: from + size })
    const eigen = await eigh(own.data.slice(), size)
    values.set(eigen.values.map((value) => Math.max(value, 0)), from)
    blocks.push({ from, size, vectors: Float32Array.from(eigen.vectors) })
  }
  return { width, values, blocks }
}

export const madeFactors = async (
  layer: LinearLayer, { strategy = 'ekfac', blocks = 1, decay = 0.3, seed = 1 }: { strategy?: Strategy; blocks?: number; decay?: number; seed?: number } = {},
): Promise<LayerFactors> => {
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const inBasis = strategy === 'ekfac' || strategy === 'kfac'
  const inputs = inBasis ? await basisOf(covariance(I, decay, seed), blocks) : null
  const outputs = inBasis ? await basisOf(covariance(O, decay, seed + 1), blocks) : null
  const next = normals(seed + 2)
  const eigenvalues = Float32Array.from({ length: O * I }, (_, n) => {
    if (strategy === 'identity') return 0
    const product = (outputs?.values[Math.floor(n / I)] ?? 1) * (inputs?.values[n % I] ?? 1)
    return strategy === 'kfac' ? product : product * Math.exp(0.5 * next())
  })
  return { layer, inputs, outputs, eigenvalues }
}

export const madeQueries = (layer: LinearLayer, lengths: readonly number[], seed = 50): readonly QueryLayerGradient[] =>
  lengths.map((tokens, q) => ({
    tokens,
    delta: Float32Array.from(randomTensor([tokens, layer.outputs], seed + 2 * q).data),
    input: Float32Array.from(randomTensor([tokens, inputWidth(layer)], seed + 2 * q + 1).data),
  }))

/** The basis as one matrix, [width, width]; the identity where there is none. */
export const matrixOf = (basis: Basis | null, width: number): PlainTensor => {
  const all = plainTensor(new Float64Array(width * width), [width, width])
  for (const { from, size, vectors } of basis?.blocks ?? Array.from({ length: width }, (_, i) => ({ from: i, size: 1, vectors: Float32Array.of(1) }))) {
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) all.data[(from + i) * width + from + j] = vectors[i * size + j]
  }
  return all
}

/** docs/method.md §4, as it stands there, in float64: Q̃ = Q_S [(Q_Sᵀ G Q_A) ⊘ (Λ + λ)] Q_Aᵀ */
export const preconditionedBy = ({ layer, inputs, outputs, eigenvalues }: LayerFactors, strategy: Strategy, damping: Damping, { tokens, delta, input }: QueryLayerGradient): PlainTensor => {
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const [QS, QA] = [matrixOf(outputs, O), matrixOf(inputs, I)]
  const lambda = dampingOf(strategy, eigenvalues, damping)
  const G = ops.matmul(plainTensor(delta, [tokens, O]), plainTensor(input, [tokens, I]), { transA: true })
  const rotated = ops.matmul(ops.matmul(QS, G, { transA: true }), QA)
  const divided = ops.div(rotated, ops.shift(plainTensor(eigenvalues, [O, I]), lambda))
  return ops.matmul(ops.matmul(QS, divided), QA, { transB: true })
}

/** S^½ X A^½, S and A with the floor under their spectra: the metric of the gradients (§4). */
export const inMetric = ({ layer, inputs, outputs }: LayerFactors, X: PlainTensor): PlainTensor => {
  const [O, I] = [layer.outputs, inputWidth(layer)]
  const root = (basis: Basis | null, width: number): PlainTensor => {
    const Q = matrixOf(basis, width)
    const mean = (basis?.values ?? new Float64Array()).reduce((sum, value) => sum + value, 0) / width
    const roots = plainTensor(Array.from({ length: width }, (_, i) => (basis === null ? 1 : Math.sqrt(Math.max(basis.values[i], 1e-3 * mean)))), [width])
    return ops.matmul(ops.mul(Q, roots), Q, { transB: true })
  }
  return ops.matmul(ops.matmul(root(outputs, O), X), root(inputs, I))
}
