/** @file The part of a document that is shown, with answers and steps marked. */

/** A stretch of text, marked or not. */
export interface Stretch {
  readonly text: string
  readonly isMarked: boolean
}

/** Every place of some phrases in a text, whole and whatever their case or white space: `[from, to)`, ascending, apart. */
export const placesOfPhrases = (text: string, phrases: readonly string[]): [number, number][] => {
  const places: [number, number][] = []
  for (const phrase of phrases) {
    const parts = phrase.trim().split(/\s+/).filter((part) => part !== '').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    if (parts.length === 0) continue
    // A number is not marked inside another, a word not inside another.
    const pattern = new RegExp(`(?<![\\p{L}\\p{N}]|\\d[.,])${parts.join('\\s*')}(?![\\p{L}\\p{N}]|[.,]\\d)`, 'giu')
    for (const match of text.matchAll(pattern)) places.push([match.index, match.index + match[0].length])
  }
  places.sort((a, b) => a[0] - b[0] || b[1] - a[1])
  const apart: [number, number][] = []
  for (const [from, to] of places) {
    const last = apart[apart.length - 1]
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to)
    else apart.push([from, to])
  }
  return apart
}

/** At most `lengthMax` characters about the first marked place (the start where there is none), cut into stretches. */
export const excerptWithMarks = (text: string, phrases: readonly string[], lengthMax: number): Stretch[] => {
  const places = placesOfPhrases(text, phrases)
  const first = places[0]?.[0] ?? 0
  const from = first + 40 < lengthMax ? 0 : Math.max(0, Math.min(first - Math.floor(lengthMax / 3), text.length - lengthMax))
  const to = Math.min(text.length, from + lengthMax)
  const stretches: Stretch[] = []
  const add = (start: number, end: number, isMarked: boolean): void => {
    if (end > start) stretches.push({ text: text.slice(start, end), isMarked })
  }
  if (from > 0) stretches.push({ text: '… ', isMarked: false })
  let at = from
  for (const [start, end] of places) {
    if (end <= from || start >= to) continue
    add(at, Math.max(from, start), false)
    add(Math.max(from, start), Math.min(to, end), true)
    at = Math.min(to, end)
  }
  add(at, to, false)
  if (to < text.length) stretches.push({ text: ' …', isMarked: false })
  return stretches
}
