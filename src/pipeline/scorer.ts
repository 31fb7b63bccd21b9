/** @file The program of the pass over the corpus, with the queries in it: what turns batches of documents into scores. */
import { compileInStages, runsTogether, scaledQueries, scoreBatch, scoreProgram, type JoinKind } from '../influence/index.js'
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
  /** Batches that are best handed over together: of a model in stages, those that go through each while it is loaded. */
  readonly together: number
}

/** Batches handed over together at most: what was computed is lost if the process ends before they are all done. */
const togetherMax = 64

/** Prepares the queries for a join, compiles the program and binds them. `prepareGradients` comes first. */
export const openScorer = async (
  { checkpoint, factors, queries, context, prepareParts }: Omit<ScoringParts, 'queryCheckpoint'>,
  join: { readonly kind: JoinKind; readonly rank: number },
  { long, batchTokens, precision }: Pick<ScoreSettings, 'long' | 'precision'> & { readonly batchTokens: number },
): Promise<OpenScorer> => {
  const { engine, observer = silentObserver } = prepareParts
  const prepared = await prepareQueries(queries, join, prepareParts)
  const shape = { queries: queries.length, rank: join.rank }
  const tensors = precision === 'f32' ? prepared.tensors : scaledQueries(join.kind, factors.layers, shape, prepared.tensors)
  const { model, tokenizer } = checkpoint
  observer.quiet('compile')
  const compiled = observer.time('compile')
  const program = await compileInStages(engine, checkpoint, factors.layers, (tracked, stage) =>
    scoreProgram(model, checkpoint.tensors, tracked, join.kind, shape, { tokensMax: context, stage, precision }))
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
    together: Math.min(togetherMax, runsTogether(checkpoint, Math.max(batchTokens, context))),
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  }
}
