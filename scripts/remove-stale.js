/**
 * Removes from dist what the compiler wrote for files that are no longer there, so that a test or module that was deleted
 * does not live on. Part of the build, after tsc.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')

for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || entry.name === '.tsbuildinfo') continue
  const path = join(entry.parentPath ?? entry.path, entry.name)
  const source = join(root, relative(dist, path)).replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts')
  if (!existsSync(source)) rmSync(path)
}
