/** @file Weights from their files as float32: what is stored in 16 bits is widened without loss, float64 is rounded. */
import { closeSync, openSync, readSync } from 'node:fs'
import type { StoredTensor } from '../../engine.js'
import { widened } from '../narrow.js'

/** One read call brings at most this; Node refuses 2 GiB and more. */
const readBytesMax = 1 << 28

export const floatTypes = ['F32', 'F16', 'BF16', 'F64'] as const
export type FloatType = (typeof floatTypes)[number]

/** @throws Error naming the file, if it ends too early */
export const readWeight = ({ name, dtype, path, offset, length }: StoredTensor): Float32Array => {
  const bytes = new Uint8Array(length)
  const file = openSync(path, 'r')
  try {
    for (let at = 0; at < length; ) {
      const read = readSync(file, bytes, at, Math.min(readBytesMax, length - at), offset + at)
      if (read === 0) throw new Error(`"${path}" ends within weight "${name}"`)
      at += read
    }
  } finally {
    closeSync(file)
  }
  return widen[dtype as FloatType](bytes.buffer)
}

const widen: Readonly<Record<FloatType, (buffer: ArrayBuffer) => Float32Array>> = {
  F32: (buffer) => new Float32Array(buffer),
  F64: (buffer) => Float32Array.from(new Float64Array(buffer)),
  BF16: (buffer) => widened(new Uint16Array(buffer), 'bfloat16'),
  F16: (buffer) => widened(new Uint16Array(buffer), 'float16'),
}
