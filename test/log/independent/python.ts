/** @file A Python that has fastavro: one that is there, or (in CI, or with TRIBUTARY_PIP=1) a virtual environment made for it. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../../src/base/index.js'

/** Git ignores every .cache. */
const folder = join(packageRoot(), 'test', 'log', 'independent', '.cache', 'venv')
const FASTAVRO = 'fastavro==1.12.1'

const hasFastavro = (python: string): boolean => spawnSync(python, ['-c', 'import fastavro'], { stdio: 'ignore' }).status === 0

/** The program's name, or why there is none. */
export const pythonWithFastavro = (): { readonly python: string } | { readonly missing: string } => {
  const own = join(folder, 'bin', 'python')
  for (const python of [...(existsSync(own) ? [own] : []), 'python3']) if (hasFastavro(python)) return { python }
  if (process.env['CI'] !== 'true' && process.env['TRIBUTARY_PIP'] !== '1')
    return { missing: 'no python3 with fastavro here; TRIBUTARY_PIP=1 makes one under test/log/independent/.cache' }
  mkdirSync(folder, { recursive: true })
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--retries', '5', '--only-binary', ':all:', FASTAVRO]
  for (const [program, args] of [['python3', ['-m', 'venv', folder]], [own, pip]] as const) {
    const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 300_000 })
    if (status !== 0) return { missing: `${program} ${args.join(' ')} failed: ${error?.message ?? stderr}` }
  }
  return hasFastavro(own) ? { python: own } : { missing: `${own} has no fastavro after its installation` }
}
