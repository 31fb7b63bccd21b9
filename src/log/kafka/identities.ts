/**
 * @file Which records were appended, by 128 bits of SHA-256 over topic and key: a set that is filled from the topic
 * `identities` once per process. At 10⁹ records the chance that any two share a digest is 10⁻²¹. Memory: 21 to 43
 * bytes a record.
 */
import { createHash } from 'node:crypto'

const DIGEST_BYTES = 16
const CAPACITY_FIRST = 1 << 12
const LOAD_MAX = 0.75

/** A record's digest as the key of its identity: text, 22 characters of base64url. */
export const identityOf = (topic: string, key: string): string =>
  createHash('sha256').update(`${topic}\u001f${key}`).digest().subarray(0, DIGEST_BYTES).toString('base64url')

/** A set of digests: open addressing over four words each; all zero is a free place. */
export class IdentitySet {
  #words = new Uint32Array(4 * CAPACITY_FIRST)
  #size = 0

  get size(): number {
    return this.#size
  }

  has(identity: string): boolean {
    const words = wordsOf(identity)
    return this.#taken(this.#placeOf(words, 0))
  }

  /** Adds one; false if it was there. */
  add(identity: string): boolean {
    const words = wordsOf(identity)
    const at = this.#placeOf(words, 0)
    if (this.#taken(at)) return false
    this.#words.set(words, at)
    if (++this.#size > LOAD_MAX * (this.#words.length / 4)) this.#grow()
    return true
  }

  #taken(at: number): boolean {
    const words = this.#words
    return (words[at] | words[at + 1] | words[at + 2] | words[at + 3]) !== 0
  }

  /** Where a digest (four words of `from`, at `i`) stands, or would. */
  #placeOf(from: Uint32Array, i: number): number {
    const words = this.#words
    for (let at = (4 * from[i]) % words.length; ; at = (at + 4) % words.length) {
      const free = (words[at] | words[at + 1] | words[at + 2] | words[at + 3]) === 0
      const same = words[at] === from[i] && words[at + 1] === from[i + 1] && words[at + 2] === from[i + 2] && words[at + 3] === from[i + 3]
      if (free || same) return at
    }
  }

  #grow(): void {
    const old = this.#words
    this.#words = new Uint32Array(2 * old.length)
    for (let i = 0; i < old.length; i += 4)
      if ((old[i] | old[i + 1] | old[i + 2] | old[i + 3]) !== 0) this.#words.set(old.subarray(i, i + 4), this.#placeOf(old, i))
  }
}

const wordsOf = (identity: string): Uint32Array => {
  const bytes = Buffer.from(identity, 'base64url')
  if (bytes.length !== DIGEST_BYTES) throw new Error(`"${identity}" is no identity`)
  const words = Uint32Array.of(bytes.readUInt32LE(0), bytes.readUInt32LE(4), bytes.readUInt32LE(8), bytes.readUInt32LE(12))
  // The digest of all zeros is a free place's: it stands as another one.
  if ((words[0] | words[1] | words[2] | words[3]) === 0) words[0] = 1
  return words
}
