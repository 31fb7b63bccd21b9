/** @file Structured logs: pino's lines of JSON, or the same as text for people. */
import { pino, type Logger } from 'pino'

export const logLevels = ['silent', 'error', 'warn', 'info', 'debug', 'trace'] as const
export type LogLevel = (typeof logLevels)[number]
export type LogFormat = 'text' | 'json'

export interface LoggerOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  /** Takes a line without its end. */
  readonly write: (line: string) => void
  /** Fields of every line: run, worker. */
  readonly fields?: Readonly<Record<string, unknown>>
}

export const logger = ({ level, format, write, fields = {} }: LoggerOptions): Logger =>
  pino(
    { level, base: { ...fields }, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    { write: (line: string) => write(format === 'json' ? line.trimEnd() : textOf(line)) },
  )

/** {"level":"info","time":"...","run":"first","msg":"ready"} → `2026-01-02T03:04:05.678Z info ready run=first`. */
const textOf = (json: string): string => {
  const { time, level, msg, err, ...fields } = JSON.parse(json) as Record<string, unknown>
  const words = Object.entries(fields).map(([name, value]) => `${name}=${wordOf(value)}`)
  const stack = typeof err === 'object' && err !== null && 'stack' in err ? `\n${String(err.stack)}` : ''
  return `${String(time)} ${String(level)} ${[String(msg), ...words].join(' ')}${stack}`
}

const wordOf = (value: unknown): string => (typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value))

/** What TRIBUTARY_DEBUG means as a level: 1 what runs where, 2 batches with their times, 3 and more every stage. */
export const levelOfDebug = (debug: string | undefined): LogLevel | undefined => {
  const depth = Number(debug ?? 0)
  return depth >= 3 ? 'trace' : depth >= 2 ? 'debug' : depth >= 1 ? 'info' : undefined
}
