/** @file The text of each token of a document, so that all of them together are the text. */
import type { Tokenizer } from '../model/index.js'

/** Tokens that one character may be spread over: a character has 4 bytes, a token of byte-level BPE at least one. */
const spreadMax = 8

/**
 * A text for each token. A character that is spread over several tokens stands with the last of them, those before have
 * an empty text. Decoders treat a text's beginning in their own way, so each token is decoded behind the ones before it.
 */
export const tokenTexts = (tokens: readonly number[], tokenizer: Pick<Tokenizer, 'decode'>): readonly string[] => {
  const texts: string[] = []
  /** Tokens from `known` on are decoded again each time; those from `open` on are not given out yet. */
  let known = 0
  let open = 0
  for (let at = 0; at < tokens.length; at++) {
    const before = tokenizer.decode(tokens.slice(known, open))
    const text = tokenizer.decode(tokens.slice(known, at + 1))
    const isWhole = !text.endsWith('\ufffd') && text.length > before.length
    if (!isWhole && at + 1 < tokens.length && at + 1 - open < spreadMax) {
      texts.push('')
      continue
    }
    texts.push(text.slice(before.length))
    known = open
    open = at + 1
  }
  return texts
}
