/** @file Rotary positions as a function of [B, T, H, d]: whole heads or their first dimensions, in halves or in pairs. */
import type { RawConfig } from '../config.js'
import { readRope, rotaryTables, type Rope, type RopeOptions, type RotaryTables } from '../rope.js'
import type { Scope } from './part.js'

export interface Rotation {
  /** x [B, T, H, d] → the same, turned by its position. */
  readonly turn: <T>(scope: Scope<T>, x: T) => T
}

export interface RotationOptions {
  readonly headDim: number
  /** How many positions are tabulated. */
  readonly positions: number
  /**
   * The checkpoint's pairs are neighbours (0, 1), (2, 3), ... (Cohere) in place of (0, d/2), (1, d/2 + 1), .... They come
   * out as halves: queries and keys alike, so that every q·k is the same.
   */
  readonly interleaved?: boolean
}

/**
 * The rotation that config.json asks for, and the positions there are: the model's own, at most `positionsMax`.
 * @throws UserError as `readRope`
 */
export const rotationOf = (
  config: RawConfig, rope: RopeOptions, { positionsMax, interleaved }: { readonly positionsMax: number; readonly interleaved?: boolean },
): { readonly positionsMax: number; readonly turn: Rotation } => {
  const known = readRope(config, rope)
  const positions = Math.min(known.positionsMax, positionsMax)
  return { positionsMax: positions, turn: rotation(known, { headDim: rope.headDim, positions, interleaved }) }
}

/** The tables are constants of the graph, made at the first use. */
export const rotation = (rope: Rope, { headDim, positions, interleaved = false }: RotationOptions): Rotation => {
  const width = 2 * rope.frequencies.length
  let tables: readonly RotaryTables[] | undefined
  const key = {}
  // Both sets only where a sequence can be so long.
  const long = rope.long !== undefined && positions > rope.long.beyond ? rope.long : undefined
  const made = (): readonly RotaryTables[] =>
    [rope.frequencies, ...(long === undefined ? [] : [long.frequencies])].map((frequencies) => rotaryTables({ ...rope, frequencies }, positions))
  return {
    turn: (scope, x) => {
      const { ops, tokens } = scope
      const [c, s] = scope.once(key, () => {
        const at = ops.positions(tokens)
        const sets = (tables ??= made()).map(({ half, cos, sin }) => [cos, sin].map((table) => ops.gather(ops.constant(table, [positions, half]), at))) // [T, r/2]
        if (long === undefined) return sets[0]
        // By the last position, for all of them: 0 or 1, so that what is chosen has the bits it had.
        const isLong = Float64Array.from({ length: positions }, (_, t) => Number(t + 1 > long.beyond))
        const last = ops.slice(ops.gather(ops.constant(isLong, [positions, 1]), at), { axis: 0, from: -1, to: Infinity }) // [1, 1]
        const first = ops.shift(ops.scale(last, -1), 1)
        return [0, 1].map((table) => ops.add(ops.mul(sets[0][table], first), ops.mul(sets[1][table], last)))
      })
      const halves = (y: typeof x): typeof x =>
        interleaved ? ops.reshape(ops.transpose(ops.reshape(y, [0, 0, 0, width / 2, 2]), [0, 1, 2, 4, 3]), [0, 0, 0, width]) : y
      if (width === headDim) return ops.rotary(halves(x), c, s)
      const [turned, kept] = [ops.slice(x, { axis: -1, from: 0, to: width }), ops.slice(x, { axis: -1, from: width, to: headDim })]
      return ops.concat([ops.rotary(halves(turned), c, s), kept], -1)
    },
  }
}
