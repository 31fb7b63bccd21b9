/**
 * @file The partitions of a run that this worker owns now. Assignments come and are lost while the pass goes on: on one
 * machine all come at once and stay, on a cluster workers join and leave.
 */
import type { Assignment } from '../log/index.js'

export interface Ownership {
  /** What is owned now, by partition. Throws what ended the assignments, if they failed. */
  current(): readonly Assignment[]
  /** Resolves when something was assigned or lost since `current` was asked last, when so long has passed, or when the signal is aborted. */
  changed(options: { readonly signal: AbortSignal; readonly msMax: number }): Promise<void>
}

/** Gathers assignments as they come; ends with them. */
export const ownership = (assignments: AsyncIterable<Assignment>): Ownership => {
  const owned = new Set<Assignment>()
  let failure: { readonly error: unknown } | undefined
  const waiting = new Set<() => void>()
  /** Changes until now, and those that `current` has told of. */
  let changes = 0
  let told = 0
  const tell = (): void => {
    changes++
    for (const wake of [...waiting]) wake()
  }
  const gather = async (): Promise<void> => {
    for await (const assignment of assignments) {
      // The newer one counts where the older one's loss is not heard of yet.
      for (const older of owned) if (older.partition === assignment.partition) owned.delete(older)
      if (assignment.lost.aborted) continue
      owned.add(assignment)
      assignment.lost.addEventListener('abort', () => {
        owned.delete(assignment)
        tell()
      }, { once: true })
      tell()
    }
  }
  gather().catch((error: unknown) => {
    failure = { error }
    tell()
  })
  return {
    current: () => {
      if (failure !== undefined) throw failure.error
      told = changes
      return [...owned].filter(({ lost }) => !lost.aborted).sort((a, b) => a.partition - b.partition)
    },
    changed: ({ signal, msMax }) =>
      new Promise((resolve) => {
        const wake = (): void => {
          clearTimeout(timer)
          signal.removeEventListener('abort', wake)
          waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, msMax)
        signal.addEventListener('abort', wake)
        waiting.add(wake)
        if (signal.aborted || changes !== told) wake()
      }),
  }
}
