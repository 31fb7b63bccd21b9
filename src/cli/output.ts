/**
 * @file Standard output and standard error of a command. Results go to the first, everything else to the second. A
 * reader that has seen enough (`| head`) ends the command quietly.
 */
import { once } from 'node:events'
import Table from 'cli-table3'

export interface Output {
  /** Text (or bytes) for standard output; waits while the reader is slow. */
  write(text: string | Uint8Array): Promise<void>
  /** One JSON document, or one of several lines. */
  json(value: unknown): Promise<void>
  /** A remark on standard error; nothing under --quiet. */
  note(line: string): void
  /** Something that the reader must see, on standard error, also under --quiet. */
  warn(line: string): void
}

export const processOutput = ({ quiet }: { readonly quiet: boolean }): Output => ({
  async write(text) {
    if (!process.stdout.write(text)) await once(process.stdout, 'drain')
  },
  async json(value) {
    await this.write(`${JSON.stringify(value)}\n`)
  },
  note(line) {
    if (!quiet) process.stderr.write(`${line}\n`)
  },
  warn(line) {
    process.stderr.write(`${line}\n`)
  },
})

/** Ends the process, quietly, when the reader of standard output or standard error is gone. */
export const endQuietlyWithoutReader = (): void => {
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      throw error
    })
}

const plainChars = {
  top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '',
  'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ',
}

/** Rows under a head, in columns without rules. Columns named in `right` are aligned to the right. */
export const tableOf = (
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  { right = [] }: { readonly right?: readonly string[] } = {},
): string => {
  const table = new Table({
    head: [...head],
    chars: plainChars,
    colAligns: head.map((name) => (right.includes(name) ? 'right' : 'left')),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  })
  for (const row of rows) table.push(row.map((cell) => visible(String(cell))))
  return `${table.toString().split('\n').map((line) => line.trimEnd()).join('\n')}\n`
}

/** Text of others made safe for a terminal and for one line: runs of white space become a space, controls are shown. */
export const visible = (text: string): string =>
  text
    .replace(/\s+/g, ' ')
     
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd')

/**
 * Text of others made safe for a terminal, with its line breaks: what a terminal would act on, or would show in another
 * order than it stands, is written as an escape (\u001b). A backslash of the text stays as it is.
 */
export const escaped = (text: string): string =>
  text.replace(
    /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (c) => (c === '\t' ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`),
  )

/** At most `lengthMax` characters of a text, on one line. */
export const excerptOf = (text: string, lengthMax: number): string => {
  const line = visible(text.slice(0, lengthMax * 4)).trim()
  const characters = [...line]
  return characters.length <= lengthMax && text.length <= lengthMax * 4
    ? line
    : `${characters.slice(0, lengthMax - 1).join('').trimEnd()}…`
}

/** A score in six significant digits. */
export const formatScore = (score: number): string =>
  score === 0 ? '0' : Math.abs(score) >= 1e6 || Math.abs(score) < 1e-3 ? score.toExponential(4) : score.toPrecision(6)
