/**
 * @file The topics as declared in topics/*.yaml, with their values' schemas from schemas/*.avsc. Both ship with the
 * package and are checked when they are read: a wrong declaration fails at once, with its file's name.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parse } from 'yaml'
import { z } from 'zod'
import { UserError, packageRoot } from '../base/index.js'
import type { AvroSchema } from './avro-schema.js'
import type { TopicName } from './topics.js'

/** Every topic there is; the compiler holds it to `TopicValues`. */
const NAMES: { readonly [Name in TopicName]: true } = {
  documents: true,
  influence: true,
  tables: true,
  moments: true,
  rescored: true,
  runs: true,
  queries: true,
  'dead-letters': true,
  retries: true,
  positions: true,
  identities: true,
  forgotten: true,
  schemas: true,
}

/** More would not help one machine, and a batch of each is kept in memory. */
export const PARTITIONS_MAX = 1024

const isTopicName = (name: string): name is TopicName => Object.hasOwn(NAMES, name)

const common = {
  name: z.string().refine(isTopicName, 'not a topic that this version knows'),
  description: z.string().min(1),
  key: z.string().min(1),
  schema: z.string().regex(/^[a-z-]+\.avsc$/),
  partitions: z.union([z.int().min(1).max(PARTITIONS_MAX), z.literal('documents')]),
  internal: z.boolean().default(false),
}

const declaration = z.discriminatedUnion('cleanup', [
  z.strictObject({
    ...common,
    cleanup: z.literal('delete'),
    retentionMs: z.number().positive().nullable(),
    unique: z.boolean(),
  }),
  z.strictObject({ ...common, cleanup: z.literal('compact') }),
])

export interface TopicDeclaration {
  readonly name: TopicName
  readonly description: string
  /** What the key is, in words. */
  readonly key: string
  /** `documents`: as many as that topic, and a record stays in the partition of the document that it came from. */
  readonly partitions: number | 'documents'
  /** `delete`: every record until retention; `compact`: the newest of every key. */
  readonly cleanup: 'delete' | 'compact'
  /** Records older than this may be dropped; null: kept for ever. */
  readonly retentionMs: number | null
  /** Whether keys are indexed so that `append` can leave out what is there already. */
  readonly unique: boolean
  /** What a cluster's log keeps for itself; the embedded log has tables of its own for it, and none of these topics. */
  readonly internal: boolean
  /** The Avro schema of the value. */
  readonly schema: AvroSchema
}

/** The declared topics by name. Throws a UserError that names the file of a wrong declaration. */
export const declaredTopics = (root: string = packageRoot()): ReadonlyMap<TopicName, TopicDeclaration> => {
  const topics = new Map<TopicName, TopicDeclaration>()
  for (const file of readdirSync(join(root, 'topics')).sort()) {
    if (!file.endsWith('.yaml')) continue
    const path = join(root, 'topics', file)
    const checked = declaration.safeParse(parse(readFileSync(path, 'utf8')))
    if (!checked.success) throw new UserError(`${path}: ${z.prettifyError(checked.error)}`, { fix: `mend ${path}` })
    const { data } = checked
    if (data.name !== basename(file, '.yaml'))
      throw new UserError(`${path} declares "${data.name}"`, { fix: `rename it to ${data.name}.yaml` })
    topics.set(data.name, {
      name: data.name,
      description: data.description,
      key: data.key,
      partitions: data.partitions,
      cleanup: data.cleanup,
      retentionMs: data.cleanup === 'delete' ? data.retentionMs : null,
      unique: data.cleanup === 'delete' ? data.unique : true,
      internal: data.internal,
      schema: JSON.parse(readFileSync(join(root, 'schemas', data.schema), 'utf8')) as AvroSchema,
    })
  }
  for (const name of Object.keys(NAMES))
    if (isTopicName(name) && !topics.has(name))
      throw new UserError(`topic "${name}" is not declared in ${join(root, 'topics')}`, { fix: 'npm ci' })
  return topics
}
