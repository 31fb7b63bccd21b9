/** @file A log of which a test has something done its own way. */
import type { Log } from '../../src/log/index.js'

/** A log with some of its methods replaced. */
export const withPart = (log: Log, part: Partial<Log>): Log =>
  new Proxy(log, {
    get: (target, name): unknown => {
      if (name in part) return Reflect.get(part, name)
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
