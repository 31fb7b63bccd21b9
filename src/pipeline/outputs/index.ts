/**
 * @file What a run computed, as files: every (query, document) score as JSON lines, NumPy matrices or Parquet. Streams
 * from the log in bounded memory; knows nothing of how scores are made. Law: a file is there whole or not at all, and
 * the three formats hold the same numbers.
 */
import type { Log } from '../../log/index.js'
import { rankedOf, type RunRecord, type ScoresFormat } from '../../settings/index.js'
import type { Progress } from '../context.js'
import { documentsIn } from '../tally.js'
import { textFile, writeFileWhole, writeFolderWhole } from './files.js'
import { linesOf } from './jsonl.js'
import { npyNames, writeNpy } from './npy.js'
import { writeParquet } from './parquet.js'
import { scoreRows, snapshotOf } from './scores.js'

export { linesOf } from './jsonl.js'
export { npyHeader } from './npy.js'
export { scoreRows, snapshotOf, type ScoreRow, type Snapshot } from './scores.js'

export interface WriteScoresOptions {
  readonly format: ScoresFormat
  /** A file; a folder for npy; `-` with `write` given: lines go there. */
  readonly out: string
  readonly force: boolean
  /** Standard output, for `-`; waits while the reader is slow. */
  readonly write: (text: string) => Promise<void>
  readonly progress: Progress
  readonly signal: AbortSignal
}

/** An abort: nothing was written. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
}

/**
 * Writes every score of a run.
 * @returns the number of documents, of their pieces (as many, unless long ones are split), and of scores of each kind
 * @throws UserError for a place that is taken or cannot be written; Interrupted when the signal is aborted
 */
export const writeScores = async (
  log: Log,
  run: RunRecord,
  { format, out, force, write, progress, signal }: WriteScoresOptions,
): Promise<{ readonly documents: number; readonly pieces: number; readonly scores: number }> => {
  const snapshot = await snapshotOf(log)
  const ranked = rankedOf(run)
  let documents = 0
  let pieces = 0
  async function* rows(): ReturnType<typeof scoreRows> {
    documents = pieces = 0
    for await (const row of scoreRows(log, run, snapshot)) {
      if (signal.aborted) throw new Interrupted('interrupted; nothing was written')
      documents += documentsIn([row])
      pieces++
      yield row
    }
  }
  const onRow = (done: number): void => progress.update(done)
  const writeLines = async (line: (text: string) => Promise<void>): Promise<void> => {
    for await (const row of rows()) {
      await line(linesOf(row, run))
      onRow(pieces)
    }
  }
  progress.start(null, ranked)
  switch (format) {
    case 'jsonl':
      if (out === '-') await writeLines(write)
      else
        await writeFileWhole(out, { force }, async (path) => {
          const file = textFile(path)
          try {
            await writeLines((text) => file.write(text))
          } finally {
            await file.close()
          }
        })
      break
    case 'npy':
      await writeFolderWhole(out, { force, names: npyNames }, async (folder) => {
        let count = 0
        for await (const _row of rows()) progress.update(++count, 'counting')
        progress.start(count, ranked)
        await writeNpy(folder, run, count, rows(), onRow)
      })
      break
    case 'parquet':
      await writeFileWhole(out, { force }, (path) => writeParquet(path, run, rows(), onRow))
      break
    default:
      return format satisfies never
  }
  progress.stop()
  return { documents, pieces, scores: pieces * run.queries.length }
}
