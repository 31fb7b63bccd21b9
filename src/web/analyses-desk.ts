/**
 * @file Who computes the analyses for the page, and when: one computation at a time, no more often than needed, its last
 * result kept. A request gets what is there at once, and is told whether it is of now.
 */
import { HttpProblem } from './problem.js'

/** What a computation came to; schemas.ts has its form. */
export type AnalysesResult = unknown
/** Computes the analyses of a run somewhere beside this server's own work. */
export type Analyse = (run: string, signal: AbortSignal) => Promise<AnalysesResult>

/** Results kept, runs that wait at a time. */
const keptMax = 8
const waitingMax = 4
/** A result that is behind is computed again after so long, or ten times as long as it took. */
const againMs = 15_000

interface Kept {
  readonly result: AnalysesResult
  /** The place in the topics when it was begun. */
  readonly id: string
  readonly endedMs: number
  readonly tookMs: number
}

export class AnalysesDesk {
  readonly #analyse: Analyse
  readonly #now: () => number
  readonly #signal: AbortSignal
  readonly #kept = new Map<string, Kept>()
  readonly #running = new Map<string, Promise<Kept>>()
  #last: Promise<unknown> = Promise.resolve()

  /** @param options.signal aborted when the server closes */
  constructor(analyse: Analyse, { now, signal }: { readonly now: () => number; readonly signal: AbortSignal }) {
    this.#analyse = analyse
    this.#now = now
    this.#signal = signal
  }

  /**
   * The newest result. The first one is waited for; later ones are computed while the one before is told.
   * @param id the place in the topics that a result of now would be of
   */
  async get(run: string, id: string): Promise<{ readonly result: AnalysesResult; readonly isCurrent: boolean }> {
    const kept = this.#kept.get(run)
    if (kept === undefined) {
      const first = await this.#start(run, id)
      return { result: first.result, isCurrent: first.id === id }
    }
    const isDue = kept.id !== id && this.#now() - kept.endedMs >= Math.max(againMs, 10 * kept.tookMs)
    if (isDue) this.#start(run, id).catch(() => undefined)
    return { result: kept.result, isCurrent: kept.id === id }
  }

  #start(run: string, id: string): Promise<Kept> {
    const running = this.#running.get(run)
    if (running !== undefined) return running
    if (this.#running.size >= waitingMax) throw new HttpProblem(503, `the analyses of ${waitingMax} runs are being computed already`, { fix: 'try again later' })
    const computed = this.#last.then(async () => {
      const beganMs = this.#now()
      const result = await this.#analyse(run, this.#signal)
      const kept = { result, id, endedMs: this.#now(), tookMs: this.#now() - beganMs }
      this.#kept.delete(run)
      this.#kept.set(run, kept)
      for (const oldest of this.#kept.keys()) if (this.#kept.size > keptMax) this.#kept.delete(oldest)
      return kept
    })
    const done = computed.finally(() => this.#running.delete(run))
    this.#running.set(run, done)
    this.#last = done.catch(() => undefined)
    return done
  }
}
