/** @file Plans of topics (topic-plan.ts) on a cluster: what it has, and having it done. Faults in the user's words. */
import { UserError } from '../../base/index.js'
import type { TopicDeclaration } from '../declarations.js'
import type { KafkaAdmin } from './client.js'
import { guarded } from './faults.js'
import { planTopics, stepText, type ActualTopic, type TopicPlan, type Wanted } from './topic-plan.js'

/** @param cluster as the user named it, for messages */
export const actualTopics = async (admin: KafkaAdmin, cluster: string, names: readonly string[]): Promise<readonly ActualTopic[]> =>
  await guarded(cluster, async () => {
    const found = await admin.topics(names)
    return await Promise.all(found.map(async (topic) => ({ ...topic, configs: await admin.configs(topic.topic) })))
  })

/** What is to be done at this cluster for the declared topics to be as they are declared. */
export const planAt = async (admin: KafkaAdmin, cluster: string, declared: readonly TopicDeclaration[], wanted: Wanted): Promise<TopicPlan> =>
  planTopics(declared, await actualTopics(admin, cluster, declared.map(({ name }) => wanted.prefix + name)), wanted)

/**
 * Does what a plan says, in its order; each step may be done again, so a plan that was interrupted is made and carried
 * out anew.
 * @throws UserError for a plan with refusals, and for what the cluster refuses: its step is named
 */
export const carryOut = async (admin: KafkaAdmin, cluster: string, { steps, refused }: TopicPlan, onDone: (line: string) => void = () => {}): Promise<void> => {
  if (refused.length > 0) throw new UserError(`topic "${refused[0].topic}" at ${cluster}: ${refused[0].what}`, { fix: refused[0].fix })
  for (const step of steps) {
    await guarded(cluster, async () => {
      if (step.kind === 'create') await admin.createTopics([step.declared])
      else if (step.kind === 'grow') await admin.growTopic(step.topic, step.to)
      else await admin.setConfigs(step.topic, step.configs)
    })
    onDone(stepText(step))
  }
}
