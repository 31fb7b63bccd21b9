/**
 * @file The work of a retry: dead letters of a run → their documents, scored as `score` would have. retries.ts says why
 * it is done so. Only a worker calls it, for a partition that it owns and at a moment when no chunk is in hand.
 */
import { from } from 'rxjs'
import type { RunId, Stage } from '../base/index.js'
import type { Assignment, DeadLetterValue, Log, LogRecord, NewRecord, RetryValue } from '../log/index.js'
import type { Tokenizer } from '../model/index.js'
import { batchesByTokens, type BatchBounds } from './operators/batch-by-tokens.js'
import { pulled } from './operators/pulled.js'
import { isPiece, piecesOf, type Piece, type PieceOptions } from './operators/to-pieces.js'
import { retryRecord } from './retries.js'
import { scoreChunk, type Outcome, type Scorer } from './score-chunk.js'

/** Dead letters that are tried again by one commit at most. */
export const lettersAtOnceMax = 64
const one = { recordsMax: 1, bytesMax: 1 } as const

export interface RetryParts {
  readonly log: Log
  readonly run: RunId
  readonly assignment: Pick<Assignment, 'partition' | 'read'>
  /** The run's position: the next document that it has not seen. */
  readonly reached: number
  readonly tokenizer: Tokenizer
  readonly options: PieceOptions
  readonly bounds: BatchBounds
  readonly scorer: Scorer
  /** Aborted: the batch in hand is finished, and nothing comes of the retry. */
  readonly signal: AbortSignal
}

/** What a retry comes to: `records` hold the answers too, and all of it is to be committed at once or not at all. */
export interface Retried extends Outcome {
  readonly ended: readonly RetryValue[]
}

/** A dead letter whose document can be used now, with the pieces of it that are to be scored. */
interface Usable {
  readonly asked: RetryValue
  readonly document: number
  /** The dead letter was of one piece, not of the whole document. */
  readonly isPiece: boolean
  readonly pieces: readonly Piece[]
}

/** @returns undefined if it was stopped before the end */
export const retryLetters = async (wanted: readonly RetryValue[], parts: RetryParts): Promise<Retried | undefined> => {
  const usable: Usable[] = []
  const ended: RetryValue[] = []
  for (const asked of wanted) {
    const found = await usableOf(asked, parts)
    if ('cause' in found) ended.push({ ...asked, state: 'failed', ...found })
    else usable.push(found)
  }
  const outcomes = await scored(usable.flatMap(({ pieces }) => pieces), parts)
  if (outcomes === undefined) return undefined
  const letters = outcomes.flatMap(({ records }) => records.filter(isDeadLetter))
  /** Of one piece that fails again there is a dead letter already. */
  const again = new Map<NewRecord, Usable>()
  for (const { asked, document, isPiece: ofPiece, pieces } of usable) {
    const letter = ofPiece ? letters.find(({ value }) => value?.offset === document && value.piece === pieces[0].piece) : undefined
    if (letter !== undefined) again.set(letter, { asked, document, isPiece: ofPiece, pieces })
    ended.push({ ...asked, document, state: letter === undefined ? 'done' : 'failed', cause: letter?.value?.cause ?? null })
  }
  const records = outcomes.flatMap((outcome) => outcome.records.filter((record) => !again.has(record)))
  return {
    scored: outcomes.flatMap((outcome) => outcome.scored),
    records: [...records, ...ended.map(retryRecord)],
    tokens: outcomes.reduce((sum, { tokens }) => sum + tokens, 0),
    deadLetters: letters.length - again.size,
    appendedMs: [], // how long ago says nothing of how fast the pipeline is
    ended,
  }
}

const isDeadLetter = (record: NewRecord): record is NewRecord<'dead-letters'> => record.topic === 'dead-letters'

/** The outcomes of all batches; undefined if it was stopped before. */
const scored = async (pieces: readonly Piece[], { run, bounds, scorer, signal }: RetryParts): Promise<readonly Outcome[] | undefined> => {
  const batches = batchesByTokens(pieces, bounds)
  const outcomes: Outcome[] = []
  // The first outcome of a chunk is that of its rejected records: there are none.
  for await (const outcome of pulled(from([{ rejected: [], batches }]).pipe(scoreChunk(run, scorer, { from: 1 })), signal)) outcomes.push(outcome)
  return outcomes.length === batches.length ? outcomes : undefined
}

/** The stages at which a run's worker gives a document up. */
const stages: readonly Stage[] = ['decode', 'tokenize', 'score']

/** What is to be scored for a dead letter, or why it still cannot be. */
const usableOf = async (asked: RetryValue, parts: RetryParts): Promise<Usable | Pick<RetryValue, 'cause' | 'document'>> => {
  const { log, run, assignment, reached, tokenizer, options } = parts
  const { partition } = assignment
  const [letter]: readonly LogRecord<'dead-letters'>[] = await log.read('dead-letters', partition, asked.offset, one)
  if (letter?.offset !== asked.offset || letter.value?.run !== run) return { cause: 'the run has no such dead letter', document: null }
  const { stage, offset: document } = letter.value
  // What the run has not come to it will score without being asked.
  if (!stages.includes(stage) || !isIn(letter.value, partition) || document === null || document >= reached)
    return { cause: 'the dead letter names no document that the run has been at', document: null }
  const [record] = await assignment.read(document, one)
  if (record?.offset !== document) return { cause: 'the log keeps the document no longer', document }
  const items = piecesOf(record, tokenizer, options)
  const pieces = items.filter(isPiece)
  const rejected = items.find((item) => !isPiece(item))
  if (rejected !== undefined && 'cause' in rejected) return { cause: rejected.cause, document }
  if (stage !== 'score') return { asked, document, isPiece: false, pieces }
  // The other pieces of the document have been scored.
  const wanted = letter.value.piece ?? (pieces.length === 1 ? 0 : undefined)
  const piece = pieces.find((other) => other.piece === wanted)
  if (piece !== undefined) return { asked, document, isPiece: true, pieces: [piece] }
  const cause = wanted === undefined ? `the dead letter does not say which of the document's ${pieces.length} pieces it is of` : `the document has no piece ${wanted}`
  return { cause, document }
}

const isIn = ({ topic, partition }: DeadLetterValue, own: number): boolean => topic === 'documents' && partition === own
