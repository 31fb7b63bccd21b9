/** @file The settings as a page for people: docs/settings.md is this, and a test compares. */
import { commandFields, flagOf, globalFields, kafkaFields, kebab, variableOf, type Field, type SectionName } from './fields.js'

const abouts: Readonly<Record<SectionName, string>> = {
  ingest: 'shards → documents',
  fit: 'documents → factors',
  score: 'documents → influence on the queries of a run',
  sum: 'the scores of several runs → their weighted sum, a run of its own',
  topk: "a run's tables",
  explain: "a document's influence on one query, by token and by layer",
  plan: 'what a fit and a scoring would take: memory, disk, hours',
  scores: "a run's scores, as files",
  analyses: "the papers' figures of a run",
  report: 'the figures, tables and provenance of a run, as one HTML file',
  export: 'a run in the form of others',
  serve: 'the live page over HTTP',
}

/** docs/settings.md. */
export const settingsMarkdown = (): string => {
  const sections = (Object.keys(commandFields) as SectionName[]).map((section) => {
    const own = Object.entries(commandFields[section] as Record<string, Field<unknown>>).filter(([key]) => !(key in globalFields))
    return `## tributary ${section}\n\n${abouts[section]}\n\n${tableOf(own)}`
  })
  const globals = Object.entries(globalFields as unknown as Record<string, Field<unknown>>).filter(([key]) => !(key in kafkaFields))
  const kafka = Object.entries(kafkaFields as unknown as Record<string, Field<unknown>>)
  return `${intro}\n## All commands\n\n${tableOf(globals)}\n${kafkaIntro}\n${tableOf(kafka)}\n${sections.join('\n')}`
}

const kafkaIntro = `## Reaching a cluster

With \`--log kafka://...\`. In the run file these stand in the section \`kafka\`, without their first word; they have no
flags, so that no password shows in a list of processes:

    log: kafka://broker-1:9093,broker-2:9093
    kafka:
      ca: ca.pem
      sasl: scram-sha-512
      username: tributary
`

const intro = `# Settings

Made from \`src/settings/fields.ts\` by \`node dist/test/settings/write-docs.js\`; a test compares.

A setting comes from a flag, else from a variable, else from the run file (\`--config run.yaml\`, or TRIBUTARY_CONFIG),
else from its default. In the run file it stands under its name here, for all commands that have it, or in a section
named after one command, which goes first:

    model: checkpoints/base
    factors: mlp
    fit:
      documents: 10000
    score:
      run: first
      k: 50

\`schemas/run.schema.json\` describes the run file to editors. A key that is none, or a value that is not allowed, is
refused with its line. Switches are \`--name\` and \`--no-name\`. A run records what identifies it and refuses to go on
under other settings: all of \`tributary score\` but paths, \`threads\`, \`memory\`, \`follow\`, \`serve\`, \`commit-every-ms\`,
\`quiet\`, \`json\`, \`listen\`, \`log-level\` and \`log-format\`.
`

const tableOf = (fields: readonly (readonly [string, Field<unknown>])[]): string => {
  const rows = fields.map(([key, field]) => {
    const { kind, about, argument, short, positional, file } = field
    const flag = field.flag === false ? 'none' : positional ? `\`${argument ?? key}...\`` : `\`${[short === undefined ? undefined : `-${short}`, flagOf(key)].filter((name, at, all) => name !== undefined && all.indexOf(name) === at).join(', ')}\``
    const fallback = field.fallback === undefined ? '**needed**' : (field.fallbackAbout ?? String(field.fallback))
    return [`\`${kebab(key)}\`${file === false ? ' (not in the run file)' : ''}`, flag, `\`${variableOf(key)}\``, fallback, about, kind.allowed]
  })
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replace(/\|/g, '\\|')).join(' | ')} |`
  return [line(['name', 'flag', 'variable', 'default', 'what', 'allowed']), '|---|---|---|---|---|---|', ...rows.map(line), ''].join('\n')
}
