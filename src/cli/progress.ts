/**
 * @file How far a long work is, on standard error: a bar where there is a terminal, a plain line every few seconds
 * otherwise. Rate, lag and time left come from the last minute of updates, so that a slow start does not haunt them.
 */
import cliProgress from 'cli-progress'
import type { Progress } from '../pipeline/context.js'

export { silentProgress, type Progress } from '../pipeline/context.js'

export interface ProgressOptions {
  readonly stream: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }
  /** Milliseconds; any clock that does not run backwards. */
  readonly now: () => number
  /** How often a plain line comes. */
  readonly everyMs?: number
  /** Over which time the rate is taken. */
  readonly windowMs?: number
}

/** 3725 → "1 h 02 min"; 65 → "1 min 05 s"; 9 → "9 s". */
export const formatSeconds = (seconds: number): string => {
  const s = Math.max(0, Math.round(seconds))
  const two = (n: number): string => String(n).padStart(2, '0')
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`
  return `${Math.floor(s / 86_400)} d ${two(Math.floor((s % 86_400) / 3600))} h`
}

const formatCount = (n: number): string => n.toLocaleString('en-US')
const formatRate = (n: number): string => (n >= 100 ? formatCount(Math.round(n)) : n.toPrecision(2))

/** Units a second over the last `windowMs`, from samples of (time, done). Holds some dozens of samples. */
class RateMeter {
  readonly #windowMs: number
  readonly #samples: { readonly atMs: number; readonly done: number }[] = []

  constructor(windowMs: number) {
    this.#windowMs = windowMs
  }

  add(atMs: number, done: number): void {
    const samples = this.#samples
    const last = samples[samples.length - 1]
    // One sample per hundredth of the window is enough; the newest always counts (see `perSecond`).
    if (last !== undefined && atMs - last.atMs < this.#windowMs / 100) return
    samples.push({ atMs, done })
    while (samples.length > 2 && atMs - samples[1].atMs >= this.#windowMs) samples.shift()
  }

  perSecond(atMs: number, done: number): number | undefined {
    const first = this.#samples[0]
    const seconds = first === undefined ? 0 : (atMs - first.atMs) / 1000
    return first !== undefined && seconds > 0 && done > first.done ? (done - first.done) / seconds : undefined
  }
}

interface Work {
  total: number | null
  readonly unit: string
  readonly startedMs: number
  readonly rate: RateMeter
  done: number
  /** `done` at the first update: what an earlier start had done already. */
  from: number | undefined
  note: string
}

/** "120 of 1,000 documents, 35/s, 880 left, 25 s to go, low-rank". */
const describeWork = (work: Work, nowMs: number): string => {
  const rate = work.rate.perSecond(nowMs, work.done)
  const left = work.total === null ? undefined : Math.max(0, work.total - work.done)
  return [
    work.total === null
      ? `${formatCount(work.done)} ${work.unit}`
      : `${formatCount(work.done)} of ${formatCount(work.total)} ${work.unit}`,
    ...(rate === undefined ? [] : [`${formatRate(rate)}/s`]),
    ...(left === undefined || left === 0 ? [] : [`${formatCount(left)} left`]),
    ...(rate === undefined || left === undefined || left === 0 ? [] : [`${formatSeconds(left / rate)} to go`]),
    ...(work.note === '' ? [] : [work.note]),
  ].join(', ')
}

/** Progress on a stream (standard error): a bar on a terminal, lines otherwise. */
export const terminalProgress = ({ stream, now, everyMs = 5000, windowMs = 60_000 }: ProgressOptions): Progress => {
  const isTerminal = stream.isTTY === true
  let work: Work | undefined
  let bars: cliProgress.MultiBar | undefined
  let bar: cliProgress.SingleBar | undefined
  let lastLineMs = 0
  let lastLine = ''

  const line = (text: string): void => {
    if (bars === undefined) stream.write(`${text}\n`)
    else {
      bars.log(`${text}\n`)
      bars.update() // a line that waits for the next frame would be lost if the work ended before
    }
  }
  const plainLine = (): void => {
    if (work === undefined) return
    const text = describeWork(work, now())
    if (text !== lastLine) line(text)
    lastLine = text
    lastLineMs = now()
  }
  const end = (): void => {
    if (work === undefined) return
    if (bars !== undefined) {
      bar?.update(work.done)
      bars.stop()
      bars = bar = undefined
    }
    const { total, unit, done, from, startedMs } = work
    work = undefined
    const seconds = (now() - startedMs) / 1000
    const did = done - (from ?? 0)
    // What was all there already (queries in the cache) was no work.
    if (total !== null && from === undefined) return
    line(`${formatCount(done)} ${unit} in ${formatSeconds(seconds)}${did > 0 && seconds >= 0.05 ? `, ${formatRate(did / seconds)}/s` : ''}`)
  }

  return {
    start(total, unit) {
      end()
      work = { total, unit, startedMs: now(), rate: new RateMeter(windowMs), done: 0, from: undefined, note: '' }
      lastLineMs = now()
      lastLine = ''
      if (!isTerminal) return
      bars = new cliProgress.MultiBar({
        stream,
        gracefulExit: false, // Ctrl-C is main.ts's business
        hideCursor: null,
        linewrap: null,
        fps: 5,
        emptyOnZero: true,
        forceRedraw: true,
        format: (_options, params) => {
          if (work === undefined) return ''
          const text = describeWork(work, now())
          const room = (stream.columns ?? 80) - text.length - 3
          const width = work.total === null ? 0 : Math.min(30, room)
          if (width < 5) return text.slice(0, (stream.columns ?? 80) - 1)
          const filled = Math.round(Math.min(1, params.progress) * width)
          return `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${text}`
        },
      })
      bar = bars.create(total ?? 0, 0)
    },
    update(done, note, total) {
      if (work === undefined) return
      work.from ??= done
      work.done = done
      if (note !== undefined) work.note = note
      if (total !== undefined) {
        work.total = total
        bar?.setTotal(total)
      }
      work.rate.add(now(), done)
      if (bar !== undefined) bar.update(done)
      else if (now() - lastLineMs >= everyMs) plainLine()
    },
    log: line,
    stop: end,
  }
}

/** Progress as lines of a log, every few seconds: for machines. */
export const loggedProgress = (
  say: (fields: Readonly<Record<string, unknown>>, line: string) => void, { now, everyMs = 5000 }: Pick<ProgressOptions, 'now' | 'everyMs'>,
): Progress => {
  let work: { readonly unit: string; total: number | null; done: number; note: string | undefined } | undefined
  let isBegun = false
  let saidMs = -Infinity
  const tell = (): void => {
    if (work !== undefined) say({ ...work }, 'progress')
    saidMs = now()
  }
  const stop = (): void => {
    // What was all there already was no work.
    if (isBegun || work?.total === null) tell()
    work = undefined
    isBegun = false
  }
  return {
    start: (total, unit) => {
      stop()
      work = { unit, total, done: 0, note: undefined }
    },
    update: (done, note, total) => {
      if (work === undefined) return
      isBegun = true
      work.done = done
      work.note = note ?? work.note
      work.total = total ?? work.total
      if (now() - saidMs >= everyMs) tell()
    },
    log: (line) => say({}, line),
    stop,
  }
}
