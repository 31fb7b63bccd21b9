/**
 * @file `KafkaClient`: what the log asks of an Apache Kafka cluster, as a port. Kafka's own words and offsets, no type
 * of any client library; one adapter a library, and an in-memory cluster for the tests. Values are bytes here, keys are
 * text (kafkajs 2.2.4 takes a key of four zero bytes for a control record).
 *
 * Every promise either resolves or rejects with a `KafkaFault` within the adapter's own bounds of time. An adapter
 * retries by itself what is safe to retry and ends soon (a moved leader, a connection that was closed); it never
 * retries the end of a transaction.
 */

/** Names of topics, groups and transactional ids are the cluster's, prefix included. */
export interface KafkaClient extends AsyncDisposable {
  readonly admin: KafkaAdmin

  /**
   * Records of one partition from an offset on, committed ones alone (isolation read_committed), of one answer of the
   * broker; waits `waitMsMax` at most for the first. An offset below the first one kept is answered from there.
   * @throws KafkaFault `out-of-range` for an offset behind the end of the partition
   */
  fetch(topic: string, partition: number, offset: number, bounds: FetchBounds): Promise<Fetched>

  /**
   * Becomes a member of a consumer group over one topic; the heartbeats go on by themselves while the event loop does,
   * whatever the caller does. Resolves before anything is assigned.
   */
  join(group: string, topic: string): Promise<GroupMember>

  /**
   * A producer of this transactional id (InitProducerId): the producer before it is fenced, what it had begun is
   * aborted, and a commit that it had asked for is complete in every partition, when this resolves.
   */
  producer(transactionalId: string): Promise<TransactionalProducer>
}

export interface FetchBounds {
  /** Of one answer, as the broker counts: a first batch of records that is longer comes all the same. */
  readonly bytesMax: number
  /** 0: answer at once. */
  readonly waitMsMax: number
}

export interface Fetched {
  readonly records: readonly KafkaRecord[]
  /**
   * Where to go on: behind the last record and behind whatever was left out (control batches, aborted transactions,
   * what compaction removed). Greater than the offset asked for unless there is nothing behind it yet.
   */
  readonly next: number
  /** The first offset that a reader of committed records cannot see yet; all before it is decided. */
  readonly stableEnd: number
}

export interface KafkaRecord {
  readonly offset: number
  /** Milliseconds since the epoch. */
  readonly timestampMs: number
  /** UTF-8; empty if there was none. */
  readonly key: string
  /** Null: a tombstone. A view that stays valid; it may hold the memory of its whole batch. */
  readonly value: Buffer | null
}

export interface ProducerRecord {
  readonly topic: string
  readonly partition: number
  readonly key: string
  readonly value: Buffer | null
  readonly timestampMs: number
}

/** Where a partition's records of a transaction end: behind the last of them. */
export interface Written {
  readonly topic: string
  readonly partition: number
  readonly end: number
}

/** The next offsets of a group, written with a transaction for the tools that show lag. */
export interface GroupOffsets {
  readonly group: string
  readonly topic: string
  readonly offsets: readonly { readonly partition: number; readonly offset: number }[]
}

export interface TransactionalProducer {
  /**
   * One short transaction with all of it, or nothing; in sends that a broker takes (`sendBytesMax`). Without records
   * and offsets: nothing is sent. A rejection says nothing about what became of it but for `too-large`,
   * `not-authorized` and `unknown-topic` (aborted); after any the producer is of no more use: `producer` makes
   * another, and whoever then reads to its own first record knows.
   * @throws KafkaFault `fenced` if another producer took the id; `unknown-outcome`; those three
   */
  transaction(records: readonly ProducerRecord[], offsets?: GroupOffsets): Promise<readonly Written[]>
  /** Gives its connections back. Never throws; commits nothing. */
  close(): Promise<void>
}

/** One assignment of the group; it takes the place of the one before. */
export interface Membership {
  readonly generation: number
  /** This member's partitions, ascending; all that are not named are taken away. */
  readonly partitions: readonly number[]
}

export interface GroupMember {
  /**
   * Each assignment, from the first one on; a slow reader gets the newest. An eviction is an assignment of nothing,
   * as soon as it is noticed; the member joins again by itself. Ends after `leave`.
   * @throws KafkaFault if it cannot go on as a member for good
   */
  readonly memberships: AsyncIterable<Membership>
  /**
   * Asks the coordinator now (a heartbeat).
   * @throws KafkaFault `evicted` if this is no longer a member of the generation given last, or it is ending
   */
  verify(): Promise<void>
  /** Leaves, so that the others get its partitions at once. Never throws. */
  leave(): Promise<void>
}

/* ---------------------------------------------------- administration ------------------------------------------------ */

export interface KafkaTopic {
  readonly topic: string
  readonly partitions: number
  readonly replicationFactor: number
}

export interface NewKafkaTopic {
  readonly topic: string
  readonly partitions: number
  /** Null: the broker's default. */
  readonly replicationFactor: number | null
  /** Configuration entries as Kafka names them. */
  readonly configs: Readonly<Record<string, string>>
}

/** Which offset of a partition: the first one kept, the end with what is not committed yet, or the end of what is. */
export type OffsetKind = 'earliest' | 'latest' | 'stable'

export interface KafkaAdmin {
  /** Those of the topics that there are; without names, all that may be seen. */
  topics(names?: readonly string[]): Promise<readonly KafkaTopic[]>
  /** The entries that were set for a topic itself (no defaults of the broker). @throws KafkaFault `unknown-topic` */
  configs(topic: string): Promise<Readonly<Record<string, string>>>
  /** Creates those that are missing and resolves to their names when they can be used. */
  createTopics(topics: readonly NewKafkaTopic[]): Promise<readonly string[]>
  /** Grows a topic to so many partitions; records stay where they are. */
  growTopic(topic: string, partitions: number): Promise<void>
  /** The whole set of entries: one that is not named goes back to the broker's default. */
  setConfigs(topic: string, configs: Readonly<Record<string, string>>): Promise<void>
  deleteTopics(topics: readonly string[]): Promise<void>
  /** A partition each, from 0. @throws KafkaFault `unknown-topic` */
  offsets(topic: string, kind: OffsetKind): Promise<readonly number[]>
  /** The first record at or after a time (ms since the epoch), a partition each; the end where there is none. */
  offsetsAt(topic: string, timestampMs: number): Promise<readonly number[]>
  /** The committed next offset of a group, a partition each; null where it has none. */
  groupOffsets(group: string, topic: string): Promise<readonly (number | null)[]>
  /** Members of a group; 0 for one that does not exist. */
  groupMembers(group: string): Promise<number>
  /** Groups, and whatever they hold. Those that do not exist are no error. */
  deleteGroups(groups: readonly string[]): Promise<void>
}

/* -------------------------------------------------------- faults ----------------------------------------------------- */

export type KafkaFaultKind =
  /** No broker answers: connections refused, timed out, closed, names not found. May pass. */
  | 'unreachable'
  /** The cluster is there and cannot serve this now (no leader, coordinator loading, too few replicas). May pass. */
  | 'unavailable'
  /** The TLS handshake failed: certificate, authority, or a plaintext port. */
  | 'tls'
  /** SASL: wrong credentials or mechanism. */
  | 'authentication'
  /** An ACL is missing; `resource` says on what. */
  | 'not-authorized'
  /** No broker lists the topic. One that some do not know yet is `unavailable`. */
  | 'unknown-topic'
  /** A record or send over what the topic takes (max.message.bytes). */
  | 'too-large'
  /** Another producer has the transactional id; what this one does is refused. */
  | 'fenced'
  /** A transaction is there or not: its answer was lost, or never came. */
  | 'unknown-outcome'
  /** No longer a member of the group in that generation. */
  | 'evicted'
  | 'out-of-range'
  /** The broker lacks a protocol that is needed, or is too old. */
  | 'unsupported-version'
  /** Records are compressed with a codec that this client cannot read. */
  | 'unsupported-codec'
  /** The cluster refuses a topic's declaration (replication factor, configuration). */
  | 'invalid'
  /** This client, member or producer was closed. */
  | 'closed'

/** What went wrong at the cluster, in one of few kinds. The log says it in the user's words (faults.ts). */
export class KafkaFault extends Error {
  override readonly name = 'KafkaFault'
  readonly kind: KafkaFaultKind
  /** What it was about: a topic, a group, a transactional id, a broker. */
  readonly resource: string | undefined
  constructor(kind: KafkaFaultKind, message: string, { resource, cause }: { resource?: string; cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.kind = kind
    this.resource = resource
  }
}

/** Whether an error is a fault of one of these kinds. */
export const isFault = (error: unknown, ...kinds: readonly KafkaFaultKind[]): error is KafkaFault =>
  error instanceof KafkaFault && kinds.includes(error.kind)

/** Bytes of records that one send to a partition may have; a single record may be longer (max.message.bytes). */
export const SEND_BYTES_MAX = 900_000
/** What a record takes in a batch beside key and value, at most (varints of the record format, version 2). */
export const RECORD_OVERHEAD_BYTES = 32
