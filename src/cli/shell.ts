/**
 * @file What every command shares: its settings, its output, an orderly end at Ctrl-C, the log of a home.
 */
import type { Command } from 'commander'
import { silentProgress, type PipelineContext, type Progress } from '../pipeline/context.js'
import type { GlobalSettings, WatchedSettings } from '../settings/index.js'
import { flagsOf } from './options.js'
import { processOutput, type Output } from './output.js'
import { terminalProgress } from './progress.js'
import type { Watching } from './watching.js'

/** Exit codes. 0 also where documents went to dead-letters: their count is printed. */
export const exitCodes = { done: 0, failed: 1, usage: 2, bug: 70, interrupted: 130 } as const

/** What a command was given. */
export const givenTo = (
  command: Command,
  more: Readonly<Record<string, unknown>> = {},
): { flags: Record<string, unknown>; env: NodeJS.ProcessEnv } => ({
  flags: { ...flagsOf(command), ...more },
  env: process.env,
})

export const outputFor = (settings: GlobalSettings): Output => processOutput({ quiet: settings.quiet })

/** Progress goes to standard error; none under --quiet. */
export const progressFor = (settings: GlobalSettings): Progress =>
  settings.quiet ? silentProgress : terminalProgress({ stream: process.stderr, now: () => performance.now() })

/** The first Ctrl-C (or SIGTERM) asks for an end after the batch in hand, the second one ends at once. */
export interface Interruption extends Disposable {
  readonly signal: AbortSignal
  /** 130 after Ctrl-C, 143 after SIGTERM; undefined if nobody asked. */
  readonly exitCode: number | undefined
}

export const interruptible = (onFirst: (line: string) => void): Interruption => {
  const controller = new AbortController()
  let exitCode: number | undefined
  const ask = (code: number) => (): void => {
    if (exitCode !== undefined) process.exit(code)
    exitCode = code
    onFirst('finishing the batch in hand; once more ends at once')
    controller.abort()
  }
  const onInterrupt = ask(exitCodes.interrupted)
  const onTerminate = ask(143)
  process.on('SIGINT', onInterrupt)
  process.on('SIGTERM', onTerminate)
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode
    },
    [Symbol.dispose]() {
      process.off('SIGINT', onInterrupt)
      process.off('SIGTERM', onTerminate)
    },
  }
}

/**
 * Runs a work that gives up with `Interrupted` at the first Ctrl-C, with progress. Then that is said, the exit code is
 * the signal's, and it resolves to undefined.
 */
export const untilInterrupted = async <Result>(
  settings: GlobalSettings, work: (parts: Pick<PipelineContext, 'progress' | 'signal'>) => Promise<Result>, progress: Progress = progressFor(settings),
): Promise<Result | undefined> => {
  using interruption = interruptible((line) => progress.log(line))
  try {
    return await work({ progress, signal: interruption.signal })
  } catch (error) {
    const { Interrupted } = await import('../pipeline/outputs/index.js')
    if (!(error instanceof Interrupted)) throw error
    progress.stop()
    outputFor(settings).warn(error.message)
    process.exitCode = interruption.exitCode ?? exitCodes.interrupted
    return undefined
  } finally {
    progress.stop()
  }
}

/**
 * Runs a long work with progress, an orderly end, and whatever of logs, metrics and health the settings ask for. Resolves
 * to its result and the exit code.
 * @param options.pipeline, options.run  what the work is called in logs and metrics
 */
export const runLong = async <Result extends { readonly finished: boolean }>(
  settings: GlobalSettings & WatchedSettings & { readonly serve?: boolean },
  { pipeline, run, open, work }: {
    readonly pipeline: string
    readonly run: string
    readonly open: () => Promise<PipelineContext['log']>
    readonly work: (context: PipelineContext) => Promise<Result>
  },
): Promise<{ result: Result; exitCode: number }> => {
  const { watching } = await import('./watching.js')
  await using watch = await watching(settings, { pipeline, run }, progressFor(settings))
  const { progress, observer } = watch
  using interruption = interruptible((line) => progress.log(line))
  await using log = await open()
  try {
    const result = await whileWatched(watch, log, () => work({ log, progress, signal: interruption.signal, now: () => Date.now(), observer }))
    return { result, exitCode: result.finished ? exitCodes.done : (interruption.exitCode ?? exitCodes.failed) }
  } finally {
    progress.stop()
  }
}

/** A work over a log that is open: whoever watches is told of the log, and how the work ends. */
export const whileWatched = async <Result>(watch: Watching, log: PipelineContext['log'], work: () => Promise<Result>): Promise<Result> => {
  await watch.opened(log)
  try {
    const result = await work()
    await watch.ended()
    return result
  } catch (error) {
    await watch.ended(error)
    throw error
  }
}
