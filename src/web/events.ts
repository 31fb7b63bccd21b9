/**
 * @file The stream of events of a run (server-sent events). Each client gets at most one event per throttle, always of
 * the newest state: a slow client misses states, never the last one, and nothing queues up for it.
 */
import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import { pause } from '../base/index.js'
import { HttpProblem } from './problem.js'
import type { Changed, LogWatch, RunProgress } from './watch.js'

/** Streams at a time: each costs a look at the run's positions per throttle. */
const streamsMax = 64
/** A comment is sent when nothing else was for so long, so that a connection that is gone is noticed. */
const heartbeatMs = 15_000
/** What a browser waits before it connects again. */
const retryMs = 1_000

export interface EventOptions {
  readonly watch: LogWatch
  readonly throttleMs: number
  readonly now: () => number
  /** Aborted when the server closes. */
  readonly signal: AbortSignal
}

export interface ProgressEvent extends RunProgress {
  readonly changed: Changed
}

/** A handler of /api/runs/{run}/events; `run` is known to exist. */
export const eventStreams = ({ watch, throttleMs, now, signal: closing }: EventOptions): ((context: Context, run: string) => Response) => {
  let streams = 0
  return (context, run) => {
    if (streams >= streamsMax) throw new HttpProblem(503, `${streamsMax} pages are being told of changes already`, { fix: 'close one of them' })
    streams++
    const gone = new AbortController()
    const signal = AbortSignal.any([gone.signal, closing])
    const lastId = context.req.header('last-event-id')?.slice(0, 200)
    // Set here, since a stream's headers are sent before its first event.
    context.header('cache-control', 'no-store')
    context.header('x-accel-buffering', 'no')
    return streamSSE(context, async (stream) => {
      stream.onAbort(() => gone.abort())
      const watching = watch.watching()
      try {
        let id = lastId
        let sentMs = now()
        await stream.write(`retry: ${retryMs}\n\n`)
        await watch.look().catch(() => undefined)
        for (let isFirst = true; !signal.aborted; isFirst = false) {
          const progress = await watch.progress(run).catch(() => undefined)
          if (progress !== undefined && (progress.id !== id || isFirst || isLive(progress))) {
            const event: ProgressEvent = { ...progress, changed: watch.changedSince(run, id) }
            await stream.writeSSE({ event: 'progress', id: progress.id, data: JSON.stringify(event) })
            id = progress.id
            sentMs = now()
          } else if (now() - sentMs >= heartbeatMs) {
            await stream.write(': nothing new\n\n')
            sentMs = now()
          }
          await pause(throttleMs, signal)
          await watch.next(signal)
        }
      } finally {
        streams--
        watching[Symbol.dispose]()
        gone.abort()
      }
    })
  }
}

/** Whether its numbers change though no topic does: the rate of the last seconds falls, the index is being read. */
const isLive = ({ activity, unread }: RunProgress): boolean => activity.rate.documents > 0 || unread > 0
