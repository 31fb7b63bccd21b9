/**
 * @file `Ops<Handle>` that computes nothing and writes down what is asked for: a list of steps that survives the way to
 * another thread, where TensorFlow.js takes them one by one (worker.ts). Equal steps are recorded once; what no output
 * needs is left out; each step says which tensors nobody needs after it, so that memory is held no longer than need be.
 */
import { attentionBlocksFor } from '../../attention.js'
import { composites } from '../../composites.js'
import type { ProgramSpec, StoredTensor } from '../../engine.js'
import type { Ops, Primitives } from '../../ops.js'
import { missing } from '../threaded.js'

/** A tensor of the program, by its number. */
export interface Handle {
  readonly tensor: number
}

export type Operation = Exclude<keyof Primitives<never>, 'blocks' | 'constant' | 'after'>

export interface Step {
  readonly op: Operation
  /** As the operation takes them; tensors as handles. */
  readonly args: readonly unknown[]
  readonly out: number
  /** Tensors to let go of after this step. */
  readonly last: readonly number[]
}

export interface Recording {
  readonly inputs: Readonly<Record<string, number>>
  readonly weights: readonly (readonly [tensor: number, weight: StoredTensor])[]
  readonly constants: readonly { readonly tensor: number; readonly kind: 'float' | 'int'; readonly values: readonly number[]; readonly shape: readonly number[] }[]
  readonly steps: readonly Step[]
  readonly outputs: Readonly<Record<string, number>>
}

export interface RecordOptions {
  /** Row blocks of causal attention. */
  readonly attentionBlocks?: number
  /** Row blocks of the output head; more hold fewer logits at a time. */
  readonly headBlocks?: number
}

type Made = Omit<Step, 'last'>

/** One for each operation, so that an operation that is not recorded does not compile. */
const operations: Readonly<Record<Operation, true>> = {
  add: true, sub: true, mul: true, div: true, scale: true, shift: true, exp: true, tanh: true, sigmoid: true, erf: true, rsqrt: true, matmul: true,
  sum: true, sumSquares: true, meanLast: true, softmax: true, logSumExp: true, reshape: true, reshapeLike: true, transpose: true, part: true,
  slice: true, concat: true, cutLike: true, zerosLike: true, appendOne: true, gather: true, scatterRows: true, causalBias: true, positions: true,
  sampleRows: true, topMask: true,
}

export const record = (spec: ProgramSpec, { attentionBlocks = attentionBlocksFor(spec.tokensMax), headBlocks = 4 }: RecordOptions): Recording => {
  let tensors = 0
  const known = new Map<string, Handle>()
  const once = (key: string, make: (tensor: number) => void): Handle => {
    const found = known.get(key)
    if (found !== undefined) return found
    const handle = { tensor: tensors++ }
    known.set(key, handle)
    make(handle.tensor)
    return handle
  }

  const steps: Made[] = []
  const constants: Recording['constants'][number][] = []
  const weights: Recording['weights'][number][] = []
  const recorded = (op: Operation) => (...args: readonly unknown[]): Handle =>
    once(JSON.stringify([op, args], (_key, value: unknown) => (typeof value === 'number' ? String(value) : value)), (out) => steps.push({ op, args, out }))
  const primitives = {
    ...Object.fromEntries(Object.keys(operations).map((op) => [op, recorded(op as Operation)])),
    blocks: { attention: attentionBlocks, head: headBlocks },
    constant: (values: ArrayLike<number>, shape: readonly number[], kind: 'float' | 'int' = 'float') => {
      const listed = Array.from(values)
      return once(JSON.stringify(['constant', kind, shape, listed.map(String)]), (tensor) => constants.push({ tensor, kind, values: listed, shape }))
    },
    // Steps are taken in the order in which they are recorded, and whoever reads x after this is recorded later anyway.
    after: (x: Handle) => x,
  } as unknown as Primitives<Handle>
  const ops: Ops<Handle> = { ...primitives, ...composites(primitives) }

  const inputs = Object.fromEntries(Object.keys(spec.inputs).map((name) => [name, tensors++]))
  const built = spec.build<Handle>(
    ops,
    (name) => ({ tensor: inputs[name] ?? missing(`${spec.name} has no input "${name}"`) }),
    (name) => once(`weight ${name}`, (tensor) => weights.push([tensor, spec.weights.get(name) ?? missing(`${spec.name} has no weight "${name}"`)])),
  )
  const outputs = Object.fromEntries(Object.entries(built).map(([name, { tensor }]) => [name, tensor]))
  return { inputs, weights, constants, outputs, steps: withLastUses(steps, Object.values(outputs)) }
}

/** The tensors that a step reads. */
const read = ({ args }: Made): readonly number[] => args.flatMap((arg) => (Array.isArray(arg) ? arg.filter(isHandle).map(({ tensor }) => tensor) : isHandle(arg) ? [arg.tensor] : []))

export const isHandle = (arg: unknown): arg is Handle => typeof arg === 'object' && arg !== null && 'tensor' in arg

/** The steps that outputs need, backwards from there, each with the tensors that no later step reads. */
const withLastUses = (steps: readonly Made[], outputs: readonly number[]): readonly Step[] => {
  const made = new Set(steps.map(({ out }) => out))
  const needed = new Set(outputs)
  const kept: Step[] = []
  for (const step of steps.toReversed()) {
    if (!needed.has(step.out)) continue
    const reads = [...new Set(read(step))]
    kept.push({ ...step, last: reads.filter((tensor) => made.has(tensor) && !needed.has(tensor)) })
    for (const tensor of reads) needed.add(tensor)
  }
  return kept.reverse()
}
