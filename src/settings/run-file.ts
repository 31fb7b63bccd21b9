/**
 * @file The run file: settings as YAML, so that an experiment is one file. Checked strictly: a key that is none, or a
 * value of the wrong kind, is refused with file, line and the nearest right key.
 *
 *     home: .tributary
 *     model: checkpoints/base     # every command that takes --model
 *     factors: mlp
 *     fit:
 *       documents: 10000
 *     score:                      # these for `tributary score` alone; they go before the ones above
 *       run: first
 *       k: 100
 *     kafka:                      # how the cluster of `log: kafka://...` is reached
 *       ca: ca.pem
 */
import { readFileSync } from 'node:fs'
import { isMap, isScalar, LineCounter, parseDocument, type ParsedNode } from 'yaml'
import { z } from 'zod'
import { commandFields, globalFields, kafkaFields, kebab, type Field, type SectionName } from './fields.js'
import { UsageError } from './usage-error.js'

/** A value and where in the file it stands. */
export interface FileValue {
  readonly value: unknown
  /** "run.yaml:12". */
  readonly where: string
}

/** What a run file says: for all commands, and for one. Keys in camelCase. */
export interface RunFile {
  readonly path: string
  readonly common: ReadonlyMap<string, FileValue>
  readonly sections: ReadonlyMap<SectionName, ReadonlyMap<string, FileValue>>
}

type AnyField = Field<unknown>
const sectionNames = Object.keys(commandFields) as SectionName[]
const entriesOf = (fields: object): [string, AnyField][] =>
  Object.entries(fields as Record<string, AnyField>).filter(([key, field]) => field.file !== false && !(key in kafkaFields))

/** The keys of the section `kafka`, which say nothing of commands: `ca` is the setting `kafkaCa`. */
const kafkaSection = (): Map<string, readonly [string, AnyField]> =>
  new Map(Object.entries(kafkaFields as Record<string, AnyField>).map(([key, field]) => [kebab(key).replace(/^kafka-/, ''), [key, field]]))

/** kebab-case key → camelCase key and field, of one section. */
const fieldsOf = (section: SectionName): Map<string, readonly [string, AnyField]> =>
  new Map(entriesOf(commandFields[section]).map(([key, field]) => [kebab(key), [key, field] as const]))

/**
 * The keys allowed outside sections: global settings, and those that mean one thing in every command that has them
 * (`model`, `factors`, `run`, `context`, ...).
 */
const commonFields = (): Map<string, readonly [string, AnyField]> => {
  const common = new Map(entriesOf(globalFields).map(([key, field]) => [kebab(key), [key, field] as const]))
  for (const section of sectionNames)
    for (const [name, entry] of fieldsOf(section)) if (!common.has(name)) common.set(name, entry)
  return common
}

/** Edits between two words (insert, delete, replace, swap of neighbours). */
const distance = (a: string, b: string): number => {
  const rows: number[][] = Array.from({ length: a.length + 1 }, (_, i) => [i, ...Array<number>(b.length).fill(0)])
  for (let j = 0; j <= b.length; j++) rows[0][j] = j
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1)
    }
  return rows[a.length][b.length]
}

/** The nearest of the right words, if it is near enough to be what was meant. */
export const nearest = (word: string, right: Iterable<string>): string | undefined => {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of right) {
    const d = distance(word.toLowerCase().replace(/_/g, '-'), candidate)
    if (d < bestDistance) [best, bestDistance] = [candidate, d]
  }
  return best
}

/** A given value in a few characters, for messages. */
export const showValue = (value: unknown): string => {
  const text = typeof value === 'string' ? JSON.stringify(value) : (JSON.stringify(value) ?? String(value))
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`
}

/**
 * Reads a run file.
 * @throws UsageError for a file that cannot be read, YAML that is none, keys and values that are not allowed
 */
export const readRunFile = (path: string): RunFile => {
  let source: string
  try {
    source = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new UsageError(`run file "${path}" cannot be read: ${(cause as Error).message}`, { cause, fix: '--config FILE' })
  }
  const lines = new LineCounter()
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const problem = document.errors[0] ?? document.warnings[0]
  if (problem !== undefined)
    throw new UsageError(`${path}:${lines.linePos(problem.pos[0]).line}: ${problem.message}`, { fix: 'mend the YAML' })

  const whereOf = (node: unknown): string => {
    const range = (node as ParsedNode | null)?.range
    return range ? `${path}:${lines.linePos(range[0]).line}` : path
  }
  const readMap = (
    node: unknown,
    allowed: ReadonlyMap<string, readonly [string, AnyField]>,
    place: string,
    onOther: (name: string, value: unknown) => boolean,
  ): Map<string, FileValue> => {
    const found = new Map<string, FileValue>()
    if (node === null || (isScalar(node) && node.value === null)) return found
    if (!isMap(node)) throw new UsageError(`${whereOf(node)}: ${place} must be a map of settings`)
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : String(key)
      if (onOther(name, value)) continue
      const entry = allowed.get(name)
      if (entry === undefined) {
        const near = nearest(name, [...allowed.keys(), ...(place === 'the file' ? [...sectionNames, 'kafka'] : [])])
        throw new UsageError(
          `${whereOf(key)}: there is no setting "${name}"${place === 'the file' ? '' : ` in ${place}`}` +
            (near === undefined ? '' : `; did you mean "${near}"?`),
          { fix: `right keys: ${[...allowed.keys()].sort().join(', ')}` },
        )
      }
      const [field, { kind, secret }] = entry
      const plain: unknown = (value as ParsedNode | null)?.toJS(document) ?? null
      if (!kind.schema.safeParse(plain).success)
        throw new UsageError(`${whereOf(value ?? key)}: ${name} is ${secret === true ? 'not text' : showValue(plain)}; allowed: ${kind.allowed}`)
      found.set(field, { value: plain, where: whereOf(key) })
    }
    return found
  }

  const sections = new Map<SectionName, ReadonlyMap<string, FileValue>>()
  let kafka = new Map<string, FileValue>()
  const common = readMap(document.contents, commonFields(), 'the file', (name, value) => {
    if (name === 'kafka') {
      kafka = readMap(value, kafkaSection(), '"kafka"', () => false)
      return true
    }
    const section = sectionNames.find((candidate) => candidate === name)
    if (section === undefined) return false
    sections.set(section, readMap(value, fieldsOf(section), `"${section}"`, () => false))
    return true
  })
  return { path, common: new Map([...common, ...kafka]), sections }
}

/** The JSON Schema of the run file (schemas/run.schema.json is this, for editors). */
export const runFileJsonSchema = (): unknown => {
  const objectOf = (fields: ReadonlyMap<string, readonly [string, AnyField]>): Record<string, z.ZodType> =>
    Object.fromEntries(
      [...fields].map(([key, [, field]]) => [
        key,
        (field.kind.schema as z.ZodType).optional().describe(`${field.about}. Allowed: ${field.kind.allowed}.`),
      ]),
    )
  const shape = {
    ...objectOf(commonFields()),
    kafka: z.strictObject(objectOf(kafkaSection())).optional().describe('How the cluster of `log: kafka://...` is reached.'),
    ...Object.fromEntries(
      sectionNames.map((section) => [
        section,
        z.strictObject(objectOf(fieldsOf(section))).optional().describe(`Settings of \`tributary ${section}\` alone.`),
      ]),
    ),
  }
  return {
    ...z.toJSONSchema(z.strictObject(shape), { io: 'input', target: 'draft-2020-12' }),
    title: 'tributary run file',
  }
}
