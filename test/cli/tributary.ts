/** @file The real command line as a child process, on a folder of its own. */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'

export const mainPath = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A folder that is gone after the tests of the file. */
export const temporaryFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-cli-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The environment without what a developer may have set. */
const cleanEnv = (): Record<string, string | undefined> =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TRIBUTARY_')))

export const start = (cwd: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess =>
  spawn(process.execPath, [mainPath, ...args], { cwd, env: { ...cleanEnv(), ...env }, stdio: ['ignore', 'pipe', 'pipe'] })

export const ended = (child: ChildProcess): Promise<Ended> =>
  new Promise((resolve, reject) => {
    let stdout = ''
    let stderr = ''
    child.stdout?.on('data', (part: Buffer) => (stdout += part.toString('utf8')))
    child.stderr?.on('data', (part: Buffer) => (stderr += part.toString('utf8')))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
  })

/** `tributary` with a folder and environment fixed. */
export const tributaryIn =
  (cwd: string) =>
  (args: string | readonly string[], env: Record<string, string> = {}): Promise<Ended> =>
    ended(start(cwd, typeof args === 'string' ? args.split(' ') : args, env))

/** Writes lines, objects as JSON, and returns the file's name. */
export const writeLines = (folder: string, name: string, lines: readonly unknown[]): string => {
  writeFileSync(join(folder, name), lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''))
  return name
}
