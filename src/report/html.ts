/** @file HTML out of text: everything is escaped unless it was made here. */

declare const made: unique symbol
/** HTML that this file made; text of others can become it through `html` only, escaped. */
export interface Html {
  readonly [made]: true
  readonly source: string
}

const trusted = (source: string): Html => ({ source }) as Html

/** Characters that mean something in HTML, and those that change the direction or the look of text, made harmless. */
export const escapeHtml = (text: string): string =>
  text
    .replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;').replace(/'/g, '&#39;')
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '\ufffd')

type Part = string | number | Html | readonly Part[] | null | undefined | false

const partSource = (part: Part): string => {
  if (part === null || part === undefined || part === false) return ''
  if (typeof part === 'string') return escapeHtml(part)
  if (typeof part === 'number') return String(part)
  if (Array.isArray(part)) return (part as readonly Part[]).map(partSource).join('')
  return (part as Html).source
}

/** A template whose values are escaped, but for HTML that came from here. */
export const html = (strings: TemplateStringsArray, ...parts: readonly Part[]): Html =>
  trusted(strings.reduce((source, string, at) => source + partSource(parts[at - 1]) + string))

/** A chart, drawn by charts.ts: Plot escapes what it is given. */
export const drawing = (svg: string): Html => trusted(svg)
