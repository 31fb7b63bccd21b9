/**
 * @file Colours for a terminal, where there is one that wants them: not with NO_COLOR (no-color.org), a dumb terminal or a
 * pipe; with FORCE_COLOR always. Sign by hue, blue and orange, which people with any kind of colour vision tell apart; and
 * nothing is said by colour alone.
 */

/** What colours a text by a value in [−1, 1]; the text itself where there are no colours. */
export type Shade = (text: string, value: number) => string

export const wantsColours = (stream: { readonly isTTY?: boolean }, env: Readonly<Record<string, string | undefined>>): boolean => {
  if ((env.NO_COLOR ?? '') !== '') return false
  if (env.FORCE_COLOR !== undefined) return env.FORCE_COLOR !== '0' && env.FORCE_COLOR !== 'false'
  return stream.isTTY === true && env.TERM !== 'dumb'
}

/** Backgrounds of the 256 colours, from faint to strong, each with a letter colour that has contrast on it. */
const positive = [[153, 16], [111, 16], [69, 16], [27, 231], [19, 231]] as const
const negative = [[223, 16], [216, 16], [209, 16], [202, 16], [130, 231]] as const
/** Shares of the greatest magnitude from which on each is used; below the first, none is. */
const steps = [0.04, 0.12, 0.3, 0.55, 0.8] as const

export const shade: Shade = (text, value) => {
  const level = steps.findLastIndex((least) => Math.abs(value) >= least)
  if (level < 0 || text === '') return text
  const [background, letters] = (value > 0 ? positive : negative)[level]
  const begin = `\x1b[48;5;${background}m\x1b[38;5;${letters}m`
  // A colour that crosses a line's end fills the rest of the line on some terminals.
  return text.split('\n').map((line) => (line === '' ? '' : `${begin}${line}\x1b[0m`)).join('\n')
}

export const plain: Shade = (text) => text
