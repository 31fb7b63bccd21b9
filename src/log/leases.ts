/**
 * @file Who holds a name. A lease is a record with the holder's pid and its process's start time, so that a pid that
 * was given to another process since does not pass for the holder. A holder that is gone (SIGKILL included) holds
 * nothing: whoever wants the lease looks, and takes it over in the same write transaction.
 *
 * A holder in another pid namespace (a container with the home mounted) cannot be looked at; it renews its record while
 * it lives, and counts as gone when it has not for `STALE_MS`.
 */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { UserError } from '../base/index.js'

/** How often a holder renews its record, ms. */
export const RENEW_MS = 5_000
/** A holder that cannot be looked at counts as gone when it did not renew for this long, ms. */
export const STALE_MS = 60_000

export interface Holder {
  /** Of this one lease: who has another no longer holds it. */
  readonly token: string
  readonly pid: number
  /** When the process began, in the words of the operating system; null where it does not say. */
  readonly started: string | null
  /** Where pids mean the same: machine, boot, pid namespace. */
  readonly place: string
  readonly purpose: string
  readonly sinceMs: number
  readonly renewedMs: number
  /** Given back; kept so that its last holder is still known. */
  readonly released: boolean
}

/** This process as a holder. */
export const holderHere = (purpose: string, nowMs: number): Holder => ({
  token: randomUUID(),
  pid: process.pid,
  started: startOf(process.pid),
  place: herePlace(),
  purpose,
  sinceMs: nowMs,
  renewedMs: nowMs,
  released: false,
})

/** Whether a holder lives and has not given it back. */
export const isHeld = (holder: Holder, nowMs: number): boolean => {
  if (holder.released) return false
  if (holder.place !== herePlace()) return nowMs - holder.renewedMs < STALE_MS
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    // EPERM: it lives and is another user's.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false
  }
  const started = startOf(holder.pid)
  return started === null || holder.started === null || started === holder.started
}

/** What is said to a process that wants a lease that is held. */
export const heldError = (name: string, purpose: string, holder: Holder): UserError => {
  const elsewhere = holder.place === herePlace() ? '' : ` in another container or on another machine (${holder.place})`
  return new UserError(
    `"${name}" is in use by process ${holder.pid}${elsewhere}, since ${new Date(holder.sinceMs).toISOString()}, to ` +
      `${holder.purpose}; this process (${process.pid}) wants it to ${purpose}`,
    { fix: elsewhere === '' ? `wait for it to end, or stop it: kill ${holder.pid}` : 'stop it there, then start again' },
  )
}

export const parseHolder = (text: string): Holder => JSON.parse(text) as Holder

let place: string | undefined
const herePlace = (): string =>
  (place ??= [
    hostname(),
    attempt(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()) ?? '',
    attempt(() => readlinkSync('/proc/self/ns/pid')) ?? '',
  ].join(' '))

/** Field 22 of /proc/PID/stat (clock ticks after boot) on Linux, else what `ps` says. Null if neither does. */
const startOf = (pid: number): string | null => {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  // The second field is the command in brackets and may hold anything: count from behind its last bracket.
  if (stat !== undefined) {
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? 'ended, not yet reaped' : fields[19]
  }
  if (process.platform === 'linux' || process.platform === 'win32') return null
  const ps = attempt(() => execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8', stdio: 'pipe' }))
  return ps === undefined || ps.trim() === '' ? null : ps.trim()
}

const attempt = <T>(action: () => T): T | undefined => {
  try {
    return action()
  } catch {
    return undefined
  }
}
