/** @file A field that the user named must be there: a slip of the pen must not dead-letter a corpus. */
import { UserError } from '../../base/index.js'
import { fieldsOf } from './parse.js'
import type { ShardLine, ShardOptions } from './types.js'

/** So many lines are held back while none of them has the named field; then it is taken for wrong. */
const linesMax = 1000
const bytesMax = 16 << 20

/**
 * Lines → the same lines. If `textField` or `idField` was named and none of the first lines (1,000 documents or 16 MiB
 * of them, or all there are) has it: a UserError that names the fields there are, and none of those lines is handed on.
 */
export async function* requireFields(
  path: string,
  { textField, idField }: ShardOptions,
  lines: AsyncIterable<ShardLine>,
): AsyncGenerator<ShardLine, void, undefined> {
  const missing = new Set([textField, idField].filter((field) => field !== undefined))
  const seen = new Set<string>()
  let held: ShardLine[] = []
  let bytes = 0
  let records = 0
  const refuse = (): void => {
    if (missing.size === 0 || records === 0) return
    const names = [...missing].map((field) => `"${field}"`).join(', ')
    const what = records === 1 ? 'the only line looked at has no field' : `none of the ${records} lines looked at has a field`
    throw new UserError(`"${path}": ${what} ${names}; the fields there are: ${[...seen].sort().join(', ') || '(none)'}`, {
      fix: `name one of these with ${missing.has(textField ?? '') ? '--text-field' : '--id-field'}`,
    })
  }
  try {
    for await (const line of lines) {
      if (missing.size > 0) {
        const fields = fieldsOf(line)
        if (fields !== undefined) {
          records++
          for (const field of fields) {
            missing.delete(field)
            if (seen.size < 100) seen.add(field)
          }
        }
        held.push(line)
        bytes += line.bytes
        if (missing.size > 0) {
          if (held.length >= linesMax || bytes >= bytesMax) {
            refuse()
            missing.clear() // nothing but lines that are no records: hand them on
          } else continue
        }
        yield* held
        held = []
      } else yield line
    }
  } catch (error) {
    // A torn shard: what came whole before the break is handed on first.
    if (held.length > 0) {
      refuse()
      yield* held
    }
    throw error
  }
  refuse()
  yield* held
}
