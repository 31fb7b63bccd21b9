/**
 * @file Declared topics × topics on the cluster → what is to be done. Pure: topic-admin.ts reads the one and does the
 * other. A plan never removes a topic, a partition or a setting that is not declared; what would lose records or cannot
 * be taken back says so in `consent`; what cannot be done at all is refused, with the way there is.
 *
 * Growth: a record stays in its partition for ever, so only topics whose keys are never looked up by their hash may
 * grow. `documents` and those that lie as it does are such topics (what is known twice is known by `identities`, and
 * state is keyed by partition); a compacted topic that is spread by the hash of its keys is not.
 */
import type { TopicDeclaration } from '../declarations.js'
import type { KafkaTopic, NewKafkaTopic } from './client.js'
import { kafkaTopic } from './topic-configs.js'

/** A topic on the cluster, with the entries that were set for it. */
export interface ActualTopic extends KafkaTopic {
  readonly configs: Readonly<Record<string, string>>
}

export interface Difference {
  readonly name: string
  /** Null: not set, the broker's default holds. */
  readonly from: string | null
  readonly to: string
}

/** One thing to be done. `consent`: why it needs the user's yes; null: it loses nothing and can be done again. */
export type Step =
  | { readonly kind: 'create'; readonly topic: string; readonly declared: NewKafkaTopic; readonly consent: null }
  | { readonly kind: 'grow'; readonly topic: string; readonly from: number; readonly to: number; readonly consent: string }
  /** `configs`: the whole set, since setting it replaces all entries. */
  | {
    readonly kind: 'configure'; readonly topic: string; readonly differences: readonly Difference[]
    readonly configs: Readonly<Record<string, string>>; readonly consent: string | null
  }

/** What differs and cannot be made equal. */
export interface Refusal {
  readonly topic: string
  readonly what: string
  readonly fix: string
}

export interface TopicPlan {
  /** In the order in which they are to be done. */
  readonly steps: readonly Step[]
  readonly refused: readonly Refusal[]
  /** Differences that are left alone. */
  readonly notes: readonly string[]
}

export interface Wanted {
  /** Before every name. */
  readonly prefix: string
  /** Of `documents` and those that lie as it does; null: as it is, or as it is declared. */
  readonly partitions: number | null
  /** Of topics that are made; null: as they are declared, or the broker's default. */
  readonly replicationFactor: number | null
  /** Null: as they are declared, or left alone. */
  readonly minInsyncReplicas: number | null
}

const GROWTH = 'partitions can be added and never removed: what is there stays where it is and new documents spread over all; ' +
  'runs in progress take up the new partitions (an end of a run that was near moves away); stop whoever ingests meanwhile'

/** Entries that may be larger on the cluster than declared. */
const AT_LEAST: ReadonlySet<string> = new Set(['max.message.bytes'])

/** @param actual topics of the cluster; those that are not declared are left alone */
export const planTopics = (declared: Iterable<TopicDeclaration>, actual: readonly ActualTopic[], wanted: Wanted): TopicPlan => {
  const { prefix, replicationFactor, minInsyncReplicas } = wanted
  const found = new Map(actual.map((topic) => [topic.topic, topic]))
  const declarations = [...declared]
  const own = declarations.find(({ name }) => name === 'documents')?.partitions
  const documents = found.get(`${prefix}documents`)
  const documentsPartitions = wanted.partitions ?? documents?.partitions ?? (typeof own === 'number' ? own : 1)
  const steps: Step[] = []
  const refused: Refusal[] = []
  const notes: string[] = []
  for (const declaration of declarations) {
    const target = kafkaTopic(declaration, { prefix, documentsPartitions, replicationFactor, minInsyncReplicas })
    const { topic } = target
    const there = found.get(topic)
    if (there === undefined) {
      steps.push({ kind: 'create', topic, declared: target, consent: null })
      continue
    }
    const follows = declaration.name === 'documents' || declaration.partitions === 'documents'
    if (there.partitions < target.partitions)
      if (follows) steps.push({ kind: 'grow', topic, from: there.partitions, to: target.partitions, consent: GROWTH })
      else refused.push({
        topic, what: `it has ${there.partitions} partitions, ${target.partitions} are declared, and its keys are found by their hash: growing it would hide what is there`,
        fix: 'begin anew under another prefix (kafka: {prefix} in the run file)',
      })
    else if (there.partitions > target.partitions)
      if (declaration.name === 'documents' || !follows) refused.push({
        topic, what: `it has ${there.partitions} partitions, not ${target.partitions}: Kafka takes none away`,
        fix: follows ? `--partitions ${there.partitions}, or begin anew under another prefix (kafka: {prefix} in the run file)` : 'begin anew under another prefix (kafka: {prefix} in the run file)',
      })
      else notes.push(`${topic} has ${there.partitions} partitions and needs ${target.partitions}: the others stay empty`)
    if (target.replicationFactor !== null && there.replicationFactor !== target.replicationFactor)
      notes.push(`${topic} has ${there.replicationFactor} replicas, not ${target.replicationFactor}: moving replicas is for kafka-reassign-partitions.sh`)
    const differences = differencesOf(there.configs, target.configs)
    if (differences.length > 0)
      steps.push({ kind: 'configure', topic, differences, configs: { ...there.configs, ...Object.fromEntries(differences.map(({ name, to }) => [name, to])) }, consent: consentOf(differences) })
  }
  return { steps: [...steps].sort((a, b) => rank(a, prefix) - rank(b, prefix)), refused, notes }
}

/** `documents` last, and grown last: whoever sees a partition of it finds that partition in the others. */
const rank = (step: Step, prefix: string): number =>
  ({ create: 0, configure: 2, grow: 4 })[step.kind] + (step.topic === `${prefix}documents` ? 1 : 0)

const isMet = (name: string, from: string | undefined, to: string): boolean =>
  from === to || (from !== undefined && AT_LEAST.has(name) && Number(from) >= Number(to))

const differencesOf = (actual: Readonly<Record<string, string>>, target: Readonly<Record<string, string>>): readonly Difference[] =>
  Object.entries(target).flatMap(([name, to]) => (isMet(name, actual[name], to) ? [] : [{ name, from: actual[name] ?? null, to }]))

const consentOf = (differences: readonly Difference[]): string | null => {
  const reasons = differences.flatMap(({ name, from, to }) => {
    if (name === 'cleanup.policy') return [`cleanup.policy ${from ?? '(default)'} → ${to} removes records: ${to === 'compact' ? 'all but the newest of each key' : 'those past their retention'}`]
    if (name === 'retention.ms' && Number(to) >= 0 && (from === null || Number(from) < 0 || Number(to) < Number(from)))
      return [`retention.ms ${from ?? '(default)'} → ${to} removes records that are kept now`]
    if (name === 'min.insync.replicas' && from !== null && Number(to) < Number(from)) return [`min.insync.replicas ${from} → ${to}: what is acknowledged is on fewer replicas`]
    return []
  })
  return reasons.length === 0 ? null : reasons.join('; ')
}

/** A step in a line. */
export const stepText = (step: Step): string => {
  switch (step.kind) {
    case 'create': {
      const { topic, partitions, replicationFactor, configs } = step.declared
      const settings = Object.entries(configs).map(([name, value]) => `${name}=${value}`)
      return `create ${topic}: ${partitions} ${partitions === 1 ? 'partition' : 'partitions'}, ${replicationFactor ?? "the broker's number of"} replicas, ${settings.join(' ')}`
    }
    case 'grow':
      return `grow ${step.topic}: ${step.from} → ${step.to} partitions`
    case 'configure':
      return `set ${step.topic}: ${step.differences.map(({ name, from, to }) => `${name} ${from ?? '(default)'} → ${to}`).join(', ')}`
    default:
      return step satisfies never
  }
}
