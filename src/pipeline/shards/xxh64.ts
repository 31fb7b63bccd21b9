/** @file XXH64 (seed 0) over a stream, as zstd's checksum uses it. 64-bit words as two 32-bit halves, high and low. */

type Word = readonly [high: number, low: number]
const prime1: Word = [0x9e3779b1, 0x85ebca87]
const prime2: Word = [0xc2b2ae3d, 0x27d4eb4f]
const prime3: Word = [0x165667b1, 0x9e3779f9]
const prime4: Word = [0x85ebca77, 0xc2b2ae63]
const prime5: Word = [0x27d4eb2f, 0x165667c5]

/** The result of the word functions below: they return the low half and leave the high one here. */
let high = 0

const multiply = (aHigh: number, aLow: number, b: Word): number => {
  const [a0, a1, b0, b1] = [aLow & 0xffff, aLow >>> 16, b[1] & 0xffff, b[1] >>> 16]
  const low = a0 * b0
  const cross1 = a1 * b0
  const cross2 = a0 * b1
  const middle = (low >>> 16) + (cross1 & 0xffff) + (cross2 & 0xffff)
  const carried = a1 * b1 + (cross1 >>> 16) + (cross2 >>> 16) + (middle >>> 16)
  high = (carried + Math.imul(aHigh, b[1]) + Math.imul(aLow, b[0])) | 0
  return (low & 0xffff) | (middle << 16)
}
const add = (aHigh: number, aLow: number, bHigh: number, bLow: number): number => {
  const low = (aLow >>> 0) + (bLow >>> 0)
  high = (aHigh + bHigh + (low > 0xffffffff ? 1 : 0)) | 0
  return low | 0
}
const rotate = (aHigh: number, aLow: number, by: number): number => {
  const [h, l] = by < 32 ? [aHigh, aLow] : [aLow, aHigh]
  const bits = by & 31
  high = (h << bits) | (l >>> (32 - bits))
  return (l << bits) | (h >>> (32 - bits))
}

/** rotate(acc + input · prime2, 31) · prime1 */
const round = (accHigh: number, accLow: number, inputHigh: number, inputLow: number): number => {
  let low = multiply(inputHigh, inputLow, prime2)
  low = add(accHigh, accLow, high, low)
  low = rotate(high, low, 31)
  return multiply(high, low, prime1)
}

export class Xxh64 {
  /** The four lanes, high and low. */
  readonly #lanes = new Int32Array(8)
  readonly #rest = new Uint8Array(32)
  #restBytes = 0
  #bytes = 0

  constructor() {
    const lanes = this.#lanes
    lanes[1] = add(prime1[0], prime1[1], prime2[0], prime2[1])
    lanes[0] = high
    lanes.set(prime2, 2)
    lanes[7] = add(0, 0, ~prime1[0], -prime1[1]) // −prime1; its low half is not 0
    lanes[6] = high
  }

  update(data: Uint8Array): void {
    this.#bytes += data.length
    let at = 0
    if (this.#restBytes > 0) {
      at = Math.min(32 - this.#restBytes, data.length)
      this.#rest.set(data.subarray(0, at), this.#restBytes)
      this.#restBytes += at
      if (this.#restBytes < 32) return
      this.#stripes(this.#rest, 0, 32)
    }
    const end = data.length - ((data.length - at) % 32)
    this.#stripes(data, at, end)
    this.#rest.set(data.subarray(end))
    this.#restBytes = data.length - end
  }

  /** The low 32 bits of the hash of all that came. */
  low32(): number {
    const lanes = this.#lanes
    let [h, l]: Word = prime5
    if (this.#bytes >= 32) {
      h = l = 0
      for (const [lane, by] of [1, 7, 12, 18].entries()) {
        const rotated = rotate(lanes[2 * lane], lanes[2 * lane + 1], by)
        l = add(h, l, high, rotated)
        h = high
      }
      for (let lane = 0; lane < 4; lane++) {
        const mixed = round(0, 0, lanes[2 * lane], lanes[2 * lane + 1])
        l = multiply(h ^ high, l ^ mixed, prime1)
        l = add(high, l, prime4[0], prime4[1])
        h = high
      }
    }
    l = add(h, l, Math.floor(this.#bytes / 2 ** 32), this.#bytes | 0)
    h = high
    const view = new DataView(this.#rest.buffer)
    let at = 0
    for (; at + 8 <= this.#restBytes; at += 8) {
      const mixed = round(0, 0, view.getInt32(at + 4, true), view.getInt32(at, true))
      l = rotate(h ^ high, l ^ mixed, 27)
      l = multiply(high, l, prime1)
      l = add(high, l, prime4[0], prime4[1])
      h = high
    }
    if (at + 4 <= this.#restBytes) {
      const mixed = multiply(0, view.getInt32(at, true), prime1)
      l = rotate(h ^ high, l ^ mixed, 23)
      l = multiply(high, l, prime2)
      l = add(high, l, prime3[0], prime3[1])
      h = high
      at += 4
    }
    for (; at < this.#restBytes; at++) {
      const mixed = multiply(0, this.#rest[at], prime5)
      l = rotate(h ^ high, l ^ mixed, 11)
      l = multiply(high, l, prime1)
      h = high
    }
    l ^= h >>> 1 // h ^= h >>> 33
    l = multiply(h, l, prime2)
    h = high
    l ^= (h << 3) | (l >>> 29) // h ^= h >>> 29, its low half first
    h = high ^ (high >>> 29)
    l = multiply(h, l, prime3)
    h = high
    return (l ^ h) >>> 0 // h ^= h >>> 32
  }

  #stripes(data: Uint8Array, from: number, to: number): void {
    const lanes = this.#lanes
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
    for (let at = from; at < to; at += 32)
      for (let lane = 0; lane < 8; lane += 2) {
        const input = at + 4 * lane
        lanes[lane + 1] = round(lanes[lane], lanes[lane + 1], view.getInt32(input + 4, true), view.getInt32(input, true))
        lanes[lane] = high
      }
  }
}
