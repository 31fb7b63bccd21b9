/** @file The program of the pass over the corpus, with the queries in it: what turns batches of documents into scores. */
import { scoreBatch, scoreProgram, type JoinKind } from '../influence/index.js'
import type { Tokenizer } from '../model/index.js'
import type { ScoreSettings } from '../settings/index.js'
import type { ScoringParts } from './begin-run.js'
import { observedScorer } from './observed-scorer.js'
import { silentObserver } from './observer.js'
import type { BatchBounds } from './operators/batch-by-tokens.js'
import type { PieceOptions } from './operators/to-pieces.js'
import { prepareQueries } from './prepare.js'
import { scoredAtOnceMax } from './score-batches.js'
import type { Scorer } from './score-chunk.js'

/** What `toChunk` and `scoreChunk` need. */
export interface OpenScorer extends AsyncDisposable {
  readonly scorer: Scorer
  readonly tokenizer: Tokenizer
  readonly options: PieceOptions
  readonly bounds: BatchBounds
}

/** Prepares the queries for a join, compiles the program and binds them. `prepareGradients` comes first. */
export const openScorer = async (
  { checkpoint, factors, queries, context, prepareParts }: Omit<ScoringParts, 'queryCheckpoint'>,
  join: { readonly kind: JoinKind; readonly rank: number },
  { long, batchTokens }: Pick<ScoreSettings, 'long' | 'batchTokens'>,
): Promise<OpenScorer> => {
  const { engine, observer = silentObserver } = prepareParts
  const { tensors } = await prepareQueries(queries, join, prepareParts)
  const { model, tokenizer } = checkpoint
  observer.quiet('compile')
  const compiled = observer.time('compile')
  const program = await engine.compile(scoreProgram(model, checkpoint.tensors, factors.layers, join.kind, { queries: queries.length, rank: join.rank }, { tokensMax: context }))
  // Counted before they move to the engine.
  const boundBytes = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0)
  await program.bind(tensors)
  compiled()
  const weightsBytes = [...checkpoint.tensors.values()].reduce((sum, { length }) => sum + length, 0)
  observer.engine({ name: engine.name, threads: engine.threads, weightsBytes, boundBytes })
  return {
    scorer: observedScorer((batch) => scoreBatch(program, batch, { lengthMax: model.positionsMax }), observer, { lengthMax: model.positionsMax }),
    tokenizer,
    options: { context, long, vocabulary: model.vocabulary },
    bounds: { tokensMax: batchTokens, sequencesMax: scoredAtOnceMax(factors.layers), lengthMax: model.positionsMax },
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}
