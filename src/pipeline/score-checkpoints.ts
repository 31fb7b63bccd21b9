/**
 * @file Score against several checkpoints of a training: a run for each, `RUN.1`, `RUN.2`, ..., and their weighted sum, the
 * run itself. Each run is one like any other, with its own tables; what was interrupted goes on where it stopped.
 */
import { resolve } from 'node:path'
import { UserError } from '../base/index.js'
import { openModel } from '../model/index.js'
import type { ScoreSettings } from '../settings/index.js'
import type { PipelineContext, WorkResult } from './context.js'
import { score } from './score.js'
import { splitWeight, sum } from './sum.js'

/** The folders with their weights: those of `checkpoints`, and `model` last, with weight 1, if it is not among them. */
export const checkpointsOf = ({ checkpoints, model }: Pick<ScoreSettings, 'checkpoints' | 'model'>): readonly { readonly model: string; readonly weight: number }[] => {
  const listed = checkpoints.map((text) => {
    const [folder, weight] = splitWeight(text)
    return { model: folder, weight }
  })
  const twice = listed.find((one, at) => listed.findIndex((other) => resolve(other.model) === resolve(one.model)) < at)
  if (twice !== undefined) throw new UserError(`checkpoint "${twice.model}" is named twice`, { fix: 'name each once, with the sum of its weights' })
  return listed.some((one) => resolve(one.model) === resolve(model)) ? listed : [...listed, { model, weight: 1 }]
}

/** @throws UserError as `score` and `sum` do */
export const scoreCheckpoints = async (settings: ScoreSettings, context: PipelineContext): Promise<WorkResult> => {
  if (settings.follow) throw new UserError('--follow goes with one checkpoint', { fix: 'follow with one run a checkpoint, and sum them now and then: tributary sum' })
  const checkpoints = checkpointsOf(settings)
  const notes: string[] = []
  const total = { documents: 0, pieces: 0, tokens: 0, deadLetters: 0, seconds: 0 }
  const add = (done: WorkResult): void => {
    total.tokens += done.tokens
    total.deadLetters += done.deadLetters
    total.seconds += done.seconds
    notes.push(...done.notes)
  }
  const runs: string[] = []
  for (const { model } of checkpoints) await openModel(model) // what is wrong with the last is told before the first is worked on
  for (const [at, { model, weight }] of checkpoints.entries()) {
    const run = `${settings.run}.${at + 1}`
    context.progress.log(`run "${run}": checkpoint ${model}, weight ${weight}`)
    const done = await score({ ...settings, run, model, checkpoints: [] }, context)
    add(done)
    if (!done.finished) return { ...done, ...total, documents: done.documents, pieces: done.pieces, notes }
    runs.push(`${run}=${weight}`)
  }
  const done = await sum({ ...settings, of: runs }, context)
  total.seconds += done.seconds
  return { ...total, documents: done.documents, pieces: done.pieces, documentsLeft: done.documentsLeft, finished: done.finished, notes: [...notes, ...done.notes] }
}
