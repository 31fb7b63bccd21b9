/**
 * @file Where this package lies on disk, for the files that ship beside the code (schemas/, topics/, demo/).
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

let known: string | undefined

/**
 * The folder of the package.json named "tributary": found by walking up from this file, so that it is the same from
 * src/ and from dist/src/. Throws where there is none (the package was taken apart).
 */
export const packageRoot = (): string => {
  if (known !== undefined) return known
  const start = dirname(fileURLToPath(import.meta.url))
  for (let folder = start; ; folder = dirname(folder)) {
    const manifest = join(folder, 'package.json')
    if (existsSync(manifest) && isOurs(readFileSync(manifest, 'utf8'))) return (known = folder)
    if (folder === dirname(folder)) throw new Error(`no package.json named "tributary" above ${start}`)
  }
}

const isOurs = (manifest: string): boolean => {
  const parsed: unknown = JSON.parse(manifest)
  return typeof parsed === 'object' && parsed !== null && 'name' in parsed && parsed.name === 'tributary'
}
