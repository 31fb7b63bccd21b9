/** @file Tensors for tests: random ones from a seed, comparison, one engine run beside the plain one. */
import assert from 'node:assert/strict'
import { normals, uniforms } from '../../src/base/index.js'
import { composites } from '../../src/tensor/composites.js'
import { plainOps, plainTensor, type PlainTensor } from '../../src/tensor/engines/plain.js'
import type { Ops } from '../../src/tensor/index.js'

export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, length) => size * length, 1)

/** Standard normal numbers. */
export const randomTensor = (shape: readonly number[], seed: number): PlainTensor => plainTensor(Array.from({ length: sizeOf(shape) }, normals(seed)), shape)

/** Whole numbers from a seed: `below(n)` is one of 0 .. n − 1. */
export const dice = (seed: number): ((n: number) => number) => {
  const next = uniforms(seed)
  return (n) => Math.floor(next() * n)
}

/** The plain engine with attention and the head cut into row blocks. */
export const blockedOps = (blocks: { readonly attention: number; readonly head: number }): Ops<PlainTensor> => {
  const primitives = { ...plainOps(), blocks }
  return { ...primitives, ...composites(primitives) }
}

/** Every operation of an engine, by name. */
export const operationNames = (): readonly string[] => Object.keys(plainOps()).filter((name) => name !== 'blocks')

/** `ops` with a look at every call: its name, its arguments and its result. */
export const observed = <T>(ops: Ops<T>, look: (name: string, args: readonly unknown[], result: T) => void): Ops<T> =>
  Object.fromEntries(
    Object.entries(ops).map(([name, operation]) => [
      name,
      typeof operation !== 'function'
        ? operation
        : (...args: readonly unknown[]): T => {
            const result = (operation as (...args: readonly unknown[]) => T)(...args)
            look(name, args, result)
            return result
          },
    ]),
  ) as unknown as Ops<T>

/** ‖found − wanted‖ / ‖wanted‖; infinite where a number is none. */
export const relativeError = (found: ArrayLike<number>, wanted: ArrayLike<number>): number => {
  assert.equal(found.length, wanted.length)
  let difference = 0
  let size = 0
  for (let i = 0; i < wanted.length; i++) {
    if (!Number.isFinite(found[i])) return Infinity
    difference += (found[i] - wanted[i]) ** 2
    size += wanted[i] ** 2
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size)
}

export const assertNear = (found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number, what: string): void => {
  const error = relativeError(found, wanted)
  assert.ok(error <= tolerance, `${what}: relative error ${error.toExponential(1)}, ${tolerance} allowed`)
}
