/** @file Plans of topics: laws over random clusters. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { declaredTopics } from '../../../src/log/index.js'
import { planTopics, stepText, type ActualTopic, type Step, type TopicPlan, type Wanted } from '../../../src/log/kafka/index.js'

const declared = [...declaredTopics().values()]
const plain: Wanted = { prefix: 'x-', partitions: null, replicationFactor: null, minInsyncReplicas: null }

/** A cluster after a plan was carried out. */
const after = (actual: readonly ActualTopic[], { steps }: TopicPlan): readonly ActualTopic[] => {
  const topics = new Map(actual.map((topic) => [topic.topic, topic]))
  for (const step of steps) {
    const there = topics.get(step.topic)
    if (step.kind === 'create') topics.set(step.topic, { topic: step.topic, partitions: step.declared.partitions, replicationFactor: step.declared.replicationFactor ?? 1, configs: step.declared.configs })
    else if (there === undefined) assert.fail(`${step.topic} is not there`)
    else topics.set(step.topic, step.kind === 'grow' ? { ...there, partitions: step.to } : { ...there, configs: step.configs })
  }
  return [...topics.values()]
}

const configs = fc.dictionary(
  fc.constantFrom('cleanup.policy', 'retention.ms', 'max.message.bytes', 'min.insync.replicas', 'segment.ms', 'compression.type'),
  fc.constantFrom('delete', 'compact', '-1', '1000', '99000000', '2'),
)
const clusters = fc.uniqueArray(
  fc.record({
    topic: fc.constantFrom(...declared.map(({ name }) => `x-${name}`), 'x-other', 'documents'),
    partitions: fc.integer({ min: 1, max: 12 }), replicationFactor: fc.integer({ min: 1, max: 3 }), configs,
  }),
  { selector: ({ topic }) => topic },
)
const wishes = fc.record({
  prefix: fc.constant('x-'), partitions: fc.option(fc.integer({ min: 1, max: 12 })),
  replicationFactor: fc.option(fc.integer({ min: 1, max: 3 })), minInsyncReplicas: fc.option(fc.integer({ min: 1, max: 3 })),
})

describe('a plan of topics', () => {
  test('carried out, leaves nothing to do and what could not be done; loses no setting, partition or topic of others', () => {
    fc.assert(fc.property(clusters, wishes, (actual, wanted) => {
      const plan = planTopics(declared, actual, wanted)
      const made = after(actual, plan)
      const again = planTopics(declared, made, wanted)
      assert.deepEqual(again.steps, [])
      assert.deepEqual(again.refused, plan.refused)
      for (const before of actual) {
        const now = made.find(({ topic }) => topic === before.topic)
        assert.ok(now !== undefined && now.partitions >= before.partitions)
        const differing = plan.steps.flatMap((step) => (step.kind === 'configure' && step.topic === before.topic ? step.differences.map(({ name }) => name) : []))
        for (const [name, value] of Object.entries(before.configs)) if (!differing.includes(name)) assert.equal(now.configs[name], value)
      }
      assert.ok(plan.steps.every(({ topic }) => topic !== 'x-other' && topic !== 'documents'))
    }))
  })

  test('what loses records or cannot be taken back needs consent, nothing else does', () => {
    fc.assert(fc.property(clusters, wishes, (actual, wanted) => {
      for (const step of planTopics(declared, actual, wanted).steps) {
        const names = step.kind === 'configure' ? step.differences.map(({ name }) => name) : []
        if (step.kind === 'create') assert.equal(step.consent, null)
        else if (step.kind === 'grow' || names.includes('cleanup.policy')) assert.notEqual(step.consent, null)
        else if (!names.includes('min.insync.replicas')) assert.equal(step.consent, null) // retention is for ever, as declared
      }
    }))
  })

  test('documents is made and grown after the topics that lie as it does', () => {
    const kinds = (steps: readonly Step[]): readonly string[] => steps.map(({ kind, topic }) => `${kind} ${topic}`)
    const made = planTopics(declared, [], { ...plain, partitions: 2 })
    assert.equal(kinds(made.steps).at(-1), 'create x-documents')
    const grown = planTopics(declared, after([], made), { ...plain, partitions: 5 })
    assert.equal(kinds(grown.steps).at(-1), 'grow x-documents')
    assert.equal(grown.steps.length, declared.filter(({ partitions, name }) => partitions === 'documents' || name === 'documents').length)
    assert.equal(stepText(grown.steps[0]), `grow ${grown.steps[0].topic}: 2 → 5 partitions`)
  })

  test('shorter retention needs consent, longer does not; a broader bound on messages is left alone', () => {
    const influence = declared.find(({ name }) => name === 'influence')
    assert.ok(influence !== undefined)
    const there = after([], planTopics(declared, [], plain)).filter(({ topic }) => topic === 'x-influence')
    const changed = (retentionMs: number | null, configs: Record<string, string>): readonly Step[] =>
      planTopics([{ ...influence, retentionMs }], [{ ...there[0], configs: { ...there[0].configs, ...configs } }], { ...plain, partitions: there[0].partitions }).steps
    const [shorter] = changed(1000, { 'segment.ms': '7' })
    assert.match(String(shorter.consent), /removes records/)
    assert.equal(shorter.kind === 'configure' && shorter.configs['segment.ms'], '7')
    assert.equal(changed(2000, { 'retention.ms': '1000' })[0].consent, null)
    assert.deepEqual(changed(null, { 'max.message.bytes': '99999999' }), [])
  })

  test('a topic spread by the hash of its keys is neither grown nor said to shrink', () => {
    const made = after([], planTopics(declared, [], plain))
    const more = made.map((topic) => (topic.topic === 'x-runs' ? { ...topic, partitions: 3 } : topic))
    assert.deepEqual(planTopics(declared, more, plain).refused.map(({ topic }) => topic), ['x-runs'])
    const wider = declared.map((declaration) => (declaration.name === 'runs' ? { ...declaration, partitions: 2 } : declaration))
    assert.match(planTopics(wider, made, plain).refused[0].what, /found by their hash/)
  })
})
