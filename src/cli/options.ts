/** @file From the table of settings to the options of commander. */
import { Argument, Option, type Command } from 'commander'
import { flagOf, globalFields, kebab, variableOf, type Field } from '../settings/index.js'

type AnyField = Field<unknown>

const optionsOf = (key: string, field: AnyField): Option[] => {
  const name = field.argument ?? 'VALUE'
  const long = key.length === 1 ? undefined : `--${kebab(key)}`
  const spelled = [field.short === undefined ? undefined : `-${field.short}`, long].filter(Boolean).join(', ')
  const fallback = field.fallbackAbout ?? (field.fallback === undefined ? undefined : String(field.fallback))
  const required = field.fallback === undefined
  switch (field.kind.arity) {
    case 'switch':
      return [
        new Option(spelled, field.about),
        new Option(`--no-${kebab(key)}`, `not --${kebab(key)}, whatever ${variableOf(key)} or the run file say`).hideHelp(),
      ]
    case 'list':
      return [new Option(`${spelled} <${name}...>`, `${field.about} (default: ${fallback ?? 'none'})`)]
    case 'one':
      return [
        new Option(`${spelled} <${name}>`, `${field.about} ${required ? '(required)' : `(default: ${fallback})`}`),
      ]
    default:
      return field.kind.arity satisfies never
  }
}

/** The options (and positional arguments) of a command, from its fields; global ones are the program's. */
export const addOptions = (command: Command, fields: object): Command => {
  for (const [key, field] of Object.entries(fields as Record<string, AnyField>)) {
    if (key in globalFields || field.flag === false) continue
    if (field.positional)
      command.addArgument(new Argument(`[${field.argument ?? key}...]`, field.about))
    else for (const option of optionsOf(key, field)) command.addOption(option)
  }
  return command
}

/** The options that every command takes, before it or after it. */
export const addGlobalOptions = (program: Command): Command => {
  for (const [key, field] of Object.entries(globalFields as unknown as Record<string, AnyField>))
    if (field.flag !== false) for (const option of optionsOf(key, field)) program.addOption(option)
  return program.addOption(new Option('--config <FILE>', 'run file (YAML), see schemas/run.schema.json'))
}

/** What commander parsed, by the keys of the fields: nothing that was not given. */
export const flagsOf = (command: Command): Record<string, unknown> => ({ ...command.optsWithGlobals() })

/** "--home" for messages. */
export { flagOf }
