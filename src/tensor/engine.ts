/**
 * @file What an engine is: it compiles a description of a computation over `Ops<T>` into a program and runs it off
 * the main thread.
 */
import type { Ops } from './ops.js'

/** A tensor on its way in or out of a program: row-major data and its shape. */
export type TensorData =
  | { readonly type: 'float32'; readonly shape: readonly number[]; readonly data: Float32Array }
  | { readonly type: 'int64'; readonly shape: readonly number[]; readonly data: BigInt64Array }

/** A weight that lies in a file: `length` bytes at `offset`, row-major, little-endian. */
export interface StoredTensor {
  readonly name: string
  /** Floats of 2, 4 or 8 bytes; others are refused when a program is compiled. */
  readonly dtype: string
  readonly shape: readonly number[]
  readonly path: string
  readonly offset: number
  readonly length: number
}

export interface InputSpec {
  readonly type: 'float32' | 'int64'
  /** Known lengths, or names (`B`, `T`) of lengths known when the program runs. */
  readonly shape: readonly (number | string)[]
  /** Bound once, before the first run, and of known lengths: an engine on a GPU keeps it there. */
  readonly fixed?: boolean
  /** Read by products alone: where it is fixed, it is kept in the width of the program's products. */
  readonly operand?: boolean
}

/**
 * The width of what matrix products take and give. They add up in float32 where the device does; norms, softmax, losses and
 * sums are float32 in every one.
 */
export type Precision = 'f32' | 'f16' | 'bf16'

export interface ProgramSpec {
  /** Said in errors and debug output. */
  readonly name: string
  /** Given with a run, or bound to the program beforehand. */
  readonly inputs: Readonly<Record<string, InputSpec>>
  readonly weights: ReadonlyMap<string, StoredTensor>
  /** Tokens of the longest sequence, where known: how finely causal attention is worth being cut depends on it. */
  readonly tokensMax?: number
  /** Default: f32. Engines that have no other refuse it. */
  readonly precision?: Precision
  /** The program is soon let go of again: a weight that can be read where it lies is not copied into an order that is faster to multiply. */
  readonly weightsInPlace?: boolean
  /** The computation. Called with whatever handles the engine uses while it traces, and before that with shapes alone (shapes.ts). */
  readonly build: <T>(ops: Ops<T>, value: (name: string) => T, weight: (name: string) => T) => Readonly<Record<string, T>>
  /** Outputs that are summed over all runs in float64 instead of being returned, with their shapes. */
  readonly accumulate?: Readonly<Record<string, readonly number[]>>
}

/** A run whose terms of a sum are not all finite numbers: nothing of it was added, the sums are as they were. */
export class NotFiniteError extends Error {
  override readonly name = 'NotFiniteError'
}

export interface Program extends AsyncDisposable {
  /** Keeps inputs for all later runs: query caches, eigenbases. Their buffers move to the engine. */
  bind(inputs: Readonly<Record<string, TensorData>>): Promise<void>
  /**
   * One run with all inputs that are not bound; their buffers move to the engine. Rejects with the engine's message
   * and the program's name; with a NotFiniteError rather than add NaN or infinity to a sum.
   */
  run(inputs: Readonly<Record<string, TensorData>>): Promise<Readonly<Record<string, TensorData>>>
  /** The sums so far, float64, shared with the engine: read or set them only between runs. */
  readonly sums: Record<string, Float64Array>
  /** Nodes of the compiled graph, for debug output. */
  readonly nodes: number
}

export interface Engine extends AsyncDisposable {
  readonly name: string
  readonly threads: number
  /** Of the libraries that compute, by package, for the record of a run. */
  readonly versions: Readonly<Record<string, string>>
  compile(spec: ProgramSpec): Promise<Program>
}
