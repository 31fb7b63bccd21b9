/**
 * @file A batch's forward and backward pass, as far as attribution needs it: for every tracked layer its input ā and
 * the gradient δ of the loss at its output (docs/method.md §2). Nothing below the lowest tracked layer is in the
 * backward pass, and the output head works only on the rows that carry a loss.
 */
import type { LinearLayer, Model } from '../model/index.js'
import { sampleLabels, tape, type Ops, type Variable } from '../tensor/index.js'
import { inputWidth, isGradientTransposed } from './layers.js'
import { beginsModel, endsModel, wholeModel, type Stage } from './stages.js'

export interface LayerGradient<T> {
  readonly layer: LinearLayer
  /** ā f32 [B, T, I'], I' = I + 1 with a bias; garbage where padded. */
  readonly input: T
  /** δ f32 [B, T, O], ∂L/∂y; zero where padded. */
  readonly delta: T
  /** f32 [B, T, 1] of a layer that does not read every token: 1 where it does, 0 where ā and δ are zero. */
  readonly seen?: T
}

export interface BatchGradients<T> {
  /** L(z), nats, summed over predicted tokens: [B] */
  readonly loss: T
  /** In the order of the backward pass: last layer first. */
  readonly layers: readonly LayerGradient<T>[]
}

export interface StageGradients<T> extends Pick<BatchGradients<T>, 'layers'> {
  /** What a program gives besides its own: the `loss` [B] of the last stage, `below`, ∂L/∂entry [B, T, D], where it goes on. */
  readonly ends: Readonly<Record<string, T>>
}

export interface GradientOptions<T> {
  /** Labels from the model's own distribution. */
  readonly sampled?: boolean
  /** A factor on every δ; of a stage below the last, `cotangent` brings it. */
  readonly scale?: number
  /** Called with each layer's gradient, last layer first; what it returns is computed before the pass goes on below. */
  readonly use?: (gradient: LayerGradient<T>) => readonly T[]
}

/** G = Σ_t δ_t ā_tᵀ of every document: [B, ...gradientShape]. Gate and up share the copy of their input. */
export const documentGradient = <T>(ops: Ops<T>, layer: LinearLayer, { delta, input }: Pick<LayerGradient<T>, 'delta' | 'input'>): T => {
  const [rows, columns] = isGradientTransposed(layer) ? [input, delta] : [delta, input]
  return overTokens(ops, rows, columns)
}

/** Σ_t x_t y_tᵀ: [B, T, M] · [B, T, N] → [B, M, N] */
export const overTokens = <T>(ops: Ops<T>, x: T, y: T): T => ops.matmul(ops.transpose(x, [0, 2, 1], { copied: true }), y)

/**
 * ‖G‖² of every document: [B]. On a CPU ONNX Runtime squares and then sums in a half to a third of the time that it takes for both
 * at once, but in an order that depends on where in memory a document begins: only where all begin at a multiple of 64 bytes.
 */
export const squaredNorms = <T>(ops: Ops<T>, layer: LinearLayer, gradient: T): T =>
  (layer.outputs * inputWidth(layer)) % 16 === 0 ? ops.sum(ops.mul(gradient, gradient), { axes: [1, 2] }) : ops.sumSquares(gradient, { axes: [1, 2] })

/** What `value(name)` gives a program: the inputs of batch.ts, of a stage those of `stageInputs`. `tracked`: layers of this stage. */
export const stageGradients = <T>(
  ops: Ops<T>,
  model: Model,
  tracked: readonly LinearLayer[],
  value: (name: string) => T,
  weight: (name: string) => T,
  { sampled = false, use, scale = 1, stage = wholeModel(model) }: GradientOptions<T> & { readonly stage?: Stage } = {},
): StageGradients<T> => {
  const names = new Set(tracked.map(({ name }) => name))
  const found: (Omit<LayerGradient<T>, 'delta'> & { readonly output: Variable<T> })[] = []
  const { ops: recorded, constant, watch, gradients } = tape(ops)
  const given = beginsModel(stage) ? undefined : constant(value('entry'))
  const entry = given !== undefined && stage.goesOnBelow ? watch(given) : given
  const hidden = model.forward(recorded, (name) => constant(weight(name)), { tokens: constant(value('tokens')), entry }, (layer, x, compute, seen) => {
    const y = compute(x)
    if (!names.has(layer.name)) return y
    const output = watch(y)
    found.push({ layer, input: layer.bias ? ops.appendOne(x.value) : x.value, seen: seen?.value, output })
    return output
  }, stage) // [B, T, D]
  const gradientOf = (i: number, delta: T): LayerGradient<T> => ({ layer: found[i].layer, input: found[i].input, seen: found[i].seen, delta })
  const backward = (output: Variable<T>, seed: T): StageGradients<T> => {
    const below = stage.goesOnBelow && entry !== undefined ? [entry] : []
    const wanted = [...found.map(({ output: own }) => own), ...below]
    const deltas = gradients(output, seed, wanted, (i, delta) => (i < found.length ? (use?.(gradientOf(i, delta)) ?? []) : []))
    return {
      layers: found.map((_, i) => gradientOf(i, deltas[i])).reverse(),
      ends: below.length > 0 ? { below: deltas[found.length] } : {},
    }
  }
  if (!endsModel(stage, model)) return backward(hidden, value('cotangent'))

  const head = weight(model.head.weight)
  const flat = recorded.reshape(hidden, [-1, model.width]) // [B·T, D]
  const rows = recorded.takeRows(flat, constant(value('rows'))) // [N, D]
  const labels = sampled ? sampleLabels(ops, rows.value, head, value('uniforms'), model.head) : value('labels')
  const losses = recorded.tokenLosses(rows, constant(head), constant(labels), model.head) // [N, 1]
  const { layers, ends } = backward(losses, ops.shift(ops.zerosLike(losses.value), scale))
  const column = ops.scatterRows(losses.value, value('rows'), ops.slice(flat.value, { axis: 1, from: 0, to: 1 })) // [B·T, 1]
  const loss = ops.sum(ops.reshapeLike(column, value('tokens')), { axes: [1] }) // [B]
  return { layers, ends: { ...ends, loss } }
}

/** Of the whole model at once. */
export const batchGradients = <T>(
  ops: Ops<T>, model: Model, tracked: readonly LinearLayer[], value: (name: string) => T, weight: (name: string) => T, options: GradientOptions<T> = {},
): BatchGradients<T> => {
  const { layers, ends } = stageGradients(ops, model, tracked, value, weight, options)
  return { layers, loss: ends.loss }
}
