/** @file The analyses of a run computed by a process of their own, so that whoever asks for them goes on meanwhile. */
import { execFile } from 'node:child_process'
import { setPriority } from 'node:os'
import { fileURLToPath } from 'node:url'
import { TransientError } from '../base/index.js'
import { globalFields, variableOf, type GlobalSettings } from '../settings/index.js'

/** The result's text at most. */
const outputMax = 256 << 20
const mainPath = fileURLToPath(new URL('./main.js', import.meta.url))

/** The global settings as variables: none of them, secrets least of all, stands in the list of processes. */
const environmentOf = (settings: GlobalSettings): NodeJS.ProcessEnv => {
  const own = Object.fromEntries(
    Object.keys(globalFields).map((key): [string, string | undefined] => {
      const value = settings[key as keyof GlobalSettings]
      return [variableOf(key), value === null ? undefined : value === true ? 'yes' : value === false ? 'no' : String(value)]
    }),
  )
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith('TRIBUTARY_'))
  return { ...Object.fromEntries(others), ...own, TRIBUTARY_JSON: 'yes', TRIBUTARY_QUIET: 'yes' }
}

/** What `tributary analyses --json` prints. @throws TransientError if it ends otherwise, or the signal is aborted */
export const analyseBeside = (settings: GlobalSettings) => (run: string, signal: AbortSignal): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath, [mainPath, 'analyses', '--run', run],
      { env: environmentOf(settings), maxBuffer: outputMax, signal, killSignal: 'SIGTERM', encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error !== null) reject(new TransientError(`the analyses of "${run}" could not be computed: ${stderr.trim().slice(-1000) || error.message}`, { cause: error }))
        else resolve(JSON.parse(stdout))
      },
    )
    // Scoring comes first. A system that does not know priorities does without.
    try {
      if (child.pid !== undefined) setPriority(child.pid, 10)
    } catch {
      return
    }
  })
