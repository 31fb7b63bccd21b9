/**
 * @file The newest records of compacted topics. What was read once is kept, up to a bound, and only what came since is
 * read again: a page that looks at the tables each second does not read them all each second.
 */
import type { KafkaRecord } from './client.js'
import type { Reader } from './reader.js'
import type { Topic } from './topics.js'

/** Bytes of one topic's newest records that are kept; a larger topic is read whole each time. */
export const VIEW_BYTES_MAX = 64 << 20

interface Entry {
  readonly partition: number
  readonly record: KafkaRecord
}

interface View {
  /** The newest record of each live key, of all partitions: a later timestamp wins, and of one partition the later offset. */
  readonly entries: Map<string, Entry>
  /** Where to go on, a partition each. */
  readonly next: number[]
  bytes: number
}

export class Views {
  readonly #reader: Reader
  readonly #views = new Map<string, View>()
  #last: Promise<unknown> = Promise.resolve()

  constructor(reader: Reader) {
    this.#reader = reader
  }

  /** The newest record of each live key that begins with a prefix, a list for each partition. */
  async newest(topic: Topic, prefix: string): Promise<readonly (readonly KafkaRecord[])[]> {
    const result = this.#last.then(() => this.#newest(topic, prefix))
    this.#last = result.catch(() => undefined)
    return await result
  }

  async #newest(topic: Topic, prefix: string): Promise<readonly (readonly KafkaRecord[])[]> {
    const view = this.#views.get(topic.kafka) ?? { entries: new Map<string, Entry>(), next: [], bytes: 0 }
    this.#views.delete(topic.kafka)
    for (let partition = 0; partition < topic.partitions; partition++) await this.#catchUp(topic, partition, view)
    if (view.bytes <= VIEW_BYTES_MAX) this.#views.set(topic.kafka, view)
    const found: KafkaRecord[][] = Array.from({ length: topic.partitions }, () => [])
    for (const [key, { partition, record }] of view.entries) if (key.startsWith(prefix)) found[partition].push(record)
    return found
  }

  async #catchUp({ kafka }: Topic, partition: number, view: View): Promise<void> {
    const answers = this.#reader.toEnd(kafka, partition, view.next[partition] ?? 0)
    for (;;) {
      const { done, value } = await answers.next()
      if (done === true) {
        view.next[partition] = value
        return
      }
      for (const record of value.records) put(view, partition, record)
    }
  }
}

const put = (view: View, partition: number, record: KafkaRecord): void => {
  const old = view.entries.get(record.key)
  if (old !== undefined) {
    if (old.partition !== partition && old.record.timestampMs > record.timestampMs) return
    view.bytes -= sizeOf(old.record)
    view.entries.delete(record.key)
  }
  if (record.value === null) return
  const own = { ...record, value: Buffer.from(record.value) } // not the memory of its whole batch
  view.entries.set(record.key, { partition, record: own })
  view.bytes += sizeOf(own)
}

const sizeOf = ({ key, value }: KafkaRecord): number => key.length + (value?.length ?? 0) + 100
