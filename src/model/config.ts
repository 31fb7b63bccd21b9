/**
 * @file config.json, read without trust. An architecture says with a zod schema which settings it honours and with
 * `unsupported` which it knows and refuses; settings that `transformers` itself ignores are ignored.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { UserError } from '../base/index.js'
import { readJson, type JsonObject } from './json.js'

/** config.json as it stands, and where it stands. */
export interface RawConfig {
  readonly path: string
  readonly values: JsonObject
}

const CONFIG_BYTES_MAX = 1 << 24

/** @throws UserError if config.json is missing or no JSON object */
export const readConfig = async (folder: string): Promise<RawConfig> => {
  const path = join(folder, 'config.json')
  return { path, values: await readJson(path, { bytesMax: CONFIG_BYTES_MAX }) }
}

/**
 * The settings that a schema names, with its defaults.
 * @throws UserError that names every setting that is missing or wrong
 */
export const parseConfig = <S extends z.ZodType>({ path, values }: RawConfig, schema: S): z.output<S> => {
  const parsed = schema.safeParse(values)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map(({ path: key, message }) => `${key.join('.') || 'it'}: ${message}`)
  throw new UserError(`"${path}" is refused: ${problems.join('; ')}`)
}

/** The refusal of a setting that tributary does not support. */
export const unsupported = ({ path }: RawConfig, key: string, value: unknown, supported?: string): UserError =>
  new UserError(
    `"${path}": ${key} = ${JSON.stringify(value)} is not supported${supported === undefined ? '' : ` (supported: ${supported})`}`,
  )

/**
 * Refuses settings that would change the forward pass.
 * @param neutral for each key the values (beside absent and null) that change nothing
 * @throws UserError naming the setting and its value
 */
export const refuseUnlessNeutral = (config: RawConfig, neutral: Readonly<Record<string, readonly unknown[]>>): void => {
  for (const [key, values] of Object.entries(neutral)) {
    const value = config.values[key] ?? undefined
    if (value !== undefined && !values.includes(value))
      throw unsupported(config, key, value, values.length === 0 ? 'none' : values.map((v) => JSON.stringify(v)).join(', '))
  }
}

/** What no architecture supports. */
export const refuseEverywhere = (config: RawConfig): void =>
  refuseUnlessNeutral(config, {
    quantization_config: [], // stored weights are then no weights of the model
    compression_config: [],
    is_encoder_decoder: [false],
    add_cross_attention: [false],
  })

/** A length: a positive integer, small enough that products of two are exact. */
export const size = (): z.ZodNumber => z.int().positive().max(1 << 26)
/** A small positive number such as a norm's ε. */
export const positive = (): z.ZodNumber => z.number().positive()

/** The activations of `transformers` that can be computed, by its names for them. */
export const ACTIVATIONS = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  gelu_python_tanh: 'geluTanh',
  gelu_fast: 'geluTanh', // the same formula in another order
} as const satisfies Readonly<Record<string, 'silu' | 'gelu' | 'geluTanh'>>

/** The operation of an activation. @throws UserError naming key and value if it is not known */
export const activationOf = (config: RawConfig, key: string, name: string): 'silu' | 'gelu' | 'geluTanh' => {
  if (!Object.hasOwn(ACTIVATIONS, name)) throw unsupported(config, key, name, Object.keys(ACTIVATIONS).join(', '))
  return ACTIVATIONS[name as keyof typeof ACTIVATIONS]
}
