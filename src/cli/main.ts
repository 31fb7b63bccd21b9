/**
 * @file `tributary`: the command line. A thin user of the library: every command reads its settings, calls one
 * pipeline, prints what came out.
 *
 * Exit codes: 0 done (dead-lettered documents included: they are counted), 1 an error the user can mend, 2 wrong usage,
 * 70 a bug, 130 ended by Ctrl-C after the batch in hand (143 by SIGTERM).
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError } from 'commander'
import { packageRoot, UserError } from '../base/index.js'
import { UsageError } from '../settings/index.js'
import { analysesCommand } from './analyses.js'
import { deadLettersCommand } from './dead-letters.js'
import { describeCommand } from './describe.js'
import { diffCommand } from './diff.js'
import { doctorCommand } from './doctor.js'
import { explainCommand } from './explain.js'
import { exportCommand } from './export.js'
import { fitCommand } from './fit.js'
import { ingestCommand } from './ingest.js'
import { addGlobalOptions } from './options.js'
import { endQuietlyWithoutReader } from './output.js'
import { planCommand } from './plan.js'
import { queriesCommand } from './queries.js'
import { replayCommand } from './replay.js'
import { resetCommand } from './reset.js'
import { scoreCommand } from './score.js'
import { scoresCommand } from './scores.js'
import { reportCommand } from './report.js'
import { serveCommand } from './serve.js'
import { exitCodes } from './shell.js'
import { statusCommand } from './status.js'
import { sumCommand } from './sum.js'
import { topicsCommand } from './topics.js'
import { topkCommand } from './topk.js'

const version = (): string =>
  (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version

const buildProgram = (): Command => {
  const program = new Command('tributary')
    .description('Training-data attribution as a stream: which documents made a model say what it says.')
    .version(version(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help, or that of a command')
    .helpCommand('help [command]', 'print the help of a command')
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError(true)
    .showHelpAfterError('(tributary --help, or tributary COMMAND --help, tells what there is)')
    .exitOverride()
    .addHelpText('after', guide)
  addGlobalOptions(program)
  for (const command of [
    ingestCommand(), fitCommand(), queriesCommand(), scoreCommand(), sumCommand(), replayCommand(), diffCommand(), resetCommand(), topkCommand(), explainCommand(), scoresCommand(), analysesCommand(), reportCommand(), exportCommand(), statusCommand(), deadLettersCommand(), topicsCommand(),
    serveCommand(), describeCommand(), doctorCommand(), planCommand(),
  ])
    program.addCommand(inheriting(program, command))
  return program
}

/** Commands that are made apart take their ways from the program. */
const inheriting = (program: Command, command: Command): Command => {
  command.copyInheritedSettings(program)
  command.commands.forEach((sub) => inheriting(program, sub as Command))
  return command
}

const guide = `
The way of a first run:
  tributary ingest corpus/*.jsonl.gz
  tributary queries add queries.jsonl
  tributary fit   --model checkpoint --factors mlp --documents 2000
  tributary score --model checkpoint --factors mlp --run first
  tributary topk  --run first

Every setting may also come from a variable (--batch-tokens: TRIBUTARY_BATCH_TOKENS) or from a run file (--config
run.yaml; --batch-tokens: "batch-tokens"). Flags go before variables, variables before the run file, the run file
before defaults.`

/** Runs a command line. Resolves to the exit code. */
export const main = async (argv: readonly string[]): Promise<number> => {
  endQuietlyWithoutReader()
  try {
    await buildProgram().parseAsync([...argv], { from: 'user' })
    return typeof process.exitCode === 'number' ? process.exitCode : exitCodes.done
  } catch (error) {
    return report(error)
  }
}

const report = (error: unknown): number => {
  const say = (text: string): void => void process.stderr.write(`${text}\n`)
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage // said by commander
  if (error instanceof UserError) {
    say(`error: ${error.message}`)
    if (error.fix !== undefined) say(`fix: ${error.fix}`)
    if ((process.env.TRIBUTARY_DEBUG ?? '0') !== '0' && error.cause !== undefined) say(String((error.cause as Error).stack ?? error.cause))
    return error instanceof UsageError ? exitCodes.usage : exitCodes.failed
  }
  say(error instanceof Error ? (error.stack ?? String(error)) : String(error))
  for (let cause = (error as Error | null)?.cause; cause instanceof Error; cause = cause.cause)
    say(`caused by ${cause.stack ?? String(cause)}`)
  say(`This is a bug in tributary ${version()} (node ${process.version}, ${process.platform} ${process.arch}).`)
  say('Please report it with the lines above and the command that was run. What was committed is safe.')
  return exitCodes.bug
}

process.exitCode = await main(process.argv.slice(2))
