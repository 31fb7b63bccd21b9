/**
 * @file tokenizer.json as a function of text, over `@huggingface/tokenizers`.
 *
 * That library departs from the Rust one, by which checkpoints are trained, in places that real text meets: `\s` and
 * `\d` of JavaScript are not those of Unicode (U+0085, U+FEFF, ½, ٣), and Metaspace never splits. `faithful` rewrites
 * tokenizer.json into parts that both treat alike. What has not been checked against the Rust library is refused.
 *
 * Time is n log n in the longest unbroken run: with SmolLM2's tokenizer 80,000 tokens/s of prose and code (one core of a
 * busy machine), and at worst, for an unbroken run of nothing but merges, 30 µs a character.
 */
import { join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { z } from 'zod'
import { DeadLetterError, UserError } from '../base/index.js'
import { readJson, type JsonObject } from './json.js'

export interface Tokenizer {
  /**
   * The ids of a document, method.md §1: with whatever the tokenizer's own post-processor adds, nothing else.
   * @throws DeadLetterError if the text is too long, or an id is not in the model's vocabulary
   */
  encodeDocument(text: string): number[]
  /**
   * The ids of a query: prompt and completion encoded apart and joined, specials on the prompt alone.
   * `promptLength` is how many ids the prompt takes.
   * @throws DeadLetterError as `encodeDocument`
   */
  encodeQuery(query: { readonly prompt: string; readonly completion: string }): { ids: number[]; promptLength: number }
  /** One id as text, for show; bytes that are no text alone become U+FFFD, a byte-order mark may go missing. */
  decodeToken(id: number): string
  decode(ids: readonly number[]): string
}

export interface TokenizerOptions {
  /** Ids from here on are refused: the rows of the model's embedding. */
  readonly vocabulary: number
  /** The longest text that is taken, in UTF-16 units; bounds time and memory. Default 2 Mi. */
  readonly charactersMax?: number
}

const TOKENIZER_BYTES_MAX = 1 << 28
const CHARACTERS_MAX = 1 << 21

/** @throws UserError if tokenizer.json is missing, broken or of an unsupported kind */
export const openTokenizer = async (
  folder: string, { vocabulary, charactersMax = CHARACTERS_MAX }: TokenizerOptions,
): Promise<Tokenizer> => {
  const path = join(folder, 'tokenizer.json')
  const json = faithful(await readJson(path, { bytesMax: TOKENIZER_BYTES_MAX }), path)
  let library: HuggingFaceTokenizer
  try {
    library = new HuggingFaceTokenizer(json, {})
  } catch (cause) {
    throw new UserError(`"${path}" cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }

  const encode = (text: string, what: string, specials: boolean): number[] => {
    if (text.length > charactersMax)
      throw new DeadLetterError('tokenize', `the ${what} has ${text.length} characters; ${charactersMax} is the most`)
    const { ids } = library.encode(wellFormed(text), { add_special_tokens: specials })
    for (const id of ids)
      if (!Number.isInteger(id) || id < 0 || id >= vocabulary)
        throw new DeadLetterError(
          'tokenize', `the ${what} has token ${id} (${JSON.stringify(library.id_to_token(id) ?? null)}), the model a vocabulary of ${vocabulary}`,
        )
    return ids
  }
  const decode = (ids: readonly number[]): string =>
    ids.length === 0 ? '' : library.decode([...ids], { clean_up_tokenization_spaces: false })

  return {
    encodeDocument: (text) => encode(text, 'document', true),
    encodeQuery: ({ prompt, completion }) => {
      const head = encode(prompt, 'prompt', true)
      return { ids: [...head, ...encode(completion, 'completion', false)], promptLength: head.length }
    },
    decodeToken: (id) => decode([id]),
    decode,
  }
}

/** Lone surrogates are no text; as everywhere in Unicode they become U+FFFD. */
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, '\uFFFD')

/** GPT-2's pattern, as ByteLevel applies it; here for `\s` as Unicode has it. */
const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

const part = z.looseObject({ type: z.string() })
const isolated = (regex: string): JsonObject => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false })
const sequence = (...pretokenizers: readonly JsonObject[]): JsonObject => ({ type: 'Sequence', pretokenizers })

const schema = z.looseObject({
  normalizer: part.nullish(),
  pre_tokenizer: part.nullish(),
  post_processor: part.nullish(),
  decoder: part.nullish(),
  added_tokens: z
    .array(z.looseObject({ id: z.int().nonnegative(), content: z.string().min(1), single_word: z.boolean().optional() }))
    .nullish(),
  model: z.looseObject({
    type: z.string().optional(), // older files leave it out
    vocab: z.record(z.string(), z.int().nonnegative()),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
    dropout: z.number().nullish(),
    continuing_subword_prefix: z.string().nullish(),
  }),
})

/** tokenizer.json in parts that this library and the Rust one treat alike. */
const faithful = (json: JsonObject, path: string): JsonObject => {
  const refused = (what: string): UserError => new UserError(`"${path}": ${what} is not supported`)
  const type = z.looseObject({ model: part }).safeParse(json).data?.model.type
  if (type !== undefined && type !== 'BPE') throw refused(`model ${JSON.stringify(type)} (supported: BPE)`)
  const parsed = schema.safeParse(json)
  if (!parsed.success) {
    const [{ path: key, message }] = parsed.error.issues
    throw new UserError(`"${path}" is refused: ${key.join('.')}: ${message}`)
  }
  const t = parsed.data
  if (t.model.dropout) throw refused(`model.dropout = ${t.model.dropout}`)
  if (t.model.continuing_subword_prefix) throw refused('model.continuing_subword_prefix')
  const singular = t.added_tokens?.find((token) => token.single_word)
  if (singular !== undefined) throw refused(`single_word of added token ${JSON.stringify(singular.content)}`)

  const parts = (key: string, list: unknown): readonly z.output<typeof part>[] => {
    const found = z.array(part).safeParse(list)
    if (!found.success) throw new UserError(`"${path}" is refused: ${key} is no list of parts`)
    return found.data
  }
  const normalizer = (n: z.output<typeof part>): JsonObject => {
    switch (n.type) {
      case 'Sequence':
        return { ...n, normalizers: parts('normalizer.normalizers', n.normalizers).map(normalizer) }
      case 'NFC': case 'NFD': case 'NFKC': case 'NFKD': case 'Replace': case 'Prepend':
        return n
      default:
        throw refused(`normalizer ${JSON.stringify(n.type)}`)
    }
  }
  const preTokenizer = (p: z.output<typeof part>): JsonObject => {
    switch (p.type) {
      case 'Sequence':
        return { ...p, pretokenizers: parts('pre_tokenizer.pretokenizers', p.pretokenizers).map(preTokenizer) }
      case 'ByteLevel': {
        if (p.use_regex === false) return p
        const bytes = { ...p, use_regex: false, add_prefix_space: false }
        const prefix = { type: 'Metaspace', replacement: ' ', prepend_scheme: 'always' } // puts " " before what has none
        return sequence(...(p.add_prefix_space === true ? [prefix] : []), isolated(GPT2_PATTERN), bytes)
      }
      case 'Digits':
        return isolated(p.individual_digits === true ? '\\p{N}' : '\\p{N}+')
      case 'Metaspace': {
        if (p.split === false) return p
        const mark = typeof p.replacement === 'string' ? p.replacement : '▁'
        return sequence(p, isolated(`${mark}[^${mark}]*`))
      }
      case 'Split':
        if (p.behavior !== 'Isolated' && p.behavior !== 'Removed') throw refused(`pre_tokenizer Split with behavior ${JSON.stringify(p.behavior)}`)
        return p
      default:
        throw refused(`pre_tokenizer ${JSON.stringify(p.type)}`)
    }
  }
  return {
    ...json,
    model: { ...t.model, type: 'BPE' },
    added_tokens: t.added_tokens ?? [],
    normalizer: t.normalizer ? normalizer(t.normalizer) : null,
    pre_tokenizer: t.pre_tokenizer ? preTokenizer(t.pre_tokenizer) : null,
    post_processor: t.post_processor ?? null,
    decoder: t.decoder ?? null,
  }
}
