/**
 * @file Trying a run's dead letters again: what was asked for and what came of it, topic `retries`.
 *
 * Stream processors re-publish a dead letter to their input topic. Here the input, `documents`, is shared by all runs,
 * and a document has one identity and one place in it: a second copy would be counted twice by every run that scored the
 * first one well. So nothing is published again. Whoever wants a retry writes that down, a record of its own beside the
 * run's state in the dead letter's partition; the worker of the run that owns this partition reads the document where it
 * has always lain, and commits its scores, the tables and the answer to the retry in one transaction, at the position
 * where it is. Then
 *
 *   - nothing is counted twice: the answer is a part of the state that a worker restores, only the owner of the partition
 *     writes it, and a retry that was answered with `done` is never begun again, however often it is asked for;
 *   - other runs see nothing of it;
 *   - whoever is killed when leaves all of a retry or nothing: what was asked for is answered by the next worker;
 *   - a retry that fails again leaves its cause, and may be asked for again (after an upgrade, say) by a higher attempt;
 *   - a run that is reset loses its retries with its state, and an owner believes a request only if the dead letter that
 *     it names is there and is the run's own.
 */
import { keyOf, type Log, type LogRecord, type NewRecord, type RetryValue } from '../log/index.js'

/** In the place of a run in the key, for dead letters of ingest: no run has a space in its name. */
const noRun = 'no run'

/** @param value `wanted` is written by who asks, the other states by who answers: they have a key each and never overwrite one another */
export const retryRecord = (value: RetryValue): NewRecord<'retries'> => ({
  topic: 'retries',
  key: keyOf(value.run ?? noRun, value.partition, value.offset, value.state === 'wanted' ? 'wanted' : 'ended'),
  partition: value.partition,
  value,
})

/** What is known of the retries of one dead letter. */
interface Known {
  wanted: RetryValue | undefined
  ended: RetryValue | undefined
}

export interface RetryStatus {
  readonly state: 'never' | RetryValue['state']
  /** Of the newest answer; 0 without one. */
  readonly attempt: number
  /** Why it failed again. */
  readonly cause: string | null
}

/** Retries as their records say, in whatever order these come. Holds one entry a dead letter that was ever retried. */
export class Retries {
  readonly #known = new Map<string, Known>()

  add(values: Iterable<RetryValue>): void {
    for (const value of values) {
      const at = placeOf(value)
      const known = this.#known.get(at) ?? { wanted: undefined, ended: undefined }
      const side = value.state === 'wanted' ? 'wanted' : 'ended'
      if ((known[side]?.attempt ?? 0) < value.attempt) known[side] = value
      this.#known.set(at, known)
    }
  }

  /** What was asked for and not answered yet, by partition and offset. */
  get open(): readonly RetryValue[] {
    return [...this.#known.values()]
      .flatMap((known) => (known.wanted !== undefined && isOpen(known) ? [known.wanted] : []))
      .sort((a, b) => a.partition - b.partition || a.offset - b.offset)
  }

  /** The documents, as offsets of `documents`, whose retry succeeded in a partition. */
  documentsDone(partition: number): ReadonlySet<number> {
    const done = new Set<number>()
    for (const { ended } of this.#known.values())
      if (ended?.state === 'done' && ended.partition === partition && ended.document !== null) done.add(ended.document)
    return done
  }

  of(place: { readonly partition: number; readonly offset: number }): RetryStatus {
    const known = this.#known.get(placeOf(place))
    const { attempt = 0, cause = null } = known?.ended ?? {}
    if (known === undefined) return { state: 'never', attempt, cause }
    return { state: isOpen(known) ? 'wanted' : (known.ended?.state ?? 'never'), attempt, cause }
  }
}

/** The retries of a run, or of all there are. An older log has no such topic yet. */
export const readRetries = async (log: Log, run?: string): Promise<Retries> => {
  const retries = new Retries()
  if ((await log.describe()).some(({ topic }) => topic === 'retries'))
    retries.add(retryValues(await log.latest('retries', run === undefined ? '' : keyOf(run, ''))))
  return retries
}

/** Those of the records that are retries and can be read. */
export const retryValues = (records: readonly LogRecord[]): readonly RetryValue[] =>
  records.flatMap((record) => (record.topic === 'retries' && record.value !== undefined ? [record.value as RetryValue] : []))

const isOpen = ({ wanted, ended }: Known): boolean => wanted !== undefined && ended?.state !== 'done' && wanted.attempt > (ended?.attempt ?? 0)

const placeOf = ({ partition, offset }: { readonly partition: number; readonly offset: number }): string => `${partition}:${offset}`
