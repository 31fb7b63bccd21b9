/** @file `tributary dead-letters list|show|replay`: what could not be processed, and another try. */
import { Command } from 'commander'
import { UserError } from '../base/index.js'
import type { DeadLetterFilter, DeadLetterList, FoundLetter, ListedLetter } from '../pipeline/dead-letters.js'
import type { ReplayResult } from '../pipeline/replay-dead-letters.js'
import type { RetryStatus } from '../pipeline/retries.js'
import { resolveGlobalSettings, resolveSettings, UsageError } from '../settings/index.js'
import { escaped, excerptOf, tableOf, visible } from './output.js'
import { exitCodes, givenTo, interruptible, outputFor, progressFor } from './shell.js'

type Flags = Readonly<Record<string, unknown>>

const stages = ['ingest', 'decode', 'tokenize', 'score', 'fit'] as const
const limitMax = 1_000_000

const count = (n: number, one?: string): string => `${n.toLocaleString('en-US')}${one === undefined ? '' : ` ${one}${n === 1 ? '' : 's'}`}`

const withFilters = (command: Command): Command =>
  command
    .option('--run <NAME>', 'only those of this run (of a factor set: "factors NAME")')
    .option('--stage <STAGE>', `only those that failed at this stage: ${stages.join(', ')}`)
    .option('--cause <TEXT>', 'only those whose cause holds this text')
    .option('--source <NAME>', 'only those of documents of this source')
    .option('--since <TIME>', 'only those written at this time or later: 2026-01-31, or 2026-01-31T12:00:00Z')

const textOf = (flags: Flags, name: string): string | undefined => {
  const given = flags[name]
  return typeof given === 'string' && given !== '' ? given : undefined
}

/** @throws UsageError for a stage or a time that there is not */
const filterOf = (flags: Flags): DeadLetterFilter => {
  const [stage, since] = [textOf(flags, 'stage'), textOf(flags, 'since')]
  if (stage !== undefined && !stages.some((known) => known === stage))
    throw new UsageError(`--stage ${stage} is not allowed`, { fix: `one of ${stages.join(', ')}` })
  const sinceMs = since === undefined || !/^\d{4}-\d\d-\d\d/.test(since) ? NaN : Date.parse(since)
  if (since !== undefined && Number.isNaN(sinceMs))
    throw new UsageError(`--since ${since} is not allowed`, { fix: 'a time as ISO 8601 has it: 2026-01-31, or 2026-01-31T12:00:00Z' })
  const [run, cause, source] = [textOf(flags, 'run'), textOf(flags, 'cause'), textOf(flags, 'source')]
  return {
    ...(run === undefined ? {} : { run }), ...(stage === undefined ? {} : { stage }), ...(cause === undefined ? {} : { cause }),
    ...(source === undefined ? {} : { source }), ...(since === undefined ? {} : { sinceMs }),
  }
}

const limitOf = (flags: Flags): number => {
  const given = textOf(flags, 'limit') ?? '20'
  if (!/^\d{1,7}$/.test(given) || Number(given) > limitMax)
    throw new UsageError(`--limit ${given} is not allowed`, { fix: `a whole number from 0 to ${count(limitMax)}` })
  return Number(given)
}

const timeOf = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ')

/** Where the original is: a place of a shard, or of the topic `documents`. */
const whereOf = ({ shard, index, topic, partition, offset }: Pick<ListedLetter, 'shard' | 'index' | 'topic' | 'partition' | 'offset'>): string =>
  topic !== null ? `${topic} ${partition ?? '?'}:${offset ?? '?'}` : shard === null ? '' : `${shard}, line ${(index ?? 0) + 1}`

const retryWords: Readonly<Record<RetryStatus['state'], string>> = { never: '', wanted: 'waits for a worker', done: 'replayed', failed: 'failed again' }

/* -------------------------------------------------------- list ----------------------------------------------------- */

const listText = ({ matched, counts, letters, unreadable }: DeadLetterList<string>): string => {
  const parts: string[] = []
  if (counts.length > 0)
    parts.push(tableOf(['DEAD LETTERS', 'STAGE', 'RUN', 'KIND', 'LAST CAUSE'], counts.map(({ run, stage, count: n, class: kind, lastCause }) =>
      [count(n), stage, run ?? '', kind ?? 'others', excerptOf(lastCause, 90)]), { right: ['DEAD LETTERS'] }))
  if (letters.length > 0)
    parts.push(tableOf(['ID', 'WRITTEN', 'STAGE', 'RUN', 'SOURCE', 'DOCUMENT', 'WHERE', 'RETRY', 'CAUSE'], letters.map((letter) =>
      [letter.id, timeOf(letter.timestampMs), letter.stage, letter.run ?? '', excerptOf(letter.source ?? '', 24), excerptOf(letter.document ?? '', 32),
        excerptOf(whereOf(letter), 40), retryWords[letter.retry.state], excerptOf(letter.cause, 90)])))
  if (matched === 0) parts.push('no dead letters\n')
  else if (letters.length < matched) parts.push(`the newest ${count(letters.length)} of ${count(matched)}; --limit N shows more\n`)
  if (unreadable > 0) parts.push(`${count(unreadable, 'record')} of dead-letters cannot be read themselves\n`)
  return parts.join('\n')
}

const listCommand = (): Command =>
  withFilters(new Command('list').description('print what could not be processed, counted by cause, the newest first'))
    .option('--limit <N>', 'letters that are listed; all are counted (default: 20)')
    .option('--open', 'only those that were not replayed yet')
    .action(async (_options: unknown, command: Command) => {
      const given = givenTo(command)
      const [filter, limit] = [filterOf(given.flags), limitOf(given.flags)]
      const settings = resolveGlobalSettings(given)
      const [{ openLogForReading }, { listDeadLetters }, { causeClass }] = await Promise.all([
        import('../pipeline/home.js'), import('../pipeline/dead-letters.js'), import('../monitor/causes.js'),
      ])
      await using log = await openLogForReading(settings)
      const list = await listDeadLetters(log, filter, { limit, open: given.flags.open === true, classOf: causeClass })
      if (settings.json) await outputFor(settings).json(list)
      else await outputFor(settings).write(listText(list))
    })

/* -------------------------------------------------------- show ----------------------------------------------------- */

/** Bytes of an original that are shown in hexadecimal. */
const hexBytesMax = 4096

/** Text if the bytes are text: UTF-8 without U+0000. */
const textIn = (bytes: Uint8Array): string | null => {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    return text.includes('\u0000') ? null : text
  } catch {
    return null
  }
}

/** Offset, sixteen bytes, and what of them is ASCII. */
const hexOf = (bytes: Uint8Array): string => {
  const lines: string[] = []
  for (let at = 0; at < Math.min(bytes.length, hexBytesMax); at += 16) {
    const row = [...bytes.subarray(at, Math.min(at + 16, hexBytesMax))]
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const ascii = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.padEnd(47)}  ${ascii}`)
  }
  if (bytes.length > hexBytesMax) lines.push(`and ${count(bytes.length - hexBytesMax)} bytes more: --raw writes all`)
  return lines.join('\n')
}

/** Every line behind two spaces, so that no text of others looks like a field. */
const indented = (text: string): string => text.split('\n').map((line) => `  ${line}\n`).join('')

const letterText = ({ partition, offset, key, timestampMs, value, retry, source }: FoundLetter): string => {
  const { original } = value
  const text = textIn(original)
  const rows: [string, string][] = [
    ['id', `${partition}:${offset}`],
    ['written', new Date(timestampMs).toISOString()],
    ['stage', value.stage],
    ['run', value.run ?? 'none: it failed when it was ingested'],
    ['source', source ?? 'not known'],
    ['document', value.document ?? 'not known'],
  ]
  if (value.piece !== null) rows.push(['piece', String(value.piece)])
  if (value.topic !== null) rows.push(['topic', `${value.topic}, partition ${value.partition ?? '?'}, offset ${value.offset ?? '?'}`])
  if (value.shard !== null) rows.push(['shard', `${value.shard}, line ${(value.index ?? 0) + 1}`])
  rows.push(['key', key.split('\u001f').join(' ␟ ')])
  if (retry.state !== 'never') rows.push(['retry', `${retryWords[retry.state]}${retry.state === 'failed' ? `: ${retry.cause ?? ''}` : ''}`])
  return `${rows.map(([name, said]) => `${name.padEnd(9)} ${escaped(said).replace(/\n/g, '\\u000a')}\n`).join('')}cause\n${indented(escaped(value.cause))}` +
    `original, ${count(original.length, 'byte')}${text === null ? ', not text' : ''}\n${indented(text === null ? hexOf(original) : escaped(text))}`
}

const showCommand = (): Command =>
  new Command('show')
    .description('print one dead letter whole: where it came from, its cause, its original bytes')
    .argument('<ID>', 'PARTITION:OFFSET, as list has it')
    .option('--raw', 'write the original bytes, and nothing else, to standard output')
    .action(async (id: string, _options: unknown, command: Command) => {
      const given = givenTo(command)
      const settings = resolveGlobalSettings(given)
      const output = outputFor(settings)
      const [{ openLogForReading }, { findDeadLetter }] = await Promise.all([import('../pipeline/home.js'), import('../pipeline/dead-letters.js')])
      await using log = await openLogForReading(settings)
      const letter = await findDeadLetter(log, id)
      if (given.flags.raw === true) return output.write(letter.value.original)
      if (!settings.json) return output.write(letterText(letter))
      const { original, ...about } = letter.value
      await output.json({
        id, timestampMs: letter.timestampMs, key: letter.key, source: letter.source, ...about, retry: letter.retry,
        originalText: textIn(original), originalBase64: Buffer.from(original).toString('base64'), originalBytes: original.length,
      })
    })

/* ------------------------------------------------------- replay ---------------------------------------------------- */

const shownMax = 10

const listed = (title: string, letters: ReplayResult['refused'], all: number): string[] =>
  all === 0 ? [] : [
    title,
    ...letters.slice(0, shownMax).map(({ id, cause }) => `  ${id}: ${excerptOf(cause, 200)}`),
    ...(all > shownMax ? [`  and ${count(all - shownMax)} more`] : []),
  ]

const replayText = (result: ReplayResult, { dryRun }: { readonly dryRun: boolean }): string => {
  const { matched, appended, alreadyThere, failedAgainCount, wanted, alreadyWanted, alreadyDone, runs } = result
  if (matched === 0) return 'no dead letters are meant: nothing was done\n'
  const lines: string[] = []
  if (dryRun) lines.push('nothing was written (--dry-run); without it:')
  if (appended + alreadyThere + failedAgainCount > 0)
    lines.push(`of ingest: ${count(appended, 'document')} appended, ${count(alreadyThere)} already there, ${count(failedAgainCount)} failed again`)
  lines.push(...listed('failed again:', result.failedAgain, failedAgainCount))
  if (wanted + alreadyWanted + alreadyDone > 0)
    lines.push(`of runs: ${count(wanted)} to be tried again, ${count(alreadyWanted)} were waiting already, ${count(alreadyDone)} were replayed before`)
  for (const run of runs.map(visible))
    lines.push(`run "${run}": a worker that follows tries them within seconds; else start it again (tributary score --run ${run} ...)`)
  lines.push(...listed('cannot be replayed:', result.refused, result.refusedCount))
  if (!result.finished) lines.push('stopped; the same command does the rest')
  return `${lines.join('\n')}\n`
}

const replayCommand = (): Command =>
  withFilters(new Command('replay').description('try dead letters again: lines of ingest at once, documents of a run by its next worker'))
    .argument('[ID...]', 'PARTITION:OFFSET, as list has it; or filters; or --all')
    .option('--all', 'all of them')
    .option('--dry-run', 'say what would be done')
    .option('--text-field <NAME>', 'lines: field that holds the text (default: text)')
    .option('--id-field <NAME>', 'lines: field that holds the id (default: id)')
    .option('--as-source <NAME>', "lines: source of those that name none (default: the shard's name, less number and extensions)")
    .option('--max-bytes <BYTES>', 'lines: more text than this fails again (default: 4MiB)')
    .addHelpText('after', replayHelp)
    .action(async (ids: string[], _options: unknown, command: Command) => {
      const given = givenTo(command)
      const filter: DeadLetterFilter = { ...filterOf(given.flags), ...(ids.length === 0 ? {} : { ids }) }
      const isAll = given.flags.all === true
      if (Object.keys(filter).length === 0 && !isAll)
        throw new UsageError('which dead letters are meant was not said', { fix: 'name ids, give a filter such as --run NAME or --cause TEXT, or --all' })
      const settings = resolveSettings('ingest', { ...given, flags: { ...given.flags, source: given.flags.asSource, paths: ['-'] } })
      const dryRun = given.flags.dryRun === true
      const output = outputFor(settings)
      const { openLog, openLogForReading } = await import('../pipeline/home.js')
      const { replayDeadLetters } = await import('../pipeline/replay-dead-letters.js')
      // A slip in --home is an error, not a new home.
      await (await openLogForReading(settings))[Symbol.asyncDispose]()
      const progress = progressFor(settings)
      using interruption = interruptible((line) => progress.log(line))
      await using log = dryRun ? await openLogForReading(settings) : await openLog(settings)
      progress.start(null, 'dead letters')
      const result = await replayDeadLetters(log, filter, {
        document: settings, dryRun, signal: interruption.signal, onProgress: (done) => progress.update(done),
      }).finally(() => progress.stop())
      if (settings.json) await output.json(result)
      else await output.write(replayText(result, { dryRun }))
      if (!result.finished) process.exitCode = interruption.exitCode ?? exitCodes.failed
      else if (result.refusedCount > 0 && result.refusedCount === result.matched) {
        const what = result.matched === 1 ? `dead letter ${result.refused[0].id} cannot` : `none of these ${count(result.matched)} dead letters can`
        throw new UserError(`${what} be replayed: ${excerptOf(result.refused[0].cause, 300)}`)
      }
    })

const replayHelp = `
A line of ingest is read again from the bytes that were kept, with the names of fields given here (variables and a run file
count as in tributary ingest), and appended as ingest would: twice adds nothing. A document that a run could not use is tried
again by a worker of the run, which counts it once, in this run alone, in one transaction with the answer. What fails again
says why in list and show, and may be replayed again, after an upgrade say.
  tributary dead-letters replay --stage ingest --cause 'no field "text"' --text-field body
  tributary dead-letters replay --run first && tributary score --run first ...`

export const deadLettersCommand = (): Command =>
  new Command('dead-letters')
    .description('list, show and replay what could not be processed')
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(replayCommand())
