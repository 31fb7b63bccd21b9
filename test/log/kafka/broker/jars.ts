/**
 * @file The broker's jars, from Maven, once: in test/.cache/kafka/VERSION-tools, which git ignores. Run by itself
 * (`node dist/test/log/kafka/broker/jars.js`) it fetches them and prints the folder; .ci/run does so before the tests.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { packageRoot } from '../../../../src/base/index.js'

const run = promisify(execFile)

/** As in test/log/kafka/pom.xml. */
export const BROKER_VERSION = '4.3.0'

/** Longest wait for another process that fetches: the slowest seen took 60 s. */
const fetchMsMax = 300_000

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Maven's own folder does not bear two processes at once: the first one here fetches, the others wait. */
const alone = async <Result>(lock: string, work: () => Promise<Result>): Promise<Result> => {
  for (const endMs = Date.now() + fetchMsMax; ; await sleep(200)) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
      break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      const owner = existsSync(lock) ? Number(readFileSync(lock, 'utf8')) : 0
      if (owner > 0 && !alive(owner)) rmSync(lock, { force: true })
      if (Date.now() > endMs) throw new Error(`${lock} is held by process ${owner}`, { cause: error })
    }
  }
  try {
    return await work()
  } finally {
    rmSync(lock, { force: true })
  }
}

/** The folder that holds the jars. Fetches them if they are not there; rejects where there is no Maven or no network. */
export const brokerJars = async (): Promise<string> => {
  const root = packageRoot()
  const folder = join(root, 'test', '.cache', 'kafka', `${BROKER_VERSION}-tools`)
  if (existsSync(folder)) return folder
  mkdirSync(dirname(folder), { recursive: true })
  return alone(`${folder}.lock`, async () => {
    if (existsSync(folder)) return folder
    const part = `${folder}.${process.pid}.part`
    try {
      await run('mvn', [
        '-q', '-B', '-f', join(root, 'test', 'log', 'kafka', 'pom.xml'),
        'dependency:copy-dependencies', `-DoutputDirectory=${part}`, '-DincludeScope=runtime',
      ], { timeout: fetchMsMax })
      renameSync(part, folder)
    } finally {
      rmSync(part, { recursive: true, force: true })
    }
    return folder
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.stdout.write(`${await brokerJars()}\n`)
