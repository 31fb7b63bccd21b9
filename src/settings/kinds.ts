/**
 * @file The kinds of value that a setting can have: how text (a flag, a variable) becomes a value, which values are
 * allowed, and the words that say so. Pure.
 */
import { z } from 'zod'

/** A kind of value. */
export interface Kind<T> {
  /** What is allowed, as it stands in messages and help: "a whole number from 1 to 64". */
  readonly allowed: string
  /** Judges typed values: those of the run file, and what `parse` made of text. */
  readonly schema: z.ZodType<T>
  /** Text → what `schema` judges. Text that makes no sense is handed on as it is, for `schema` to refuse. */
  readonly parse: (text: string) => unknown
  /** Whether the flag takes no argument (`switch`) or several (`list`). */
  readonly arity: 'switch' | 'one' | 'list'
}

const toNumber = (text: string): unknown => (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : text)
const grouped = (value: number): string => value.toLocaleString('en-US')

/** Non-empty text. */
export const text = (allowed = 'some text'): Kind<string> => ({
  allowed,
  schema: z.string().min(1),
  parse: (given) => given,
  arity: 'one',
})

/** Where a log is: in the home, or on a Kafka cluster. */
export const logAddress = (): Kind<string> => {
  const broker = String.raw`(\[[\da-fA-F:.]+\]|[^\s,/:@[\]]+)(:\d{1,5})?`
  return {
    allowed: 'embedded, or kafka://host:port[,host:port...]',
    schema: z.string().regex(new RegExp(`^(embedded|kafka://${broker}(,${broker})*)$`)),
    parse: (given) => given,
    arity: 'one',
  }
}

/** What may stand at the beginning of a topic's name. */
export const topicPrefix = (): Kind<string> => ({
  allowed: 'letters, digits, ".", "_" and "-", at most 100',
  schema: z.string().regex(/^[a-zA-Z0-9._-]{1,100}$/),
  parse: (given) => given,
  arity: 'one',
})

/** An address of HTTP. */
export const url = (): Kind<string> => ({
  allowed: 'an http:// or https:// URL',
  schema: z.string().regex(/^https?:\/\/\S+$/),
  parse: (given) => given,
  arity: 'one',
})

/** "127.0.0.1:9464", "[::1]:9464", ":9464" or "9464": where a server listens. See `parseAddress`. */
export const address = (): Kind<string> => ({
  allowed: 'HOST:PORT, or PORT alone for 127.0.0.1 (port 0: any that is free)',
  schema: z
    .union([z.int(), z.string().regex(/^(\[[\da-fA-F:.]+\]:|[^\s,/:@[\]]*:)?\d{1,5}$/)])
    .transform(String)
    .refine((given) => parseAddress(given).port <= 65_535),
  parse: (given) => given,
  arity: 'one',
})

/** The parts of an address; a port alone is one of this machine only. Port 0: any that is free. */
export const parseAddress = (given: string): { readonly host: string; readonly port: number } => {
  const [, host = '', port] = /^(?:(.*):)?(\d+)$/.exec(given) ?? []
  return { host: host === '' ? '127.0.0.1' : host.replace(/^\[|\]$/g, ''), port: Number(port) }
}

/** A name that is safe as a file name and in keys: letters, digits, `.`, `_`, `-`, at most 100 of them. */
export const name = (): Kind<string> => ({
  allowed: 'a name of letters, digits, ".", "_" and "-" (at most 100, the first a letter or digit)',
  schema: z.string().regex(/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,99}$/u),
  parse: (given) => given,
  arity: 'one',
})

export const whole = ({ min, max = Number.MAX_SAFE_INTEGER }: { min: number; max?: number }): Kind<number> => ({
  allowed:
    max === Number.MAX_SAFE_INTEGER
      ? `a whole number, at least ${grouped(min)}`
      : `a whole number from ${grouped(min)} to ${grouped(max)}`,
  schema: z.int().min(min).max(max),
  parse: toNumber,
  arity: 'one',
})

export const choice = <const Choice extends string>(...choices: readonly [Choice, ...Choice[]]): Kind<Choice> => ({
  allowed: choices.length === 1 ? choices[0] : `${choices.slice(0, -1).join(', ')} or ${choices[choices.length - 1]}`,
  schema: z.enum(choices) as unknown as z.ZodType<Choice>,
  parse: (given) => given,
  arity: 'one',
})

/** On or off. As a flag `--name` or `--no-name`; as a variable 1/0, true/false, yes/no, on/off. */
export const onOff = (): Kind<boolean> => ({
  allowed: 'true or false (as a variable also 1/0, yes/no, on/off)',
  schema: z.boolean(),
  parse: (given) => {
    const word = given.trim().toLowerCase()
    if (['1', 'true', 'yes', 'on'].includes(word)) return true
    if (['0', 'false', 'no', 'off', ''].includes(word)) return false
    return given
  },
  arity: 'switch',
})

/** Several texts: a repeated or many-valued flag, a comma-separated variable, a YAML list. */
export const list = (allowed = 'a list of texts'): Kind<readonly string[]> => ({
  allowed,
  schema: z.array(z.string().min(1)),
  parse: (given) => given.split(',').map((part) => part.trim()).filter((part) => part !== ''),
  arity: 'list',
})

/** Several of some words. */
export const listOf = <const Choice extends string>(...choices: readonly [Choice, ...Choice[]]): Kind<readonly Choice[]> => ({
  allowed: `one or several of ${choices.join(', ')}`,
  schema: z.array(z.enum(choices)) as unknown as z.ZodType<readonly Choice[]>,
  parse: (given) => given.split(',').map((part) => part.trim()).filter((part) => part !== ''),
  arity: 'list',
})

/** Several whole numbers, as text. */
export const wholes = (): Kind<readonly string[]> => ({
  ...list('a list of whole numbers'),
  schema: z.array(z.union([z.string().regex(/^\d+$/), z.int().nonnegative()]).transform(String)),
})

/** A point in time. */
export const time = (): Kind<string> => ({
  allowed: 'a time as ISO 8601 has it: 2026-01-31, or 2026-01-31T12:00:00Z',
  schema: z.string().refine((given) => /^\d{4}-\d\d-\d\d/.test(given) && !Number.isNaN(Date.parse(given))),
  parse: (given) => given,
  arity: 'one',
})

const byteUnits: Readonly<Record<string, number>> = {
  '': 1, b: 1,
  k: 1024, kib: 1024, kb: 1e3,
  m: 1024 ** 2, mib: 1024 ** 2, mb: 1e6,
  g: 1024 ** 3, gib: 1024 ** 3, gb: 1e9,
  t: 1024 ** 4, tib: 1024 ** 4, tb: 1e12,
}

/** "6GiB", "1.5 GB", "4096" → bytes; undefined if it is none of these. K, M, G, T alone are powers of 1024. */
export const parseBytes = (given: string): number | undefined => {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(given)
  const unit = match === null ? undefined : byteUnits[match[2].toLowerCase()]
  return match === null || unit === undefined ? undefined : Math.floor(Number(match[1]) * unit)
}

/** An amount of bytes: a number, or text with a unit. */
export const bytes = ({ min, max = Number.MAX_SAFE_INTEGER }: { min: number; max?: number }): Kind<number> => ({
  allowed:
    `an amount of bytes such as 4096, 512MiB or 6GiB, at least ${formatBytes(min)}` +
    (max === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${formatBytes(max)}`),
  schema: z
    .union([z.int(), z.string().regex(/^\s*\d+(\.\d+)?\s*([kmgt](i?b)?|b)?\s*$/i)])
    .transform((value) => (typeof value === 'number' ? value : (parseBytes(value) ?? Number.NaN)))
    .refine((value) => value >= min && value <= max && Number.isSafeInteger(value)),
  parse: (given) => given,
  arity: 'one',
})

/** Bytes for people: "4 MiB". */
export const formatBytes = (value: number): string => {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let amount = value
  let unit = 0
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024
    unit++
  }
  return `${Number.isInteger(amount) ? amount : amount.toFixed(1)} ${units[unit]}`
}

/**
 * λ of docs/method.md §3.4. `relative`: λ = factor · mean(Λ), for each layer its own. `absolute`: the same λ in every
 * layer. `segment`: that of a segment of training, over which the learning rates sum to `time` (influence/segments.ts).
 */
export type Damping =
  | { readonly kind: 'relative'; readonly factor: number }
  | { readonly kind: 'absolute'; readonly value: number }
  | { readonly kind: 'segment'; readonly time: number }

/** "0.1x" is relative, "1e-8" absolute, "segment:0.6" a segment of training. */
export const damping = (): Kind<Damping> => ({
  allowed: 'a positive number followed by x, a factor on the mean of each layer\'s eigenvalues (0.1x), a positive number alone, the same for all layers (1e-8), or segment: and the sum of a segment\'s learning rates (segment:0.6)',
  schema: z
    .union([z.number(), z.string().regex(/^\s*(segment:\s*(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*x?)\s*$/i)])
    .transform((value): Damping => {
      const given = String(value).trim().toLowerCase()
      if (given.startsWith('segment:')) return { kind: 'segment', time: Number(given.slice('segment:'.length)) }
      return given.endsWith('x')
        ? { kind: 'relative', factor: Number(given.slice(0, -1)) }
        : { kind: 'absolute', value: Number(given) }
    })
    .refine((value) => {
      const number = value.kind === 'relative' ? value.factor : value.kind === 'segment' ? value.time : value.value
      return number > 0 && Number.isFinite(number)
    }),
  parse: (given) => given,
  arity: 'one',
})

/** Which layers are tracked: `mlp`, `attention`, `all`, or a regular expression over whole module names. */
export const track = (): Kind<string> => ({
  allowed: 'mlp, attention, all, or a regular expression over module names (model.layers.(0|10).mlp.*)',
  schema: z
    .string()
    .min(1)
    .refine((pattern) => {
      try {
        return new RegExp(pattern) !== undefined
      } catch {
        return false
      }
    }),
  parse: (given) => given,
  arity: 'one',
})
