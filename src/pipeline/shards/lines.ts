/** @file Bytes → lines, however the chunks fall. Holds at most one line up to the bound. */
import { originalBytesMax } from './types.js'

export interface RawLine {
  readonly index: number
  /** Without its newline; of a line beyond the bound only the beginning. */
  readonly bytes: Uint8Array
  /** The length of the whole line. */
  readonly bytesTotal: number
  /** Whether a newline ended it; the last line may lack one. */
  readonly isEnded: boolean
}

export interface LineSplitter {
  push(chunk: Uint8Array): Iterable<RawLine>
  /** The line after the last newline, if there is one. */
  end(): RawLine | undefined
}

/** Cuts at "\n". Of a line longer than `bytesMax` the first `originalBytesMax` bytes are kept and the rest skipped. */
export const splitLines = (bytesMax: number): LineSplitter => {
  let index = 0
  let parts: Uint8Array[] = []
  let held = 0
  let total = 0
  const hold = (part: Uint8Array): void => {
    total += part.length
    if (total <= bytesMax) {
      parts.push(part)
      held += part.length
    } else if (held <= originalBytesMax) {
      parts.push(part.subarray(0, originalBytesMax))
      held += part.length
    }
    if (total > bytesMax && held > originalBytesMax) {
      parts = [Buffer.concat(parts).subarray(0, originalBytesMax)]
      held = originalBytesMax + 1 // nothing more is kept
    }
  }
  const take = (isEnded: boolean): RawLine => {
    const bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts)
    const line = { index: index++, bytes, bytesTotal: total, isEnded }
    parts = []
    held = 0
    total = 0
    return line
  }
  return {
    *push(chunk) {
      let from = 0
      for (;;) {
        const newline = chunk.indexOf(0x0a, from)
        if (newline === -1) break
        hold(chunk.subarray(from, newline))
        yield take(true)
        from = newline + 1
      }
      // A copy: the chunk's memory belongs to whoever read it.
      if (from < chunk.length) hold(chunk.slice(from))
    },
    end: () => (total > 0 ? take(false) : undefined),
  }
}
