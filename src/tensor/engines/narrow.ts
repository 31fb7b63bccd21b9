/** @file Floats of 16 bits: to them, to nearest and of two equally near ones the even, and from them, without loss. */
import type { Precision } from '../engine.js'

/** IEEE 754 binary16 (a sign, 5 bits of exponent, 10 of fraction), and the upper half of binary32. */
export type NarrowType = 'float16' | 'bfloat16'

/** The type that products of a precision take; none: float32. */
export const narrowTypes: Readonly<Record<Precision, NarrowType | undefined>> = { f32: undefined, f16: 'float16', bf16: 'bfloat16' }

const bitsOf = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length)

/** As 16 bits; what is too large for float16 becomes infinite. */
export const narrowed = (values: Float32Array, type: NarrowType): Uint16Array => {
  const bits = bitsOf(values)
  const out = new Uint16Array(bits.length)
  const narrow = type === 'float16' ? halfBits : brainBits
  for (let i = 0; i < bits.length; i++) out[i] = narrow(bits[i])
  return out
}

/** The nearest numbers of that type, as float32. */
export const rounded = (values: Float32Array, type: NarrowType): Float32Array => widened(narrowed(values, type), type)

export const widened = (narrow: Uint16Array, type: NarrowType): Float32Array => {
  const out = new Float32Array(narrow.length)
  if (type === 'bfloat16') {
    const bits = bitsOf(out)
    for (let i = 0; i < narrow.length; i++) bits[i] = narrow[i] << 16
  } else for (let i = 0; i < narrow.length; i++) out[i] = halfToFloat(narrow[i])
  return out
}

const brainBits = (bits: number): number => {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40 // NaN stays one
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

const halfBits = (bits: number): number => {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00 // 65520 and more
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
  // Below 2⁻¹⁴: multiples of 2⁻²⁴. The fraction, with its leading one, moves right; what falls out decides the rounding.
  const shift = 126 - (magnitude >>> 23)
  if (shift > 24) return sign
  const fraction = (magnitude & 0x7fffff) | 0x800000
  const kept = fraction >>> shift
  const rest = fraction & ((1 << shift) - 1)
  const half = 1 << (shift - 1)
  return sign | (kept + Number(rest > half || (rest === half && (kept & 1) === 1)))
}

const halfToFloat = (bits: number): number => {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}
