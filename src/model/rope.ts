/**
 * @file Rotary position embedding: the frequencies of its scaling variants, as config.json spells them of old
 * (`rope_theta`, `rope_scaling`) and anew (`rope_parameters`).
 *
 * `transformers` (modeling_rope_utils.py, 5.23) computes frequencies and phases in f32 whatever the model's dtype, and
 * models were trained so. At position 8,000 the rounding moves a phase by up to 5e-4, more than the agreement asked
 * for. So the roundings are those of f32 here too (`f32` marks each); cosines and sines of the rounded phases are
 * taken in float64.
 */
import { z } from 'zod'
import { parseConfig, positive, size, unsupported, type RawConfig } from './config.js'
import { paddedLength } from './padding.js'

/** cos and sin [T, r/2] of positions 0..T−1, times the variant's attention factor. */
export interface RotaryTables {
  readonly positions: number
  readonly half: number
  readonly cos: Float64Array
  readonly sin: Float64Array
}

export interface Rope {
  readonly kind: RopeKind
  /** Inverse frequencies, radians per position, f32 values [r/2]. */
  readonly frequencies: readonly number[]
  /** LongRoPE: the frequencies of all positions of a sequence of more than `beyond` tokens. */
  readonly long?: { readonly beyond: number; readonly frequencies: readonly number[] }
  /** Factor on cos and sin (YaRN's and LongRoPE's attention temperature); 1 elsewhere. */
  readonly attentionFactor: number
  /** The longest sequence for which these frequencies are the model's. */
  readonly positionsMax: number
}

const KINDS = ['default', 'linear', 'dynamic', 'yarn', 'llama3', 'longrope'] as const
export type RopeKind = (typeof KINDS)[number]

const f32 = Math.fround

const scalingSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(), // the older name of rope_type
  rope_theta: positive().optional(),
  partial_rotary_factor: positive().max(1).nullish(),
})
/** What config.json says of one rotary embedding. */
export type RopeSettings = z.output<typeof scalingSchema>
export const ropeSettings = (): typeof scalingSchema => scalingSchema
const factor = z.number().min(1)
const original = { original_max_position_embeddings: size().optional() }
const SCHEMAS = {
  default: z.looseObject({}),
  linear: z.looseObject({ factor: positive() }),
  dynamic: z.looseObject({ factor }),
  yarn: z.looseObject({
    ...original,
    factor: factor.nullable(),
    attention_factor: positive().nullish(),
    beta_fast: positive().nullish(),
    beta_slow: positive().nullish(),
    mscale: z.number().nullish(),
    mscale_all_dim: z.number().nullish(),
    truncate: z.boolean().nullish(),
  }),
  llama3: z
    .looseObject({ ...original, factor, low_freq_factor: positive(), high_freq_factor: positive() })
    .refine((s) => s.high_freq_factor > s.low_freq_factor, 'high_freq_factor must be above low_freq_factor'),
  longrope: z.looseObject({
    ...original,
    factor: factor.nullish(),
    attention_factor: positive().nullish(),
    short_factor: z.array(positive()),
    long_factor: z.array(positive()),
  }),
} as const satisfies Record<RopeKind, z.ZodType>

const THETA_DEFAULT = 10_000

export interface RopeOptions {
  readonly headDim: number
  /** The model's max_position_embeddings. */
  readonly positionsMax: number
  /** What the model takes where config.json is silent, and its own names for settings that others call otherwise. */
  readonly theta?: { readonly key?: string; readonly default?: number }
  /**
   * Given for models that turn only a part of each head. Of the others `transformers` turns the whole head under `default`
   * whatever the factor, and fails elsewhere.
   */
  readonly partial?: { readonly key?: string; readonly default: number }
  /** original_max_position_embeddings where config.json's top level is silent; it wins over what the scaling says. */
  readonly originalDefault?: number
  /** Older names of kinds; none but `default` and these are known then (Phi-3). */
  readonly kinds?: Readonly<Record<string, RopeKind>>
}

/**
 * The rotary embedding that config.json asks for, in heads of `headDim`.
 *
 * - `default`, `linear` (Chen et al. 2023), `yarn` (Peng et al. 2023, arXiv 2309.00071) and `llama3` as they stand.
 * - `dynamic` (NTK) grows the base with the sequence only beyond max_position_embeddings. Longer sequences are not
 *   taken, within it equals `default`, and a document's scores do not depend on what it is batched with.
 * - `longrope` (Ding et al. 2024, arXiv 2402.13753) has other frequencies for sequences longer than the original context.
 *   `transformers` goes by the batch's length, padding included. Here sequences are padded to steps (padding.ts), and where the
 *   original context is one of them, as 4096 is, none is padded beyond it. Else it is the longest.
 * @throws UserError naming the setting that is unknown, missing or wrong
 */
export const readRope = (config: RawConfig, options: RopeOptions): Rope => {
  const { theta = {}, partial, originalDefault } = options
  const thetaKey = theta.key ?? 'rope_theta'
  const partialKey = partial?.key ?? 'partial_rotary_factor'
  const numbers = parseConfig(config, z.looseObject({ [thetaKey]: positive().nullish(), [partialKey]: positive().max(1).nullish() }))
  const old = parseConfig(config, z.looseObject({
    rope_scaling: scalingSchema.nullish(),
    rope_parameters: scalingSchema.nullish(),
    original_max_position_embeddings: size().nullish(),
  }))
  // transformers lets a rope_scaling that says anything win over rope_parameters.
  const isSaid = old.rope_scaling != null && Object.keys(old.rope_scaling).length > 0
  const key = isSaid ? 'rope_scaling' : 'rope_parameters'
  const said = (isSaid ? old.rope_scaling : old.rope_parameters) ?? {}
  for (const nested of ['full_attention', 'sliding_attention'])
    if (Object.hasOwn(said, nested)) throw unsupported(config, `${key}.${nested}`, said[nested], 'one rotary embedding for all layers')
  return ropeOf(config, {
    ...options,
    key,
    said,
    theta: numbers[thetaKey] ?? theta.default ?? THETA_DEFAULT,
    partial: numbers[partialKey] ?? partial?.default ?? 1,
    isPartial: partial !== undefined,
    original: old.original_max_position_embeddings ?? originalDefault,
  })
}

/** One rotary embedding as a part of config.json says it, with what it may leave to the rest of config.json. */
export interface RopeSource extends Pick<RopeOptions, 'headDim' | 'positionsMax' | 'kinds'> {
  /** Where it stands in config.json, and what stands there. */
  readonly key: string
  readonly said: RopeSettings
  readonly theta: number
  readonly partial?: number
  /** Whether the model turns a part of a head, or whole heads whatever the factor. */
  readonly isPartial?: boolean
  readonly original?: number
}

/** @throws UserError as `readRope` */
export const ropeOf = (config: RawConfig, source: RopeSource): Rope => {
  const { headDim, positionsMax, kinds, key, said } = source
  const asked = said.rope_type ?? said.type ?? 'default'
  const kind = kinds === undefined || asked === 'default' ? asked : Object.hasOwn(kinds, asked) ? kinds[asked] : ''
  if (!isKind(kind)) {
    const known = kinds === undefined ? KINDS : ['default', ...Object.keys(kinds)]
    throw unsupported(config, `${key}.${said.rope_type === undefined ? 'type' : 'rope_type'}`, asked, known.join(', '))
  }
  const partial = said.partial_rotary_factor ?? source.partial ?? 1
  if (source.isPartial !== true && kind !== 'default' && partial !== 1) throw unsupported(config, 'partial_rotary_factor', partial, '1')
  const dims = source.isPartial === true ? Math.trunc(headDim * partial) : headDim
  if (dims % 2 !== 0 || dims === 0) throw unsupported(config, 'head_dim', headDim, `${dims === headDim ? '' : `with partial_rotary_factor = ${partial}, `}even ones`)

  const theta = said.rope_theta ?? source.theta
  const parse = <S extends z.ZodType>(schema: S): z.output<S> =>
    parseConfig({ path: config.path, values: { [key]: said } }, z.object({ [key]: schema }))[key] as z.output<S>
  const originalOf = (inner: number | undefined): number => source.original ?? inner ?? positionsMax
  const plain = plainFrequencies(theta, dims)

  switch (kind) {
    case 'default':
      return { kind, frequencies: plain, attentionFactor: 1, positionsMax }
    case 'dynamic':
      parse(SCHEMAS.dynamic)
      return { kind, frequencies: plain, attentionFactor: 1, positionsMax }
    case 'linear': {
      const { factor } = parse(SCHEMAS.linear)
      return { kind, frequencies: plain.map((f) => f32(f / f32(factor))), attentionFactor: 1, positionsMax }
    }
    case 'llama3': {
      const s = parse(SCHEMAS.llama3)
      return { kind, frequencies: llama3(plain, s, originalOf(s.original_max_position_embeddings)), attentionFactor: 1, positionsMax }
    }
    case 'yarn': {
      const s = parse(SCHEMAS.yarn)
      const trained = originalOf(s.original_max_position_embeddings)
      const factor = s.factor ?? positionsMax / trained
      return {
        kind,
        frequencies: yarn({
          theta, dims, factor, original: trained,
          betaFast: s.beta_fast ?? 32, betaSlow: s.beta_slow ?? 1, truncate: s.truncate !== false && s.truncate !== null,
        }),
        attentionFactor: s.attention_factor ?? yarnAttention(factor, s.mscale ?? 0, s.mscale_all_dim ?? 0),
        positionsMax,
      }
    }
    case 'longrope': {
      const s = parse(SCHEMAS.longrope)
      const trained = originalOf(s.original_max_position_embeddings)
      for (const name of ['short_factor', 'long_factor'] as const)
        if (s[name].length !== dims / 2)
          throw unsupported(config, `${key}.${name}`, `${s[name].length} factors`, `${dims / 2} of them, half the dimensions that are turned`)
      const factor = s.factor ?? positionsMax / trained
      const attentionFactor = s.attention_factor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(trained)))
      const powers = powersOf(theta, dims)
      const scaled = (factors: readonly number[]): number[] => powers.map((p, i) => f32(1 / f32(f32(factors[i]) * p)))
      const frequencies = scaled(s.short_factor)
      if (positionsMax <= trained || paddedLength(trained) !== trained) return { kind, frequencies, attentionFactor, positionsMax: Math.min(positionsMax, trained) }
      return { kind, frequencies, long: { beyond: trained, frequencies: scaled(s.long_factor) }, attentionFactor, positionsMax }
    }
    default:
      return kind satisfies never
  }
}

const isKind = (kind: string): kind is RopeKind => KINDS.some((known) => known === kind)

/** θ^(2i/r) for i in [0, r/2). */
const powersOf = (theta: number, dims: number): number[] =>
  Array.from({ length: dims / 2 }, (_, i) => f32(Math.pow(f32(theta), f32((2 * i) / dims))))

/** θ^(−2i/r): Su et al. 2021, arXiv 2104.09864. */
const plainFrequencies = (theta: number, dims: number): number[] => powersOf(theta, dims).map((p) => f32(1 / p))

/** Llama 3.1: long wavelengths are divided by the factor, short ones kept, those between interpolated. */
const llama3 = (
  frequencies: readonly number[],
  { factor, low_freq_factor: low, high_freq_factor: high }: { factor: number; low_freq_factor: number; high_freq_factor: number },
  original: number,
): number[] =>
  frequencies.map((f) => {
    const wavelength = f32(f32(2 * Math.PI) / f)
    if (wavelength > f32(original / low)) return f32(f / f32(factor))
    if (wavelength < f32(original / high)) return f
    const smooth = f32(f32(f32(f32(original) / wavelength) - f32(low)) / f32(high - low))
    return f32(f32(f32(f32(1 - smooth) * f) / f32(factor)) + f32(smooth * f))
  })

/** YaRN's "NTK by parts": a ramp over the dimensions from extrapolation (kept) to interpolation (divided). */
const yarn = (o: {
  theta: number; dims: number; factor: number; original: number; betaFast: number; betaSlow: number; truncate: boolean
}): number[] => {
  const dimensionOf = (rotations: number): number =>
    (o.dims * Math.log(o.original / (rotations * 2 * Math.PI))) / (2 * Math.log(o.theta))
  const [fast, slow] = [dimensionOf(o.betaFast), dimensionOf(o.betaSlow)]
  const low = Math.max(o.truncate ? Math.floor(fast) : fast, 0)
  const high = Math.min(o.truncate ? Math.ceil(slow) : slow, o.dims - 1)
  const width = high === low ? 0.001 : high - low // no division by zero
  return powersOf(o.theta, o.dims).map((power, i) => {
    const ramp = f32(Math.min(Math.max(f32(f32(i - f32(low)) / f32(width)), 0), 1))
    const kept = f32(1 - ramp)
    return f32(f32(f32(1 / f32(f32(o.factor) * power)) * f32(1 - kept)) + f32(f32(1 / power) * kept))
  })
}

const yarnAttention = (factor: number, mscale: number, mscaleAllDim: number): number => {
  const temperature = (m: number): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1)
  return mscale !== 0 && mscaleAllDim !== 0 ? temperature(mscale) / temperature(mscaleAllDim) : temperature(1)
}

/** cos and sin of position · frequency, for positions 0..positions−1. */
export const rotaryTables = ({ frequencies, attentionFactor }: Pick<Rope, 'frequencies' | 'attentionFactor'>, positions: number): RotaryTables => {
  const half = frequencies.length
  const cos = new Float64Array(positions * half)
  const sin = new Float64Array(positions * half)
  for (let t = 0; t < positions; t++)
    for (let i = 0; i < half; i++) {
      const phase = f32(t * frequencies[i])
      cos[t * half + i] = Math.cos(phase) * attentionFactor
      sin[t * half + i] = Math.sin(phase) * attentionFactor
    }
  return { positions, half, cos, sin }
}
