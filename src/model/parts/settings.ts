/** @file What the config.json of decoders have in common, read once for all of them. */
import { z } from 'zod'
import { size, unsupported, type RawConfig } from '../config.js'
import type { Heads } from './attention.js'
import type { BlockName } from './part.js'

/** The settings that every architecture of one embedding, blocks and a head names alike, but for GPT-2. */
export const decoderSettings = {
  vocab_size: size(),
  hidden_size: size(),
  intermediate_size: size(),
  num_hidden_layers: size(),
  num_attention_heads: size(),
  max_position_embeddings: size().optional(),
} as const

/** Grouped queries and a head of its own width. */
export const headSettings = {
  num_key_value_heads: size().nullish(),
  head_dim: size().nullish(),
} as const

/** A sliding window in positions, null for none; a default where config.json is silent. */
export const nullableWindow = (silent: number | null): z.ZodDefault<z.ZodNullable<z.ZodNumber>> => size().nullable().default(silent)

interface HeadsConfig {
  readonly hidden_size: number
  readonly num_attention_heads: number
  readonly num_key_value_heads?: number | null
  readonly head_dim?: number | null
}

/**
 * @param silent what is taken where config.json does not say: as many key heads as heads, D/H wide, if absent
 * @throws UserError for numbers that do not divide
 */
export const headsOf = (config: RawConfig, c: HeadsConfig, silent: Partial<Pick<Heads, 'headsKv' | 'headDim'>> = {}): Heads => {
  const heads = c.num_attention_heads
  const headsKv = c.num_key_value_heads ?? (c.num_key_value_heads === null ? heads : (silent.headsKv ?? heads))
  if (heads % headsKv !== 0) throw unsupported(config, 'num_key_value_heads', headsKv, `divisors of num_attention_heads = ${heads}`)
  const headDim = c.head_dim ?? silent.headDim
  if (headDim === undefined && c.hidden_size % heads !== 0)
    throw unsupported(config, 'num_attention_heads', heads, `divisors of hidden_size = ${c.hidden_size}, as head_dim is not given`)
  return { heads, headsKv, headDim: headDim ?? c.hidden_size / heads }
}

/** `<prefix>.0`, `<prefix>.1`, ... */
export const blocksOf = (count: number, prefix: string): readonly BlockName[] =>
  Array.from({ length: count }, (_, block) => ({ block, name: `${prefix}.${block}` }))

/**
 * For each block how many positions a position sees, itself included; undefined where all.
 * @param types config.json's layer_types, if it has them
 * @param isSliding which blocks slide where it has none
 * @param off what makes a sliding layer impossible when there is no window, for the refusal
 * @throws UserError for types that are unknown, too few or many, or want a window that there is not
 */
export const windowsOf = (
  config: RawConfig,
  { layers, types, window, isSliding, off }: {
    readonly layers: number
    readonly types: readonly string[] | null | undefined
    readonly window: number | undefined
    readonly isSliding: (block: number) => boolean
    readonly off: string
  },
): readonly (number | undefined)[] => {
  if (types != null && types.length !== layers) throw unsupported(config, 'layer_types', `${types.length} types`, `${layers}, one a layer`)
  return Array.from({ length: layers }, (_, block) => {
    const type = types?.[block] ?? (isSliding(block) ? 'sliding_attention' : 'full_attention')
    if (type === 'full_attention') return undefined
    if (type !== 'sliding_attention') throw unsupported(config, `layer_types.${block}`, type, 'full_attention, sliding_attention')
    if (window === undefined) throw unsupported(config, `layer_types.${block}`, type, `full_attention, as ${off}`)
    return window
  })
}
