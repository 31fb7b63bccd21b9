/** @file Whether every document counts once, as a consumer finds it that is not ours, reading committed. */
import assert from 'node:assert/strict'
import { declaredTopics, singleObject, type InfluenceValue, type MomentsValue, type TablesValue, type TopicName } from '../../src/log/index.js'
import { queries as driveQueries } from '../pipeline/drive.js'
import { consume } from './consumer.js'
import { documentOf, scoresOf, tokensOf } from './documents.js'
import { assertRecomputed } from './recompute.js'

/** Ids of the queries of the runs here, in the order that a run has them in; and the rows of their tables. */
export const queries = driveQueries.map(({ id }) => id).sort()
export const k = 7

/** All records of the topics under a prefix, key and value, in the order of each partition. */
export interface Contents {
  readonly influence: readonly (readonly [string, InfluenceValue])[]
  readonly tables: readonly (readonly [string, TablesValue])[]
  readonly moments: readonly (readonly [string, MomentsValue])[]
}

export const contentsOf = async (brokers: string, prefix: string): Promise<Contents> => {
  const valuesOf = async <Value>(topic: TopicName): Promise<readonly (readonly [string, Value])[]> => {
    const { schema } = declaredTopics().get(topic) ?? assert.fail(topic)
    const codec = singleObject({ put: () => Promise.resolve(), find: () => Promise.resolve(undefined) })({ name: topic, schema })
    return (await consume(brokers, prefix + topic)).flatMap(({ key, value }) => {
      if (value === null || key.startsWith('\u001f')) return []
      const decoded = codec.decode(value, 0, value.length)
      assert.ok('value' in decoded, `${topic} "${key}" cannot be read`)
      return [[key, decoded.value as Value] as const]
    })
  }
  return { influence: await valuesOf('influence'), tables: await valuesOf('tables'), moments: await valuesOf('moments') }
}

export interface Wanted {
  readonly run: string
  /** Documents 0 to this. */
  readonly documents: number
  /** Scored by the workers of worker.ts, not by a model. */
  readonly cheaply: boolean
}

/** @throws AssertionError for the first difference */
export const assertCountedOnce = (found: Contents, { run, documents, cheaply }: Wanted, about: string): void => {
  const influence = found.influence.flatMap(([, value]) => (value.run === run ? [value] : []))
  const names = influence.map(({ source, document }) => `${source}/${document}`).sort()
  const wanted = Array.from({ length: documents }, (_, i) => documentOf(i)).map(({ source, id }) => `${source}/${id}`).sort()
  assert.deepEqual(names, wanted, `every document once: ${about}`)
  if (cheaply) for (const { document, influence: scores } of influence) {
    const { text } = documentOf(Number(document.slice(1)))
    assert.deepEqual([...scores], scoresOf(tokensOf(text ?? '').slice(0, 64), queries.length).influence, `${document}: ${about}`)
  }
  // The newest record of a key is the last one of its partition.
  assertRecomputed({ run, queries, k, influence, tables: new Map(found.tables), moments: new Map(found.moments) }, about)
}
