/** @file A checkpoint made ready for work: model, weights, tokenizer, hash, and the lengths it is used with. */
import { join } from 'node:path'
import { planStages, type Stages } from '../influence/index.js'
import { checkpointHash, openModel, openTokenizer, type Checkpoint, type Tokenizer } from '../model/index.js'

/** The papers' length of a document; longer contexts are asked for with --context. */
const contextDefault = 512
/** Positions that are tabulated at least: queries may be longer than documents. */
const positionsMin = 4096

export interface OpenCheckpoint extends Checkpoint {
  readonly tokenizer: Tokenizer
  readonly hash: string
  /** How its programs are cut, where its weights are not to be in memory together. */
  readonly stages?: Stages
}

/** @throws UserError for whatever is wrong with the checkpoint, before any work starts */
export const openCheckpoint = async (
  folder: string, { home, context, stageMemory = null }: { readonly home: string; readonly context: number | null; readonly stageMemory?: number | null },
): Promise<OpenCheckpoint> => {
  const checkpoint = await openModel(folder, { positionsMax: Math.max(context ?? contextDefault, positionsMin) })
  const stages = stageMemory === null ? undefined : { spans: planStages(checkpoint.model, stageMemory), activationBytesMax: stageMemory }
  const tokenizer = await openTokenizer(checkpoint.folder, { vocabulary: checkpoint.model.vocabulary })
  const hash = await checkpointHash(checkpoint.folder, { cache: join(home, 'hashes') })
  return { ...checkpoint, tokenizer, hash, stages }
}

/** T: as asked for, or 512, and never more than the checkpoint knows positions for. */
export const contextOf = (checkpoint: Checkpoint, asked: number | null): number => Math.min(asked ?? contextDefault, checkpoint.model.positionsMax)
