/** @file Values that come by and by, for one reader. */

/** What is pushed comes out in order; after `end` the rest of it, after `fail` the error. One iteration at a time. */
export interface Queue<T> extends AsyncIterable<T> {
  push(value: T): void
  end(): void
  fail(error: unknown): void
}

export const queue = <T>(): Queue<T> => {
  const values: T[] = []
  let ended = false
  let failed: { readonly error: unknown } | undefined
  let wake: (() => void) | undefined
  const woken = (): void => wake?.()
  return {
    push: (value) => {
      if (ended || failed !== undefined) return
      values.push(value)
      woken()
    },
    end: () => {
      ended = true
      woken()
    },
    fail: (error) => {
      failed ??= { error }
      woken()
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        if (failed !== undefined) throw failed.error
        const value = values.shift()
        if (value !== undefined) yield value
        else if (ended) return
        else await new Promise<void>((resolve) => (wake = resolve))
      }
    },
  }
}
