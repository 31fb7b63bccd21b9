/** @file Several values on their way at once, their results in the order of the values. */
import { concatMap, defer, from, map, mergeMap, type ObservableInput, type OperatorFunction } from 'rxjs'

/**
 * Value → its one result, in the order of the values, whichever is ready first: who counts results knows which values
 * are done. Computes `inFlightMax` at once and holds results that wait for an earlier one (at most all: the source must
 * be bounded). An error comes when it happens; results that wait are then lost.
 */
export const mapInOrder =
  <V, R>(project: (value: V) => ObservableInput<R>, { inFlightMax }: { readonly inFlightMax: number }): OperatorFunction<V, R> =>
  (source) =>
    defer(() => {
      const waiting = new Map<number, R>()
      let next = 0
      return source.pipe(
        mergeMap((value, index) => from(project(value)).pipe(map((result) => [index, result] as const)), inFlightMax),
        concatMap(([index, result]) => {
          waiting.set(index, result)
          const ready: R[] = []
          while (waiting.has(next)) {
            ready.push(waiting.get(next) as R)
            waiting.delete(next++)
          }
          return from(ready)
        }),
      )
    })
