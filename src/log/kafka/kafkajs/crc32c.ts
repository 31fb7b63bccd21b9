/** @file CRC-32C (Castagnoli; RFC 3720, B.4), eight bytes a step (Kounavis and Berry, "slicing by 8", 2005). */

const polynomial = 0x82f63b78

/** tables[s][b]: the remainder of byte b with s bytes behind it. */
const tables: readonly Int32Array[] = (() => {
  const first = Int32Array.from({ length: 256 }, (_, byte) => {
    let rest = byte
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ ((rest & 1) * polynomial)
    return rest
  })
  const all = [first]
  for (let step = 1; step < 8; step++) all.push(all[step - 1].map((rest) => (rest >>> 8) ^ first[rest & 255]))
  return all
})()
const [t0, t1, t2, t3, t4, t5, t6, t7] = tables

export const crc32c = (bytes: Uint8Array): number => {
  let crc = -1
  let at = 0
  for (const end = bytes.length - 7; at < end; at += 8) {
    crc ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)
    crc = t7[crc & 255] ^ t6[(crc >>> 8) & 255] ^ t5[(crc >>> 16) & 255] ^ t4[crc >>> 24] ^
      t3[bytes[at + 4]] ^ t2[bytes[at + 5]] ^ t1[bytes[at + 6]] ^ t0[bytes[at + 7]]
  }
  for (; at < bytes.length; at++) crc = t0[(crc ^ bytes[at]) & 255] ^ (crc >>> 8)
  return ~crc >>> 0
}
