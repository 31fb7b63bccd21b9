/** @file The lengths that sequences are padded to. */

/**
 * Shorter batches are padded to this length. Attention is cut into up to so many row blocks, and ONNX Runtime leaves the
 * product of empty blocks (an inner dimension of 0) uninitialised.
 */
export const lengthMin = 8

/**
 * The length that a sequence is padded to, whatever it is batched with: a multiple of 8, each doubling cut into eight
 * (.., 120, 128, 144, 160, ..), and never more than `lengthMax` positions. ONNX Runtime sums in an order that depends on
 * T, so a sequence's bits must not depend on its neighbours' lengths. At most an eighth more is computed, on average 4 %.
 */
export const paddedLength = (length: number, lengthMax = Infinity): number => {
  const step = Math.max(lengthMin, 2 ** (Math.ceil(Math.log2(length)) - 4))
  return Math.max(lengthMin, Math.min(Math.ceil(length / step) * step, Math.max(lengthMax, length)))
}
