/** @file The classes of what dead letters give as their cause: few, so that they can be a label. */
import type { ObservedDeadLetter } from '../pipeline/observer.js'

/** First match counts. The causes are written where documents are read, tokenized and scored. */
const classes: readonly (readonly [RegExp, string])[] = [
  [/checksum|Avro|cut short|cannot be decoded/, 'corrupt'],
  [/not UTF-8/, 'not_utf8'],
  [/not JSON/, 'not_json'],
  [/not an object/, 'not_an_object'],
  [/has no field|neither text nor token ids/, 'no_text'],
  [/is empty/, 'empty'],
  [/nested more than/, 'too_deep'],
  [/over the bound|have over \d+ bytes|is the most/, 'too_big'],
  [/its field ".*" is /, 'wrong_type'],
  [/vocabulary/, 'vocabulary'],
  [/nothing is predicted in it/, 'too_short'],
  [/its loss is/, 'loss_not_finite'],
  [/gradient norm is|its gradient is not finite/, 'gradient_not_finite'],
  [/its influence on query/, 'influence_not_finite'],
]

/** The class of a cause; `other` for one that is not known here. */
export const causeClass = ({ cause }: Pick<ObservedDeadLetter, 'cause'>): string => classes.find(([pattern]) => pattern.test(cause))?.[1] ?? 'other'
