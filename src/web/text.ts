/** @file What is shown of a long text: an excerpt around what was looked for. Copies, so that no cut keeps the whole. */

export interface Excerpt {
  readonly text: string
  /** What is highlighted: `[from, to)` in UTF-16 units of `text`. */
  readonly marks: readonly (readonly [from: number, to: number])[]
  /** Whether something was cut off before and after. */
  readonly cutBefore: boolean
  readonly cutAfter: boolean
}

const marksMax = 20

/** A string of its own: V8's slices keep the string they are of in memory. */
const copied = (text: string): string => Buffer.from(text, 'utf8').toString('utf8')

/** Not between the two halves of a surrogate pair. */
const whole = (text: string, at: number): number => {
  const code = text.charCodeAt(at)
  return at > 0 && code >= 0xdc00 && code <= 0xdfff ? at - 1 : at
}

/** Lower case of the same length, so that places agree; the few characters that grow are left as they are. */
export const folded = (text: string): string => {
  const lower = text.toLowerCase()
  return lower.length === text.length ? lower : Array.from({ length: text.length }, (_, at) => {
    const one = text[at].toLowerCase()
    return one.length === 1 ? one : text[at]
  }).join('')
}

/** Whether what stands at `[at, at + length)` is no part of a longer word or number: "8" is none of "18" or "8.5". */
const isWord = (text: string, at: number, length: number): boolean =>
  !(/[\p{L}\p{N}]$/u.test(text.slice(Math.max(0, at - 2), at)) && /^[\p{L}\p{N}]/u.test(text.slice(at, at + 2))) &&
  !(/[\p{L}\p{N}]$/u.test(text.slice(at + length - 2, at + length)) && /^([.,]?\p{N}|\p{L})/u.test(text.slice(at + length, at + length + 3))) &&
  !(/\p{N}[.,]$/u.test(text.slice(Math.max(0, at - 2), at)) && /^\p{N}/u.test(text.slice(at, at + 2)))

/** The next place of a term, −1 if there is none. @param term folded */
const placeOf = (lower: string, term: string, from: number, words: boolean): number => {
  let at = lower.indexOf(term, from)
  while (words && at >= 0 && !isWord(lower, at, term.length)) at = lower.indexOf(term, at + 1)
  return at
}

/** Whether a word or phrase stands in a text, in any case and not as part of a longer word. */
export const standsIn = (text: string, phrase: string): boolean => phrase !== '' && placeOf(folded(text), folded(phrase), 0, true) >= 0

export interface ExcerptOptions {
  /** Characters. */
  readonly length: number
  readonly terms?: readonly string[]
  /** Terms are whole words. */
  readonly words?: boolean
}

/** Some `length` characters around the first place of any of the terms; from the beginning if there is none. */
export const excerptOf = (text: string, { length, terms = [], words = false }: ExcerptOptions): Excerpt => {
  const lower = folded(text)
  const wanted = terms.map(folded).filter((term) => term !== '')
  const places = wanted.map((term) => placeOf(lower, term, 0, words)).filter((at) => at >= 0)
  const first = places.length === 0 ? 0 : Math.min(...places)
  const from = whole(text, text.length <= length ? 0 : Math.max(0, Math.min(first - Math.floor(length / 3), text.length - length)))
  const to = whole(text, Math.min(text.length, from + length))
  return { text: copied(text.slice(from, to)), marks: marksIn(lower.slice(from, to), wanted, words), cutBefore: from > 0, cutAfter: to < text.length }
}

/** Where the terms stand, in order, without overlap. @param terms folded */
const marksIn = (lower: string, terms: readonly string[], words: boolean): readonly (readonly [number, number])[] => {
  const marks: [number, number][] = []
  for (const term of terms)
    for (let at = placeOf(lower, term, 0, words); at >= 0 && marks.length < marksMax * 4; at = placeOf(lower, term, at + term.length, words))
      marks.push([at, at + term.length])
  marks.sort((a, b) => a[0] - b[0] || b[1] - a[1])
  const apart: [number, number][] = []
  for (const mark of marks) if (apart.length === 0 || mark[0] >= apart[apart.length - 1][1]) apart.push(mark)
  return apart.slice(0, marksMax)
}

/** The words of a search; what stands in double quotes is one. */
export const termsOf = (search: string): readonly string[] =>
  [...search.matchAll(/"([^"]+)"|(\S+)/g)].map(([, quoted, word]) => (quoted ?? word).trim()).filter((term) => term !== '' && term !== '"')
