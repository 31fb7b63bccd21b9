/** @file How the end of a fit or of a scoring is told. */
import type { WorkResult } from '../pipeline/context.js'
import type { GlobalSettings } from '../settings/index.js'
import type { Output } from './output.js'
import { formatSeconds } from './progress.js'

const count = (n: number, one: string): string => `${n.toLocaleString('en-US')} ${one}${n === 1 ? '' : 's'}`

/** "40 documents", and their pieces where some were split: "40 documents, 44 pieces". */
export const countsOf = ({ documents, pieces }: Pick<WorkResult, 'documents' | 'pieces'>): string =>
  [count(documents, 'document'), ...(pieces === documents ? [] : [count(pieces, 'piece')])].join(', ')

/** Prints a result: sentences, or the result itself as JSON. */
export const printWork = async (
  output: Output,
  { json }: GlobalSettings,
  result: WorkResult,
  { what, again, next }: { readonly what: string; readonly again: string; readonly next?: string },
): Promise<void> => {
  if (json) return output.json(result)
  const lines = [
    ...result.notes,
    `${what}: ${countsOf(result)} and ${count(result.tokens, 'token')} in ${formatSeconds(result.seconds)}`,
    ...(result.deadLetters > 0 ? [`${count(result.deadLetters, 'dead letter')}, see tributary dead-letters list`] : []),
    ...(result.finished
      ? next === undefined ? [] : [`next: ${next}`]
      : [`stopped with ${count(result.documentsLeft, 'document')} left; the same "${again}" goes on from there`]),
  ]
  await output.write(`${lines.join('\n')}\n`)
}
