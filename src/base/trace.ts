/**
 * @file Trace ids (W3C Trace Context): one name for all that is said of one piece of work, by whichever process or machine.
 */
import { randomBytes } from 'node:crypto'

/** 32 hexadecimal digits: those of a `traceparent` that a caller gave, if it is one; otherwise new ones. */
export const traceOf = (traceparent: string | undefined): string =>
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/.exec(traceparent?.trim() ?? '')?.[1] ?? randomBytes(16).toString('hex')
