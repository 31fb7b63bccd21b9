/**
 * @file Whether a worker is well. Ready: what it needs is restored and compiled. Healthy: it makes progress, or there is
 * nothing to do; one that does neither for `stallMs` is stalled, one whose work ended in an error has failed.
 */
import type { Observer } from '../pipeline/observer.js'

export type State = 'starting' | 'working' | 'idle' | 'done' | 'stalled' | 'failed'

export interface Health {
  readonly state: State
  readonly ready: boolean
  readonly healthy: boolean
  /** Since something was last done, seconds. */
  readonly quietSeconds: number
  /** Records of `documents` that wait; null: not known. */
  readonly lag: number | null
  /** A sentence for people. */
  readonly reason: string
}

export interface HealthOptions {
  /** Milliseconds, never backwards. */
  readonly clock: () => number
  readonly stallMs: number
}

/** Watches a work. `lag` is what is known of it when health is asked for. */
export class HealthObserver {
  readonly #clock: () => number
  readonly #stallMs: number
  #progressMs: number
  /** Since when records have been waiting while the worker sleeps; undefined: none are. */
  #waitingSinceMs: number | undefined
  #ready = false
  #idle = false
  /** A stage that is silent until it ends. */
  #quiet: string | undefined
  #end: 'done' | { readonly error: unknown } | undefined
  readonly observer: Observer

  constructor({ clock, stallMs }: HealthOptions) {
    this.#clock = clock
    this.#stallMs = stallMs
    this.#progressMs = clock()
    const progress = (): void => this.#progressed()
    this.observer = {
      ready: () => {
        this.#ready = true
        progress()
      },
      idle: () => {
        progress()
        this.#idle = true
      },
      quiet: (stage) => {
        progress()
        this.#quiet = stage
      },
      time: () => progress,
      batch: () => progress,
      documents: progress, duplicates: progress, deadLetters: () => {}, scores: () => {}, committed: progress, notCommitted: () => {},
      assigned: progress, lost: progress, cache: () => {}, engine: () => {},
    }
  }

  /** The work is over. */
  ended(error?: unknown): void {
    this.#end = error === undefined ? 'done' : { error }
  }

  #progressed(): void {
    this.#progressMs = this.#clock()
    this.#idle = false
    this.#quiet = undefined
    this.#waitingSinceMs = undefined
  }

  /** Milliseconds since something was last done. */
  get quietMs(): number {
    return this.#clock() - this.#progressMs
  }

  /** @param lag records that wait; null if nobody knows */
  read(lag: number | null): Health {
    const quietMs = this.quietMs
    const of = (state: State, reason: string): Health => ({
      state, ready: this.#ready, healthy: state !== 'stalled' && state !== 'failed', quietSeconds: quietMs / 1000, lag, reason,
    })
    const end = this.#end
    if (end === 'done') return of('done', 'the work is done')
    if (end !== undefined) return of('failed', `the work ended in an error: ${end.error instanceof Error ? end.error.message : String(end.error)}`)
    if (this.#quiet !== undefined) return of(this.#ready ? 'working' : 'starting', `in ${this.#quiet}, which takes as long as it takes`)
    const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`
    if (this.#idle) {
      if (lag === null || lag === 0) {
        this.#waitingSinceMs = undefined
        return of('idle', 'all documents are scored; waiting for more')
      }
      this.#waitingSinceMs ??= this.#clock()
      const waitedMs = this.#clock() - this.#waitingSinceMs
      return waitedMs < this.#stallMs
        ? of('working', `${lag} records have come`)
        : of('stalled', `${lag} records have been waiting for ${seconds(waitedMs)}, and nothing is done`)
    }
    if (quietMs >= this.#stallMs) return of('stalled', `nothing was done for ${seconds(quietMs)}${lag === null ? '' : `, and ${lag} records wait`}`)
    return this.#ready ? of('working', 'documents are worked on') : of('starting', 'queries are prepared, state is restored, the program is compiled')
  }
}
