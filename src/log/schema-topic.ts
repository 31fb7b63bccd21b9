/**
 * @file The schemas of a log on a cluster: the compacted topic `schemas`, one partition, a record for each schema under its
 * fingerprint. Whoever writes values puts their schema there first; so a schema that is not there up to the topic's end is
 * nowhere. The topic's own values are in single-object encoding of schemas/schema.avsc always, also beside a schema
 * registry: that one schema has to be known beforehand, and never changes.
 */
import type { AvroSchema } from './avro-schema.js'
import { encodeValue, type SchemaStore } from './codec.js'
import { Serdes } from './single-object.js'

/** What the store needs of the topic. */
export interface SchemaTopic {
  /** Every record from an offset to the end that the partition has now, and where that end is. */
  readToEnd(offset: number): Promise<{
    readonly records: readonly { readonly key: string; readonly value: Buffer | null }[]
    readonly next: number
  }>
  /** Resolves when the record is durable and `readToEnd` gives it. */
  append(key: string, value: Buffer): Promise<void>
}

/** @param schema of the topic's declaration */
export const schemaTopicStore = (schema: AvroSchema, topic: SchemaTopic): SchemaStore => {
  const serdes = new Serdes(schema, () => undefined)
  const known = new Map<string, string>()
  let next = 0
  const catchUp = async (): Promise<void> => {
    const read = await topic.readToEnd(next)
    for (const { key, value } of read.records) {
      if (value === null) continue
      const decoded = serdes.decode(value, 0, value.length)
      if ('value' in decoded) known.set(key, (decoded.value as { readonly schema: string }).schema)
    }
    next = read.next
  }
  const find = async (id: string): Promise<string | undefined> => {
    if (!known.has(id)) await catchUp()
    return known.get(id)
  }
  return {
    find,
    put: async (id, schemaText) => {
      if ((await find(id)) !== undefined) return
      await topic.append(id, encodeValue(serdes, { schema: schemaText }))
      known.set(id, schemaText)
    },
  }
}
