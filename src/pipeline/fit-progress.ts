/** @file The sums of a pass and how far it is, in one file that is replaced at once: what an interrupted fit goes on from. */
import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { UserError } from '../base/index.js'
import { checkSeal, readSafetensors, readSeal, readTensorExact, writeSafetensors } from '../model/index.js'

const cursorSchema = z.object({
  /** The next chunk of the sample, and how many of its batches are done. */
  chunk: z.int().nonnegative(),
  batches: z.int().nonnegative(),
  /** Done so far. */
  sequences: z.int().nonnegative(),
  tokens: z.int().nonnegative(),
  unusable: z.int().nonnegative(),
})
export type Cursor = z.infer<typeof cursorSchema>

const cursorTensor = 'cursor'
const fields = ['chunk', 'batches', 'sequences', 'tokens', 'unusable'] as const

export const saveSums = (path: string, sums: Readonly<Record<string, Float64Array>>, cursor: Cursor): Promise<void> =>
  writeSafetensors(path, [
    { name: cursorTensor, dtype: 'F64', shape: [fields.length], data: () => Float64Array.from(fields, (field) => cursor[field]) },
    // A copy: the engine shares these with its thread.
    ...Object.entries(sums).map(([name, sum]) => ({ name, dtype: 'F64' as const, shape: [sum.length], data: () => Float64Array.from(sum) })),
  ], {}, { sealed: true })

/** Reads saved sums into `sums` (or adds them to an empty record); undefined if nothing was saved. */
export const readSums = async (path: string, sums: Record<string, Float64Array>): Promise<Cursor | undefined> => {
  if (!(await stat(path).then(() => true, () => false))) return undefined
  const tensors = await readSafetensors(await asWritten(path))
  const into = Object.keys(sums).length === 0
  for (const [name, info] of tensors) {
    if (name === cursorTensor) continue
    const values = Float64Array.from(await readTensorExact(info))
    if (into) sums[name] = values
    else if (sums[name]?.length === values.length) sums[name].set(values)
    else throw new UserError(`"${path}" holds sums of other layers`, { fix: `delete it, or fit under another --factors name` })
  }
  const info = tensors.get(cursorTensor)
  if (info === undefined) throw new UserError(`"${path}" does not say how far it is`, { fix: 'delete it: the pass begins again' })
  const values = await readTensorExact(info)
  return cursorSchema.parse(Object.fromEntries(fields.map((field, i) => [field, values[i]])))
}

/** The path of a file of an unfinished fit, if its content is what was written. @throws UserError naming the file and what differs */
export const asWritten = async (path: string): Promise<string> => {
  try {
    if ((await readSeal(path)) !== undefined) await checkSeal(path) // those of older versions have none
    return path
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    throw new UserError(error.message, { fix: 'delete the folder of the factor set and fit again', cause: error })
  }
}
