/**
 * @file The first fitting pass (docs/method.md §3.1): sums of ā āᵀ and δ̂ δ̂ᵀ over all real tokens, the last one
 * included. Covariances are symmetric, so only block rows from the diagonal on are computed: with n blocks
 * (n + 1)/2n of the products. Layers that share an input share its sum. An expert's layers are counted for themselves:
 * their means are over the tokens that were routed to them, as if the others were not there.
 */
import type { LinearLayer, Model } from '../model/index.js'
import type { Ops, ProgramSpec, StoredTensor } from '../tensor/index.js'
import { fitInputs, realInputs } from './batch.js'
import { stageGradients, type LayerGradient } from './gradients.js'
import { inputName, inputWidth } from './layers.js'
import { stageInputs, type Stage } from './stages.js'

/** The covariances of a set of layers: one A for each distinct input, one S for each layer. */
export interface CovarianceShape {
  /** `A/<input>` or `S/<layer>` */
  readonly name: string
  readonly width: number
  /** The sum that counts its tokens, `N/<input>`, if these are not all tokens. */
  readonly count?: string
}

export const covarianceShapes = (tracked: readonly LinearLayer[]): readonly CovarianceShape[] => [
  ...new Map(tracked.map((layer) => [inputName(layer), { name: `A/${inputName(layer)}`, width: inputWidth(layer), ...countOf(layer) }])).values(),
  ...tracked.map((layer) => ({ name: `S/${layer.name}`, width: layer.outputs, ...countOf(layer) })),
]

const countOf = (layer: LinearLayer): { readonly count?: string } => (layer.routed === true ? { count: `N/${inputName(layer)}` } : {})

const blockRows = (width: number): number => (width >= 256 ? 4 : 1)
const bound = (width: number, i: number): number => Math.floor((width * i) / blockRows(width))

/** Sums Σ_t over real tokens, in block rows, as the program's float64 accumulators. */
export const covarianceProgram = (
  model: Model, weights: ReadonlyMap<string, StoredTensor>, tracked: readonly LinearLayer[],
  { empirical, context, stage }: { readonly empirical: boolean; readonly context?: number; readonly stage?: Stage },
): ProgramSpec => ({
  name: 'covariances',
  inputs: { ...stageInputs(model, fitInputs(empirical), stage), ...realInputs },
  weights,
  tokensMax: context,
  accumulate: Object.fromEntries(
    covarianceShapes(tracked).flatMap(({ name, width, count }): [string, number[]][] => [
      ...Array.from({ length: blockRows(width) }, (_, i): [string, number[]] => [`${name}/${i}`, [bound(width, i + 1) - bound(width, i), width - bound(width, i)]]),
      ...(count === undefined ? [] : [[count, [1]] satisfies [string, number[]]]),
    ]),
  ),
  build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => {
    const outputs: Record<string, T> = {}
    const add = (name: string, x: T, width: number): readonly T[] => {
      const rows = ops.takeRows(ops.reshape(x, [-1, width]), value('real')) // [M, width]
      // Turned once, so that blocks are whole rows: of 2,048 tokens that takes 0.82 to 0.88 of the time of blocks of columns.
      const columns = ops.transpose(rows, [1, 0], { copied: true }) // [width, M]
      const from = (i: number, to: number): T => (i === 0 && to === width ? columns : ops.slice(columns, { axis: 0, from: bound(width, i), to }))
      return Array.from({ length: blockRows(width) }, (_, i) =>
        (outputs[`${name}/${i}`] = ops.matmul(from(i, bound(width, i + 1)), from(i, width), { transB: true })))
    }
    const use = ({ layer, input, delta, seen }: LayerGradient<T>): readonly T[] => {
      const { count } = countOf(layer)
      if (count !== undefined) {
        if (seen === undefined) throw new RangeError(`layer ${layer.name} does not say which tokens it reads`)
        outputs[count] = ops.sum(ops.takeRows(ops.reshape(seen, [-1, 1]), value('real')), { axes: [0] })
      }
      return [...add(`A/${inputName(layer)}`, input, inputWidth(layer)), ...add(`S/${layer.name}`, delta, layer.outputs)]
    }
    const { ends } = stageGradients(ops, model, tracked, value, weight, { sampled: !empirical, use, stage })
    return { ...outputs, ...ends }
  },
})

/** One covariance from the program's sums: the symmetric mean over `tokens`, or over those its layer read, f64 [width, width]. */
export const covarianceOf = (sums: Readonly<Record<string, Float64Array>>, { name, width, count }: CovarianceShape, all: number): Float64Array => {
  const tokens = count === undefined ? all : Math.max(sums[count][0], 1) // an expert that no token came to: zero
  const whole = new Float64Array(width * width)
  for (let i = 0; i < blockRows(width); i++) {
    const from = bound(width, i)
    const rows = bound(width, i + 1) - from
    const columns = width - from
    const part = sums[`${name}/${i}`]
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        const value = part[r * columns + c] / tokens
        // Inside a diagonal block both triangles were summed: their mean is exactly symmetric.
        const mean = c < rows ? (value + part[c * columns + r] / tokens) / 2 : value
        whole[(from + r) * width + from + c] = mean
        whole[(from + c) * width + from + r] = mean
      }
    }
  }
  return whole
}
