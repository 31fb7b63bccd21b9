/** @file JSON files that others wrote: bounded, and refused with their path. */
import { readFile, stat } from 'node:fs/promises'
import { UserError } from '../base/index.js'

export type JsonObject = Readonly<Record<string, unknown>>

export const isRecord = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * The object in a JSON file.
 * @throws UserError if it is missing, longer than `bytesMax`, no JSON, or no object
 */
export const readJson = async (path: string, { bytesMax }: { readonly bytesMax: number }): Promise<JsonObject> => {
  let text: string
  try {
    const { size } = await stat(path)
    if (size > bytesMax) throw new UserError(`"${path}" has ${size} bytes; ${bytesMax} is the most`)
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof UserError) throw cause
    throw new UserError(`"${path}" cannot be read`, { cause })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new UserError(`"${path}" is no JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
  if (!isRecord(value)) throw new UserError(`"${path}" is no JSON object`)
  return value
}
