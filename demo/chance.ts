/** @file Seeded choices for the demo's generators: each document has its own stream, named by a path of words. */
import { seedOf, uniforms } from '../src/base/random.js'

export interface Chance {
  /** A uniform integer in [from, to], both ends included. */
  readonly int: (from: number, to: number) => number
  readonly pick: <T>(choices: readonly T[]) => T
  /** A new array in random order (Fisher-Yates). */
  readonly shuffle: <T>(items: readonly T[]) => T[]
}

/** The stream of choices named by `path`: equal seeds and paths give equal choices, whatever was drawn elsewhere. */
export const chanceOf = (seed: number, path: string): Chance => {
  const next = uniforms(seedOf(`${seed}/${path}`))
  const int = (from: number, to: number): number => from + Math.floor(next() * (to - from + 1))
  return {
    int,
    pick: (choices) => choices[int(0, choices.length - 1)],
    shuffle: (items) => {
      const shuffled = [...items]
      for (let i = shuffled.length - 1; i > 0; i--) {
        const j = int(0, i)
        ;[shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]]
      }
      return shuffled
    },
  }
}

/** Puts words into `{slots}`; a slot without a word is an error of the template. */
export const fill = (template: string, words: Readonly<Record<string, string | number>>): string =>
  template.replace(/\{(\w+)\}/g, (slot, name: string) => {
    if (!(name in words)) throw new Error(`template "${template}" has the unknown slot ${slot}`)
    return String(words[name])
  })
