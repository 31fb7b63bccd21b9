/**
 * @file Which partition a key belongs to: murmur2 of its UTF-8 bytes, as Kafka's default partitioner does it, so that a
 * key has one partition on every log of as many partitions and with every producer.
 */

/** Murmur2 by Austin Appleby (public domain), 32 bits, with Kafka's seed; signed. */
export const murmur2 = (bytes: Uint8Array): number => {
  const { length } = bytes
  let h = 0x9747b28c ^ length
  const whole = length & ~3
  for (let i = 0; i < whole; i += 4) {
    let k = bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24)
    k = Math.imul(k, 0x5bd1e995)
    k ^= k >>> 24
    k = Math.imul(k, 0x5bd1e995)
    h = Math.imul(h, 0x5bd1e995) ^ k
  }
  const rest = length - whole
  if (rest === 3) h ^= bytes[whole + 2] << 16
  if (rest >= 2) h ^= bytes[whole + 1] << 8
  if (rest >= 1) h = Math.imul(h ^ bytes[whole], 0x5bd1e995)
  h = Math.imul(h ^ (h >>> 13), 0x5bd1e995)
  return h ^ (h >>> 15)
}

/** The partition of a key among `partitions`. */
export const partitionOf = (key: Uint8Array, partitions: number): number => (murmur2(key) & 0x7fffffff) % partitions
