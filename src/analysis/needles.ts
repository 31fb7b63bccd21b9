/**
 * @file Answers and steps as sequences of words, numbers and signs, and finding them in a text. White space, case and the
 * shape of a minus do not count; a number is found whole ("4" is not in "42", "1.5" or "-4").
 */
import type { AnalysedQuery } from './types.js'

/** A number (with its fraction and groups), a word, or one other sign. */
const pattern = /\d+(?:[.,]\d+)*|[\p{L}\p{M}]+|[^\s\p{L}\p{M}\d]/gu

/**
 * Words, numbers and signs of a text. A minus belongs to the number after it where nothing can be subtracted from: after
 * a sign that is not a closing bracket, at the start, or after white space with none behind it ("is -3", not "5 - 3").
 */
export const wordsOf = (text: string): string[] => {
  const normal = text.normalize('NFKC').replace(/[\u2212\u2010-\u2013]/g, '-').toLowerCase()
  const words: string[] = []
  let end = 0
  let isNegative = false
  for (const match of normal.matchAll(pattern)) {
    const [word] = match
    const isNumber = /^\d/.test(word)
    if (isNegative && isNumber) words[words.length - 1] = `-${word}`
    else words.push(word)
    const before = words.length < 2 ? '' : words[words.length - 2]
    const isSpaced = match.index > end || match.index === 0
    const isGlued = /\d/.test(normal[match.index + 1] ?? '')
    isNegative = word === '-' && isGlued && (before === '' || /^[^\p{L}\p{N})\]}-]$/u.test(before) || (isSpaced && /^[\p{L}]/u.test(before)))
    end = match.index + word.length
  }
  return words
}

/** What is looked for, in the order of `needlesOf`. */
export interface Needle {
  /** As it was given. */
  readonly text: string
  readonly words: readonly string[]
}

const trimmed = (words: readonly string[]): readonly string[] => {
  const end = words.findLastIndex((word) => !/^[.,;:!?]$/.test(word))
  return words.slice(0, end + 1)
}

/** All answers and steps of some queries, each once. A function of the queries alone. */
export const needlesOf = (queries: readonly Pick<AnalysedQuery, 'answer' | 'steps'>[]): Needle[] => {
  const needles = new Map<string, Needle>()
  for (const { answer, steps } of queries)
    for (const text of [...(answer === null ? [] : [answer]), ...steps]) {
      const words = trimmed(wordsOf(text))
      if (words.length > 0) needles.set(words.join(' '), { text, words })
    }
  return [...needles.values()]
}

/** Finds which needles a text holds: their indices, ascending. */
export type Finder = (words: readonly string[]) => number[]

export const finderOf = (needles: readonly Needle[]): Finder => {
  const byFirst = new Map<string, number[]>()
  needles.forEach(({ words }, index) => byFirst.set(words[0], [...(byFirst.get(words[0]) ?? []), index]))
  return (words) => {
    const found = new Set<number>()
    for (let at = 0; at < words.length; at++)
      for (const index of byFirst.get(words[at]) ?? [])
        if (!found.has(index) && needles[index].words.every((word, i) => words[at + i] === word)) found.add(index)
    return [...found].sort((a, b) => a - b)
  }
}

/** The indices of a text's needle; undefined for text without words. */
export const needleIndex = (needles: readonly Needle[]): ((text: string) => number | undefined) => {
  const byWords = new Map(needles.map(({ words }, index) => [words.join(' '), index]))
  return (text) => byWords.get(trimmed(wordsOf(text)).join(' '))
}

const stopwords = new Set(
  'a an and are as at be by for from has have how i in is it its of on or that the their then there this to was what when where which who will with you your'.split(' '),
)

/** Single words that carry content, and pairs of neighbours, of a query's prompt and completion. */
export const keywordsOf = (query: Pick<AnalysedQuery, 'prompt' | 'completion'>): ReadonlySet<string> =>
  gramsOf(wordsOf(`${query.prompt} ${query.completion}`))

const gramsOf = (words: readonly string[]): Set<string> => {
  const grams = new Set<string>()
  words.forEach((word, at) => {
    const isContent = /[\p{L}\p{N}]/u.test(word) && !stopwords.has(word)
    if (isContent) grams.add(word)
    if (at > 0 && (isContent || !stopwords.has(words[at - 1]))) grams.add(`${words[at - 1]} ${word}`)
  })
  return grams
}

/** The share of a query's keywords and pairs that a text has. */
export const overlapOf = (keywords: ReadonlySet<string>, words: readonly string[]): number => {
  if (keywords.size === 0) return 0
  const own = gramsOf(words)
  let shared = 0
  for (const keyword of keywords) if (own.has(keyword)) shared++
  return shared / keywords.size
}
