/** @file How many sequences a batch may have: each brings its own gradient G of the widest layer. */
import { documentsAtOnceMax, inputWidth } from '../influence/index.js'
import type { LinearLayer } from '../model/index.js'

/** Bytes of the dense gradients of one layer for a whole batch. */
const gradientBytesMax = 128 << 20

/** Of a batch that is scored: a document's scores do not depend on the others of it. */
export const scoredAtOnceMax = (tracked: readonly LinearLayer[]): number => Math.min(documentsAtOnceMax, sequencesMaxOf(tracked))

export const sequencesMaxOf = (tracked: readonly LinearLayer[]): number => {
  const widest = Math.max(...tracked.map((layer) => 4 * layer.outputs * inputWidth(layer)))
  return Math.max(1, Math.floor(gradientBytesMax / widest))
}
