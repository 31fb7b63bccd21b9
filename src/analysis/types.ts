/** @file The words of this folder; see index.ts for its law. */
import type { Scored } from '../table/index.js'

/** Raw influence, or influence over the norm of the document's gradient (docs/method.md §1). */
export const scoreKinds = ['raw', 'normed'] as const
export type ScoreKind = (typeof scoreKinds)[number]

/** The end of the scores that a list is of. */
export const ends = ['top', 'bottom'] as const
export type ListEnd = (typeof ends)[number]

/** A query as the analyses need it. */
export interface AnalysedQuery {
  readonly id: string
  readonly prompt: string
  readonly completion: string
  /** `factual`, `reasoning`, `control` are known by name; any other is a group of its own. */
  readonly group: string
  readonly task: string
  readonly answer: string | null
  readonly steps: readonly string[]
  /** −f; influence per nat is influence over this. */
  readonly informationNats: number
  /** Whether the completion is right; null: nobody said. */
  readonly correct: boolean | null
  /** What a document must be labelled with to be what this query needs (planted truth, or labels by hand). */
  readonly labels: readonly string[]
}

/** A scored document (or piece) with what else the analyses look at. */
export interface AnalysedDocument extends Scored {
  /** The whole document's text; null where there is none (kept no longer, or tokens only). */
  readonly text: string | null
  readonly labels: readonly string[]
}

/** Where a document stands in `documents`: partition and offset as one number (`placeOf`). */
export type Place = number

/** Offsets stay below this: 8.8 million million documents a partition, in the 53 bits of a number. */
const offsetsMax = 2 ** 43

/** Partition and offset as one number, ordered by both. @throws RangeError for offsets of 2^43 or partitions of 1024 and more */
export const placeOf = (partition: number, offset: number): Place => {
  if (!(partition < 1024 && offset < offsetsMax)) throw new RangeError(`partition ${partition}, offset ${offset} is out of range`)
  return partition * offsetsMax + offset
}

export const partitionOfPlace = (place: Place): number => Math.floor(place / offsetsMax)
export const offsetOfPlace = (place: Place): number => place % offsetsMax

/** Whether a group holds controls. */
export const isControl = ({ group }: Pick<AnalysedQuery, 'group'>): boolean => group.toLowerCase().startsWith('control')

/** Group and task: queries of one cell ask for the same thing. */
export const cellOf = ({ group, task }: Pick<AnalysedQuery, 'group' | 'task'>): string => (task === '' || task === group ? group : `${group}/${task}`)

/** Items by a key, in the order in which keys come. */
export const groupedBy = <T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> => {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const group = groups.get(key(item))
    if (group === undefined) groups.set(key(item), [item])
    else group.push(item)
  }
  return groups
}
