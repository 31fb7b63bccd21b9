/**
 * @file The declared topics (topics/*.yaml) and those of the log that the settings name: what is there, what differs, and
 * making them equal. On a cluster everything that is declared counts; in a home, whose partitions are fixed when it is
 * made and whose retention is the declaration's, only what is missing.
 */
import { existsSync } from 'node:fs'
import { UserError } from '../base/index.js'
import { declaredTopics, type TopicDeclaration, type TopicInfo } from '../log/index.js'
import type { ActualTopic, KafkaClient, TopicPlan, Wanted } from '../log/kafka/index.js'
import { kafkaAccess, type GlobalSettings, type KafkaAccess } from '../settings/index.js'
import { homePaths, openLog, openLogForReading } from './home.js'

export type { TopicPlan } from '../log/kafka/index.js'

/** What the command line says beside the declarations; null: nothing. */
export type TopicWishes = Omit<Wanted, 'prefix'>

export interface TopicState {
  readonly declaration: TopicDeclaration
  /** Its name where the log is. */
  readonly topic: string
  /** Null: it is not there. */
  readonly partitions: number | null
  /** Null in a home, and for a topic that is not there. */
  readonly replicationFactor: number | null
  /** The entries that were set for it; empty in a home. */
  readonly configs: Readonly<Record<string, string>>
  /** First offset kept and next offset to be written, a partition each. */
  readonly starts: readonly number[]
  readonly ends: readonly number[]
}

interface Cluster {
  readonly client: KafkaClient
  readonly access: KafkaAccess
  readonly name: string
}

/** Undefined for the embedded log. */
const onCluster = async <T>(settings: GlobalSettings, work: (cluster: Cluster) => Promise<T>): Promise<T | undefined> => {
  const access = kafkaAccess(settings)
  if (access === undefined) return undefined
  const { kafkajsClient } = await import('../log/kafka/kafkajs.js')
  const { guarded } = await import('../log/kafka/index.js')
  const name = `kafka://${access.brokers.join(',')}`
  await using client = kafkajsClient(access)
  return await guarded(name, () => work({ client, access, name }))
}

const declaredHere = (embedded: boolean): readonly TopicDeclaration[] =>
  [...declaredTopics().values()].filter(({ internal }) => !(embedded && internal))

/** The declared topics as they are there. Those of others are not told. */
export const topicStates = async (settings: GlobalSettings): Promise<readonly TopicState[]> => {
  const clustered = await onCluster(settings, async ({ client: { admin }, access, name }) => {
    const { actualTopics } = await import('../log/kafka/index.js')
    const found = new Map((await actualTopics(admin, name, declaredHere(false).map((topic) => access.prefix + topic.name))).map((topic) => [topic.topic, topic]))
    return await Promise.all(declaredHere(false).map(async (declaration): Promise<TopicState> => {
      const topic = access.prefix + declaration.name
      const there: ActualTopic | undefined = found.get(topic)
      if (there === undefined) return missing(declaration, topic)
      const [starts, ends] = await Promise.all([admin.offsets(topic, 'earliest'), admin.offsets(topic, 'stable')])
      return { declaration, topic, partitions: there.partitions, replicationFactor: there.replicationFactor, configs: there.configs, starts, ends }
    }))
  })
  if (clustered !== undefined) return clustered
  const found = await topicsAtHome(settings)
  return declaredHere(true).map((declaration) => {
    const there = found.find(({ topic }) => topic === declaration.name)
    if (there === undefined) return missing(declaration, declaration.name)
    return { declaration, topic: declaration.name, partitions: there.partitions, replicationFactor: null, configs: {}, starts: there.starts, ends: there.ends }
  })
}

const missing = (declaration: TopicDeclaration, topic: string): TopicState =>
  ({ declaration, topic, partitions: null, replicationFactor: null, configs: {}, starts: [], ends: [] })

const topicsAtHome = async (settings: GlobalSettings): Promise<readonly TopicInfo[]> => {
  if (!existsSync(homePaths(settings.home).log)) return []
  await using log = await openLogForReading(settings)
  return await log.describe()
}

/** What `apply` would do. */
export const planOfTopics = async (settings: GlobalSettings, wishes: TopicWishes): Promise<TopicPlan> => {
  const clustered = await onCluster(settings, async ({ client, access, name }) => {
    const { planAt } = await import('../log/kafka/index.js')
    return await planAt(client.admin, name, declaredHere(false), { ...wishes, prefix: access.prefix })
  })
  if (clustered !== undefined) return clustered
  const { planTopics, kafkaTopic } = await import('../log/kafka/index.js')
  const declared = declaredHere(true)
  const placement = { prefix: '', documentsPartitions: 1, replicationFactor: null, minInsyncReplicas: null }
  const found = (await topicsAtHome(settings)).flatMap(({ topic, partitions }): ActualTopic[] => {
    const declaration = declared.find(({ name }) => name === topic)
    return declaration === undefined ? [] : [{ topic, partitions, replicationFactor: 1, configs: kafkaTopic(declaration, placement).configs }]
  })
  const { steps, refused, notes } = planTopics(declared, found, { prefix: '', partitions: wishes.partitions, replicationFactor: null, minInsyncReplicas: null })
  const fixed = steps.flatMap((step) => (step.kind === 'grow' ? [{
    topic: step.topic, what: `it has ${step.from} partitions, which are fixed when a home is made`, fix: 'leave out --partitions, or use another --home',
  }] : []))
  return { steps: steps.filter(({ kind }) => kind === 'create'), refused: [...refused.map((one) => ({ ...one, fix: 'leave out --partitions, or use another --home' })), ...fixed], notes }
}

/**
 * Does what a plan says.
 * @throws UserError for what is refused, before anything is done
 */
export const applyTopics = async (settings: GlobalSettings, plan: TopicPlan, wishes: TopicWishes, onDone: (line: string) => void = () => {}): Promise<void> => {
  const done = await onCluster(settings, async ({ client, name }) => {
    const { carryOut } = await import('../log/kafka/index.js')
    await carryOut(client.admin, name, plan, onDone)
    return true
  })
  if (done === true) return
  if (plan.refused.length > 0) throw new UserError(`topic "${plan.refused[0].topic}": ${plan.refused[0].what}`, { fix: plan.refused[0].fix })
  const { stepText } = await import('../log/kafka/index.js')
  await using log = await openLog(settings, wishes.partitions === null ? {} : { partitions: wishes.partitions })
  await log.describe()
  for (const step of plan.steps) onDone(stepText(step))
}
