/**
 * @file Sums of products of f32 numbers without any rounding: what was added decides the sum, never the order, the
 * batches or how parts were merged. (A superaccumulator after Kulisch, on a fixed grid of f64 limbs.)
 *
 *     exponent   -300      -260      -220       ...       220       260       300
 *     limb          |   0     |    1    |    2    | ... |    13   |    14   |
 *
 * Limb l holds a multiple of its grid 2^(40 l - 300). A product of two f32 is exact in f64 and lies in
 * [2^-298, 2^256): no product is lost and none is too big. It is cut at the grids from above by
 * c = (v + C) - C, C = 1.5 * 2^(52 + grid), which rounds v to the grid without error (|v| < 2^(51 + grid)); the rest
 * v - c is exact and goes on to the next limb. A cut is at most 2^40 grids, so `addsMax` of them stay below 2^53 grids,
 * where f64 sums of integers are exact; then carries are moved up.
 *
 * After carrying, every limb is in [-2^39, 2^39) grids: balanced digits, one way to write each number, hence one
 * sequence of bytes: `[low limb << 4 | limbs]`, then 5 bytes a limb, two's complement, least first; a zero is the byte 0.
 * The sum's magnitude must stay below 2^299 (2^43 products of the greatest f32): RangeError beyond.
 *
 * The plain version and oracle is `exactProduct`, by BigInt. `addDot` keeps the limbs of a sum in registers over a chunk
 * of documents: 4 ns a product at Q = 100, 10 ns at Q = 10 with the rest of a document's cost (bench/table.ts, one
 * thread of a busy 2-core machine, Node 20).
 */

const limbBits = 40
const limbsMax = 15
/** The exponent of the lowest grid: every sum is an integer times 2^gridMin. */
export const gridMin = -300
/** How many products a limb takes between two carries: 2^39 + 2^12 * 2^40 < 2^53. */
const addsMax = 4096

const gridOf = (limb: number): number => 2 ** (limbBits * limb + gridMin)
/** (v + cutters[l]) - cutters[l] is v rounded to the grid of limb l. */
const cutters = Float64Array.from({ length: limbsMax }, (_, limb) => 1.5 * 2 ** 52 * gridOf(limb))
const limbOf = (exponent: number): number => Math.floor((exponent - gridMin) / limbBits)

/** What is known of some f32 numbers: all are below 2^top in magnitude and multiples of 2^low. */
export interface Range {
  readonly top: number
  readonly low: number
}

/** The range of some finite f32 values, `undefined` if all are zero. */
export const rangeOf = (values: Float64Array, from: number, to: number): Range | undefined => {
  let max = 0
  let min = Infinity
  for (let at = from; at < to; at++) {
    const size = Math.abs(values[at])
    if (size > max) max = size
    if (size < min && size !== 0) min = size
  }
  if (max === 0) return undefined
  // f32: 24 bits of significand, the lowest never below 2^-149.
  return { top: exponentOf(max) + 1, low: Math.max(exponentOf(min) - 23, -149) }
}

const bits = new Uint32Array(2)
const bitsAsFloat = new Float64Array(bits.buffer)
const highWord = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0
/** ⌊log2 x⌋ of a positive normal f64 (every f32 is one). */
const exponentOf = (x: number): number => {
  bitsAsFloat[0] = x
  return (bits[highWord] >>> 20) - 1023
}

/** `size` exact sums, all zero at first. */
export class ExactSums {
  readonly size: number
  /** The limbs [low, low + width) that any sum has touched; limbs f64 [size, width]. */
  #low = 0
  #width = 0
  #limbs = new Float64Array(0)
  /** Products added to each sum since its carries were moved. */
  readonly #adds: Uint16Array

  constructor(size: number) {
    this.size = size
    this.#adds = new Uint16Array(size)
  }

  /**
   * sum[at] += Σ_b values[x + b] · values[y + b], b < count.
   * @param values f64, each of them an f32 within the ranges given
   * @param count  at most 1024
   */
  addDot(at: number, values: Float64Array, x: number, y: number, count: number, rangeX: Range, rangeY: Range): void {
    const low = limbOf(rangeX.low + rangeY.low)
    const top = limbOf(rangeX.top + rangeY.top - 1)
    if (low < this.#low || top + 1 >= this.#low + this.#width) this.#reserve(low, top + 1)
    if (this.#adds[at] + count > addsMax) this.#carry(at)
    this.#adds[at] += count
    const base = at * this.#width - this.#low
    if (top - low <= 1) addDot2(this.#limbs, base + low, low, values, x, y, count)
    else if (top - low === 2) addDot3(this.#limbs, base + low, low, values, x, y, count)
    else addDotAny(this.#limbs, base, top, values, x, y, count)
  }

  /** sum[at] += other.sum[at], for every `at`. */
  merge(other: ExactSums): void {
    if (other.size !== this.size) throw new Error(`${other.size} sums cannot be merged into ${this.size}`)
    if (other.#width === 0) return
    for (let at = 0; at < other.size; at++) other.#carry(at)
    this.#reserve(other.#low, other.#low + other.#width - 1)
    for (let at = 0; at < this.size; at++) {
      this.#carry(at)
      for (let limb = 0; limb < other.#width; limb++)
        this.#limbs[at * this.#width + other.#low - this.#low + limb] += other.#limbs[at * other.#width + limb]
      this.#adds[at] = 1
      this.#carry(at)
    }
  }

  /** The sum divided by 2^gridMin: an integer. */
  integer(at: number): bigint {
    this.#carry(at)
    let integer = 0n
    for (let limb = this.#width - 1; limb >= 0; limb--)
      integer = integer * 2n ** BigInt(limbBits) + BigInt(this.#digit(at, limb))
    return integer * 2n ** BigInt(limbBits * this.#low)
  }

  /** The sum, correctly rounded to f64. */
  value(at: number): number {
    return Number(this.integer(at)) * 2 ** gridMin // Number(bigint) rounds to nearest, ties to even
  }

  /** The bytes of sums [from, to): equal for equal sums, whatever made them. */
  serialize(from: number, to: number): Uint8Array {
    const bytes = new Uint8Array((to - from) * (1 + 5 * limbsMax))
    let end = 0
    for (let at = from; at < to; at++) {
      this.#carry(at)
      let first = 0
      while (first < this.#width && this.#digit(at, first) === 0) first++
      let last = this.#width
      while (last > first && this.#digit(at, last - 1) === 0) last--
      bytes[end++] = last === first ? 0 : ((this.#low + first) << 4) | (last - first)
      for (let limb = first; limb < last; limb++) {
        const digit = this.#digit(at, limb)
        const low = digit % 2 ** 32 >>> 0
        const high = Math.floor(digit / 2 ** 32) & 0xff
        bytes[end++] = low & 0xff
        bytes[end++] = (low >>> 8) & 0xff
        bytes[end++] = (low >>> 16) & 0xff
        bytes[end++] = low >>> 24
        bytes[end++] = high
      }
    }
    return bytes.slice(0, end)
  }

  /** Adds the sums of `serialize` to [from, to). Error if the bytes are not theirs. */
  mergeBytes(from: number, to: number, bytes: Uint8Array): void {
    let next = 0
    for (let at = from; at < to; at++) {
      const [low, limbs] = [bytes[next] >> 4, bytes[next] & 0xf]
      const isWhole = next < bytes.length && next + 1 + 5 * limbs <= bytes.length && low + limbs <= limbsMax
      if (!isWhole) throw new Error(`the bytes of an exact sum are damaged at ${next} of ${bytes.length}`)
      next++
      if (limbs === 0) continue
      this.#reserve(low, low + limbs - 1)
      this.#carry(at)
      for (let limb = low; limb < low + limbs; limb++, next += 5) {
        const lowWord = (bytes[next] | (bytes[next + 1] << 8) | (bytes[next + 2] << 16) | (bytes[next + 3] << 24)) >>> 0
        const digit = lowWord + ((bytes[next + 4] << 24) >> 24) * 2 ** 32
        this.#limbs[at * this.#width + limb - this.#low] += digit * gridOf(limb)
      }
      this.#adds[at] = 1
      this.#carry(at)
    }
    if (next !== bytes.length) throw new Error(`${bytes.length} bytes of exact sums where ${next} were expected`)
  }

  /** A limb in units of its grid. `limb` counts from the lowest one that is kept. */
  #digit(at: number, limb: number): number {
    return this.#limbs[at * this.#width + limb] / gridOf(this.#low + limb)
  }

  /** Widens the kept limbs to take in [low, high]. */
  #reserve(low: number, high: number): void {
    const isEmpty = this.#width === 0
    const newLow = isEmpty ? low : Math.min(low, this.#low)
    const newWidth = (isEmpty ? high : Math.max(high, this.#low + this.#width - 1)) - newLow + 1
    if (newLow === this.#low && newWidth === this.#width) return
    const limbs = new Float64Array(this.size * newWidth)
    for (let at = 0; at < this.size && !isEmpty; at++)
      limbs.set(this.#limbs.subarray(at * this.#width, (at + 1) * this.#width), at * newWidth + this.#low - newLow)
    this.#limbs = limbs
    this.#low = newLow
    this.#width = newWidth
  }

  /** Brings every limb of a sum into [-2^39, 2^39) grids. */
  #carry(at: number): void {
    if (this.#adds[at] === 0) return
    for (let limb = 0; limb < this.#width; limb++) {
      const digit = this.#digit(at, limb)
      const carried = Math.floor(digit / 2 ** limbBits + 0.5) // ties upward, so that there is one result
      if (carried === 0) continue
      const high = this.#low + limb + 1
      if (high >= limbsMax) throw new RangeError('an exact sum has reached 2^299')
      if (limb + 1 === this.#width) this.#reserve(this.#low, high)
      this.#limbs[at * this.#width + limb] -= carried * gridOf(high)
      this.#limbs[at * this.#width + limb + 1] += carried * gridOf(high)
    }
    this.#adds[at] = 0
  }
}

/** Products whose bits all lie in limbs [low, low + 1]; `at` is the place of the lower one. */
const addDot2 = (
  limbs: Float64Array, at: number, low: number, values: Float64Array, x: number, y: number, count: number,
): void => {
  const cutter = cutters[low + 1]
  let sum0 = limbs[at]
  let sum1 = limbs[at + 1]
  for (let b = 0; b < count; b++) {
    const v = values[x + b] * values[y + b]
    const cut = v + cutter - cutter
    sum1 += cut
    sum0 += v - cut
  }
  limbs[at] = sum0
  limbs[at + 1] = sum1
}

/** Products whose bits all lie in limbs [low, low + 2]. */
const addDot3 = (
  limbs: Float64Array, at: number, low: number, values: Float64Array, x: number, y: number, count: number,
): void => {
  const cutter1 = cutters[low + 1]
  const cutter2 = cutters[low + 2]
  let sum0 = limbs[at]
  let sum1 = limbs[at + 1]
  let sum2 = limbs[at + 2]
  for (let b = 0; b < count; b++) {
    const v = values[x + b] * values[y + b]
    const cut2 = v + cutter2 - cutter2
    const rest = v - cut2
    const cut1 = rest + cutter1 - cutter1
    sum2 += cut2
    sum1 += cut1
    sum0 += rest - cut1
  }
  limbs[at] = sum0
  limbs[at + 1] = sum1
  limbs[at + 2] = sum2
}

/** Products of any spread, below the end of limb `top`; limb l stands at base + l. */
const addDotAny = (
  limbs: Float64Array, base: number, top: number, values: Float64Array, x: number, y: number, count: number,
): void => {
  for (let b = 0; b < count; b++) {
    let v = values[x + b] * values[y + b]
    for (let limb = top; v !== 0; limb--) {
      const cut = v + cutters[limb] - cutters[limb]
      limbs[base + limb] += cut
      v -= cut
    }
  }
}

/** x · y / 2^gridMin for two finite f32, by integers: the plain version. */
export const exactProduct = (x: number, y: number): bigint => exactF32(x) * exactF32(y) * 2n ** BigInt(-gridMin - 298)

/** x / 2^-149: an integer for every finite f32. */
const exactF32 = (x: number): bigint => BigInt(x * 2 ** 149)
