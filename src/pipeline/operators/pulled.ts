/** @file An Observable as something to pull from. */
import { takeWhile, type Observable } from 'rxjs'

/**
 * The values in order, errors thrown where they came. Holds what was pushed and not yet pulled: the source must be
 * bounded (a chunk). After `signal` is aborted one more value comes, the one that was being made, and then the end.
 */
export const pulled = async function* <V>(source: Observable<V>, signal: AbortSignal): AsyncGenerator<V, void, undefined> {
  const waiting: V[] = []
  let state: 'open' | 'done' | { readonly error: unknown } = 'open'
  let wake: () => void = () => {}
  const subscription = source.pipe(takeWhile(() => !signal.aborted, true)).subscribe({
    next: (value) => {
      waiting.push(value)
      wake()
    },
    error: (error: unknown) => {
      state = { error }
      wake()
    },
    complete: () => {
      state = 'done'
      wake()
    },
  })
  const ended = (): typeof state => state
  try {
    for (;;) {
      if (waiting.length > 0) yield* waiting.splice(0)
      else if (ended() === 'done') return
      else {
        const end = ended()
        if (typeof end === 'object') throw end.error
        await new Promise<void>((resolve) => (wake = resolve))
      }
    }
  } finally {
    subscription.unsubscribe()
  }
}
