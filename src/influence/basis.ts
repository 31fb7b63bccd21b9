/** @file Eigenbases of the Kronecker factors, whole or block-diagonal, and rotating into and out of them. */
import type { InputSpec, Ops, TensorData } from '../tensor/index.js'

/** An orthonormal basis of R^width, block-diagonal with one or more blocks, and the factor's eigenvalues. */
export interface Basis {
  readonly width: number
  /** Block b covers [from, from + size); vectors f32 [size, size], column j the eigenvector of value from + j. */
  readonly blocks: readonly { readonly from: number; readonly size: number; readonly vectors: Float32Array }[]
  /** f64 [width], the spectrum in the blocks' order, never negative. */
  readonly values: Float64Array
}

/** Where the blocks of a width begin and end: ⌊width·b/count⌋. */
export const blockBounds = (width: number, count: number): readonly { readonly from: number; readonly size: number }[] =>
  Array.from({ length: Math.min(count, width) }, (_, b, n = Math.min(count, width)) => {
    const from = Math.floor((width * b) / n)
    return { from, size: Math.floor((width * (b + 1)) / n) - from }
  })

/** A basis as inputs of a program, named `name.0`, `name.1`, ...; and its tensors. */
export const basisInputs = (name: string, basis: Basis, { fixed = false } = {}): Readonly<Record<string, InputSpec>> =>
  Object.fromEntries(basis.blocks.map(({ size }, b) => [`${name}.${b}`, { type: 'float32', shape: [size, size], fixed }]))

export const basisTensors = (name: string, basis: Basis): Readonly<Record<string, TensorData>> =>
  Object.fromEntries(
    basis.blocks.map(({ size, vectors }, b) => [`${name}.${b}`, { type: 'float32', shape: [size, size], data: vectors.slice() }]),
  )

/** x Q over the last axis: [.., width] → [.., width]; `back`: x Qᵀ, out of the basis. */
export const rotate = <T>(ops: Ops<T>, x: T, basis: Basis, block: (b: number) => T, { back = false } = {}): T =>
  basis.blocks.length === 1
    ? ops.matmul(x, block(0), { transB: back })
    : ops.concat(
        basis.blocks.map(({ from, size }, b) => ops.matmul(ops.slice(x, { axis: -1, from, to: from + size }), block(b), { transB: back })),
        -1,
      )
