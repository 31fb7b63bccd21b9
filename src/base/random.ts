/**
 * @file Seeded chance. Every random number in tributary comes from here, so that a seed names a result.
 * `splitmix32`-style hashing: a number depends on the seed and its indices alone, never on the order of calls.
 */

/** Mixes a 32-bit state; the finaliser of MurmurHash3. */
const mix = (x: number): number => {
  let h = x >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A 32-bit hash of a string (FNV-1a, then mixed). For seeding, not for identity. */
export const seedOf = (text: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return mix(h)
}

/** The uniform number in [0, 1) at `(seed, i, j)`: 53 bits from two 32-bit hashes. */
export const uniformAt = (seed: number, i: number, j = 0): number => {
  const a = mix(mix(mix(seed) + Math.imul(i, 0x9e3779b1)) + Math.imul(j, 0x85ebca77))
  const b = mix(a ^ 0x68bc21eb)
  return (a * 0x200000 + (b >>> 11)) / 0x20000000000000
}

/** A stream of uniform numbers in [0, 1) from a seed. */
export const uniforms = (seed: number): (() => number) => {
  let i = 0
  return () => uniformAt(seed, i++)
}

/** A stream of standard normal numbers from a seed (Box-Muller). */
export const normals = (seed: number): (() => number) => {
  const next = uniforms(seed)
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())
}
