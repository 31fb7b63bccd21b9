/**
 * @file Documents and queries as token ids, for both sides of the comparison with the peer: what is measured does not
 * hang on who tokenizes, or cuts, how.
 *
 *     node dist/bench/peer/make-inputs.js --model DIR --text SHARDS --queries FILE.jsonl --out DIR
 *         [--tokens 512] [--documents 32] [--queries-max 100]
 *
 * SHARDS is a folder of .jsonl files with a `text` (such as examples/factbook/.cache/corpus-long). Their texts are
 * joined, with a blank line between, and cut into documents of exactly so many tokens: nothing is padded on either
 * side. Where the file has fewer queries than wanted, two-step arithmetic with its solution makes up for it.
 *
 * Writes documents.jsonl, {"tokens": [...]} a line, and queries.jsonl, {"id", "tokens": [...], "prompt": n} where the
 * first n tokens are the prompt.
 */
import { Tokenizer } from '@huggingface/tokenizers'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { pathToFileURL } from 'node:url'
import { UserError } from '../../src/base/index.js'

/** Text → ids. `specials`: with what the tokenizer puts around a text by itself. */
export type Encode = (text: string, options: { readonly specials: boolean }) => readonly number[]

export interface TextQuery {
  readonly id: string
  readonly prompt: string
  readonly completion: string
}

/** Texts → `documents` lists of exactly `tokens` ids. @throws UserError if the texts are too short for that */
export const cutDocuments = (
  texts: Iterable<string>, { encode, tokens, documents }: { readonly encode: Encode; readonly tokens: number; readonly documents: number },
): readonly (readonly number[])[] => {
  const out: (readonly number[])[] = []
  let held: number[] = []
  for (const text of texts) {
    if (out.length === documents) break
    held = [...held, ...encode(held.length === 0 ? text : `\n\n${text}`, { specials: held.length === 0 })]
    if (held.length >= tokens) {
      out.push(held.slice(0, tokens))
      held = [] // the rest of this text is left out, so that a document begins where a text does
    }
  }
  if (out.length < documents)
    throw new UserError(`the texts make ${out.length} documents of ${tokens} tokens, ${documents} are wanted`, {
      fix: 'give more text, or ask for fewer or shorter documents',
    })
  return out
}

/** A query's ids: prompt and completion tokenized apart and joined (docs/method.md §2). */
export const encodeQuery = (
  { id, prompt, completion }: TextQuery, encode: Encode,
): { readonly id: string; readonly tokens: readonly number[]; readonly prompt: number } => {
  const ids = encode(prompt, { specials: true })
  return { id, tokens: [...ids, ...encode(completion, { specials: false })], prompt: ids.length }
}

/** The queries given, and arithmetic until there are `count`. */
export const filledUp = (given: readonly TextQuery[], count: number): readonly TextQuery[] => [
  ...given.slice(0, count),
  ...Array.from({ length: Math.max(0, count - given.length) }, (_, at): TextQuery => {
    const [a, b, c] = [3 + (at % 17), 2 + ((at * 7) % 13), 2 + ((at * 5) % 11)]
    return {
      id: `filler-${at}`,
      prompt: `What is (${a} + ${b}) * ${c}? Think step by step.\n`,
      completion: `${a} + ${b} = ${a + b}\n${a + b} * ${c} = ${(a + b) * c}\nThe answer is ${(a + b) * c}.`,
    }
  }),
]

const main = (): void => {
  const { values } = parseArgs({
    options: {
      model: { type: 'string' },
      text: { type: 'string' },
      queries: { type: 'string' },
      out: { type: 'string' },
      tokens: { type: 'string', default: '512' },
      documents: { type: 'string', default: '32' },
      'queries-max': { type: 'string', default: '100' },
    },
  })
  const given = (name: 'model' | 'text' | 'queries' | 'out'): string => {
    const value = values[name]
    if (value === undefined) throw new UserError(`--${name} is missing`)
    return value
  }
  const whole = (name: 'tokens' | 'documents' | 'queries-max'): number => {
    const value = Number(values[name])
    if (!Number.isSafeInteger(value) || value < 1) throw new UserError(`--${name} ${values[name]} is no whole number above 0`)
    return value
  }
  const [model, text, out] = [given('model'), given('text'), given('out')]
  const lines = <T>(path: string): readonly T[] =>
    readFileSync(path, 'utf8').split('\n').filter((line) => line.trim() !== '').map((line) => JSON.parse(line) as T)
  const json = (name: string): object => JSON.parse(readFileSync(join(model, name), 'utf8')) as object

  const tokenizer = new Tokenizer(json('tokenizer.json'), json('tokenizer_config.json'))
  const encode: Encode = (some, { specials }) => tokenizer.encode(some, { add_special_tokens: specials }).ids
  const texts = readdirSync(text).filter((name) => name.endsWith('.jsonl')).sort()
    .map((name) => lines<{ readonly text: string }>(join(text, name)).map((line) => line.text))
  const documents = cutDocuments(alternating(texts), { encode, tokens: whole('tokens'), documents: whole('documents') })
  const queries = filledUp(lines<TextQuery>(given('queries')), whole('queries-max')).map((query) => encodeQuery(query, encode))

  const write = (name: string, rows: readonly object[]): void =>
    writeFileSync(join(out, name), rows.map((row) => JSON.stringify(row) + '\n').join(''))
  mkdirSync(out, { recursive: true })
  write('documents.jsonl', documents.map((tokens) => ({ tokens })))
  write('queries.jsonl', queries)
  process.stderr.write(`${out}: ${documents.length} documents of ${values.tokens} tokens, ${queries.length} queries\n`)
}

/** The first of every list, then the second, and so on: every source has its part, however few documents are cut. */
export function* alternating<T>(lists: readonly (readonly T[])[]): Generator<T> {
  const longest = Math.max(0, ...lists.map((list) => list.length))
  for (let at = 0; at < longest; at++) for (const list of lists) if (at < list.length) yield list[at]
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  try {
    main()
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    process.stderr.write(`${error.message}${error.fix === undefined ? '' : `\n  ${error.fix}`}\n`)
    process.exitCode = 1
  }
