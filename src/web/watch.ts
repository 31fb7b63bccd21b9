/**
 * @file One look at the log for everybody who watches: how far each topic is, and what of each run has changed. It looks
 * while somebody watches, and once when asked; it knows nothing that is not in the topics, so any number of servers over
 * one log tell the same.
 */
import { runId } from '../base/index.js'
import type { Log, TopicInfo, TopicName } from '../log/index.js'
import { DeadLetterIndex } from './dead-letter-index.js'
import { InfluenceIndex, type RunActivity } from './influence-index.js'

/** Blocks of the indexes that are read between two looks at the topics at most. */
const blocksMax = 64
/** Changed tables that are read one by one; when more changed at once, all queries count as changed. */
const changesMax = 20_000
const changeBounds = { recordsMax: 256, bytesMax: 4 << 20 } as const

export interface PartitionProgress {
  readonly partition: number
  /** Records of `documents` that the run is done with: the next one to look at. */
  readonly position: number
  readonly end: number
  readonly lag: number
}

export interface RunProgress {
  readonly run: string
  /** The place in the topics that this tells of; the id of its event. */
  readonly id: string
  /** Documents in the log, and how many of them are still to be scored. */
  readonly documents: number
  readonly lag: number
  readonly partitions: readonly PartitionProgress[]
  readonly activity: RunActivity
  /** Of this run. */
  readonly deadLetters: number
  /** Records of `influence` not yet looked at by this server: until it is 0, counts and searches by document lack them. */
  readonly unread: number
}

/** What a client is told to ask for again. */
export interface Changed {
  /** Ids of queries whose tables changed; null: any may have. */
  readonly queries: readonly string[] | null
  readonly moments: boolean
  /** Some came, or some are to be tried again, or were. */
  readonly deadLetters: boolean
}

/** The topics whose ends make an id, in its order. */
const watched = ['documents', 'influence', 'tables', 'moments', 'rescored', 'dead-letters', 'retries'] as const
type Watched = (typeof watched)[number]

export class LogWatch {
  readonly log: Log
  readonly influence: InfluenceIndex
  readonly deadLetters: DeadLetterIndex
  readonly #now: () => number
  readonly #everyMs: number
  #topics = new Map<TopicName, TopicInfo>()
  /** Records of `tables` read, a partition each; undefined before the first look. */
  #tablesRead: number[] | undefined
  /** The sum of the ends of `tables` when changes began to be known. */
  #knownSince = 0
  /** Run → query → the sum of the ends of `tables` when its table was seen to have changed. */
  readonly #changedAt = new Map<string, Map<string, number>>()
  #looking: Promise<void> | undefined
  #watchers = 0
  #timer: NodeJS.Timeout | undefined
  #waiting = new Set<() => void>()
  #closed = false

  constructor(log: Log, { now, everyMs }: { readonly now: () => number; readonly everyMs: number }) {
    this.log = log
    this.influence = new InfluenceIndex(log)
    this.deadLetters = new DeadLetterIndex(log)
    this.#now = now
    this.#everyMs = everyMs
  }

  topic(name: TopicName): TopicInfo | undefined {
    return this.#topics.get(name)
  }

  /** Looks at the topics now. Calls that come while one is under way share it. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined))
    return this.#looking
  }

  /** Reads the indexes to the ends that are known now: what a request about one document needs. */
  async catchUp(signal: AbortSignal): Promise<void> {
    do await this.look()
    while (this.#unread() > 0 && !signal.aborted && !this.#closed)
  }

  /** Looks every so often until it is disposed. */
  watching(): Disposable {
    if (this.#watchers++ === 0) void this.#tick()
    let ended = false
    return {
      [Symbol.dispose]: () => {
        if (ended) return
        ended = true
        if (--this.#watchers > 0) return
        clearTimeout(this.#timer)
      },
    }
  }

  /** Resolves after the next look, or when the signal is aborted. */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      if (signal.aborted || this.#closed) return resolve()
      this.#waiting.add(done)
      signal.addEventListener('abort', done)
    })
  }

  async progress(run: string): Promise<RunProgress> {
    const { ends, starts } = this.#topics.get('documents') ?? { ends: [], starts: [] }
    const positions = (await this.log.positions(runId(run))).map(({ offset }) => offset)
    const partitions = ends.map((end, partition) => {
      const position = Math.max(positions[partition] ?? 0, starts[partition])
      return { partition, position, end, lag: Math.max(0, end - position) }
    })
    return {
      run,
      id: [...watched.map((name) => this.#sum(name)), sum(positions)].join('-'),
      documents: ends.reduce((all, end, partition) => all + end - starts[partition], 0),
      lag: sum(partitions.map(({ lag }) => lag)),
      partitions,
      activity: this.influence.activity(run, this.#now()),
      deadLetters: sum(this.deadLetters.counts(run).map(({ count }) => count)),
      unread: this.#unread(),
    }
  }

  /** What changed of a run since an event; everything if that was before this server began, or of another log. */
  changedSince(run: string, id: string | undefined): Changed {
    const before = idParts(id)
    const sums = watched.map((name) => this.#sum(name))
    const all = { queries: null, moments: true, deadLetters: true }
    if (before === undefined || sums.some((end, at) => end < before[at])) return all
    const grew = (name: Watched): boolean => sums[watched.indexOf(name)] > before[watched.indexOf(name)]
    const tablesThen = before[watched.indexOf('tables')]
    const isKnown = tablesThen >= this.#knownSince && !grew('rescored')
    const changed = [...(this.#changedAt.get(run) ?? [])].flatMap(([query, at]) => (at > tablesThen ? [query] : []))
    return { queries: isKnown ? changed : null, moments: grew('moments'), deadLetters: grew('dead-letters') || grew('retries') }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const done of [...this.#waiting]) done()
  }

  async #tick(): Promise<void> {
    // A look that fails is tried again: the log may be on another machine.
    await this.look().catch(() => undefined)
    for (const done of [...this.#waiting]) done()
    if (this.#watchers === 0 || this.#closed) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#tick(), this.#unread() > 0 ? 0 : this.#everyMs)
  }

  async #look(): Promise<void> {
    if (this.#closed) return
    this.#topics = new Map((await this.log.describe()).map((info) => [info.topic, info]))
    await this.#readChanges()
    const [influence, letters] = [this.#topics.get('influence'), this.#topics.get('dead-letters')]
    for (let block = 0, more = true; more && block < blocksMax && !this.#closed; block++) {
      const moreInfluence = await this.influence.read(influence?.starts ?? [], influence?.ends ?? [])
      const moreLetters = await this.deadLetters.read(letters?.starts ?? [], letters?.ends ?? [])
      more = moreInfluence || moreLetters
      // Whoever waits for an answer comes first.
      if (more) await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** Which tables were written since the last look. */
  async #readChanges(): Promise<void> {
    const info = this.#topics.get('tables')
    if (info === undefined) return
    const total = sum(info.ends)
    if (this.#tablesRead === undefined || total - sum(this.#tablesRead) > changesMax) {
      this.#tablesRead = [...info.ends]
      this.#knownSince = total
      this.#changedAt.clear()
      return
    }
    for (const [partition, end] of info.ends.entries()) {
      for (let at = this.#tablesRead[partition] ?? 0; at < end; this.#tablesRead[partition] = at) {
        const records = await this.log.read('tables', partition, at, changeBounds)
        for (const { value } of records) if (value !== undefined) this.#changed(value.run, value.query, total)
        // Older values of a compacted topic are gone: only the newest of each key comes.
        at = records.length === 0 ? end : records[records.length - 1].offset + 1
      }
    }
  }

  #changed(run: string, query: string, at: number): void {
    const queries = this.#changedAt.get(run) ?? new Map<string, number>()
    queries.set(query, at)
    this.#changedAt.set(run, queries)
  }

  #sum(name: TopicName): number {
    return sum(this.#topics.get(name)?.ends ?? [])
  }

  #unread(): number {
    return Math.max(0, this.#sum('influence') - sum(this.influence.reached))
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

const idParts = (id: string | undefined): readonly number[] | undefined => {
  const parts = id?.split('-').map(Number)
  return parts !== undefined && parts.length === watched.length + 1 && parts.every(Number.isSafeInteger) ? parts : undefined
}
