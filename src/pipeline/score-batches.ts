/** @file How many sequences a batch may have: each brings its own gradient G of the widest layer. */
import { inputWidth } from '../influence/index.js'
import type { LinearLayer } from '../model/index.js'

/** Bytes of the dense gradients of one layer for a whole batch. */
const gradientBytesMax = 128 << 20

export const sequencesMaxOf = (tracked: readonly LinearLayer[]): number => {
  const widest = Math.max(...tracked.map((layer) => 4 * layer.outputs * inputWidth(layer)))
  return Math.max(1, Math.floor(gradientBytesMax / widest))
}
