/** @file Programs of the system that tests run where they are installed; in CI they have to be. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { TestContext } from 'node:test'

/** Where a program is. Undefined, with the test skipped, if it is missing; in CI that is an error. */
export const toolOr = (t: TestContext, name: string): string | undefined => {
  const path = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name)).find((file) => existsSync(file))
  if (path === undefined && process.env.CI === 'true') throw new Error(`${name} is missing (Debian: apt-get install prometheus)`)
  if (path === undefined) t.skip(`${name} is not installed (Debian: apt-get install prometheus)`)
  return path
}
