/**
 * @file Which member has which partitions. Sticky: a member keeps what it has, as long as nobody has more than one
 * partition above another; so a worker that comes or goes moves as few partitions (and their state) as can be. Pure.
 */

export interface Claim {
  readonly member: string
  /** What the member had in `generation`; of two that claim one partition the later generation has it. */
  readonly owned: readonly number[]
  readonly generation: number
}

/** @returns every partition once, ascending in each member */
export const assign = (claims: readonly Claim[], partitions: readonly number[]): ReadonlyMap<string, readonly number[]> => {
  const members = claims.toSorted((a, b) => b.generation - a.generation || (a.member < b.member ? -1 : 1))
  const left = new Set(partitions)
  const given = new Map<string, number[]>(members.map(({ member }) => [member, []]))
  const least = Math.floor(partitions.length / Math.max(1, members.length))
  // Those that have most may keep one more, as many members as there are partitions over.
  let over = partitions.length - least * members.length
  const kept = members.map(({ member, owned }) => ({ member, own: owned.filter((partition) => left.delete(partition)) }))
  for (const { member, own } of kept.toSorted((a, b) => b.own.length - a.own.length)) {
    const most = least + (own.length > least && over > 0 ? 1 : 0)
    if (most > least) over--
    const list = given.get(member) ?? []
    for (const [i, partition] of own.toSorted((a, b) => a - b).entries())
      if (i < most) list.push(partition)
      else left.add(partition)
  }
  for (const partition of [...left].sort((a, b) => a - b)) {
    let fewest: number[] | undefined
    for (const list of given.values()) if (fewest === undefined || list.length < fewest.length) fewest = list
    fewest?.push(partition)
  }
  for (const list of given.values()) list.sort((a, b) => a - b)
  return given
}
