/**
 * @file The log in one LMDB environment: nothing to install, crash-safe, read by many processes while one at a time
 * writes. environment.ts says what is durable; batch.ts how records lie in an entry. The tables:
 *
 *     meta        format | topic:NAME | forgotten:RUN → {"version"} | {"id", "partitions"} | Forgotten
 *     schemas     fingerprint                    → Avro schema
 *     leases      name                           → Holder (leases.ts)
 *     positions   run ␟ partition                → Position
 *     partitions  topic, partition               → next offset, first offset kept        (f64, f64)
 *     batches     topic, partition, base offset  → record batch              (topics kept by retention)
 *     newest      topic, partition, key          → head, value               (compacted topics)
 *     order       topic, partition, offset       → key                       (compacted topics)
 *     identities  topic, key or its digest       → partition, offset         (topics declared unique)
 *
 * with topic u8, partition u16, offset u48, big-endian, so that LMDB's order of bytes is the order of offsets.
 *
 * A write encodes outside of the transaction and only puts inside: the writers' lock is held for the copying and the
 * flush. A commit checks its lease in the same transaction: whoever lost it writes nothing.
 *
 * Figures of one machine and run: bench/log.ts.
 */
import { createHash } from 'node:crypto'
import { UserError, pause, type RunId } from '../base/index.js'
import type { Decoded } from './avro.js'
import { Encoder, batchesOf, checksum, openBatch, placeIn, type Batch } from './batch.js'
import { PARTITIONS_MAX, declaredTopics, type TopicDeclaration } from './declarations.js'
import { corrupted, explained, openEnvironment, transact, type Environment } from './environment.js'
import { RENEW_MS, heldError, holderHere, isHeld, parseHolder, type Holder } from './leases.js'
import type {
  AppendResult,
  Assignment,
  Commit,
  Lease,
  Log,
  LogRecord,
  NewRecord,
  Position,
  ReadBounds,
  TopicInfo,
} from './log.js'
import { partitionOf } from './partition.js'
import { Serdes } from './single-object.js'
import { keyOf, type TopicName, type TopicValues } from './topics.js'

/** The layout described above. A home of a newer one is refused, an older one would be converted here. */
export const FORMAT_VERSION = 1

/** How often the ends are looked at for what other processes appended, ms. */
const POLL_MS = 50
/** Record batches kept in memory for readers that go on where they were; each about 1 MiB. */
const BATCHES_KEPT_MAX = 16
/** Batches that one write may drop at most because of their age. */
const DROPPED_MAX = 64
/** A run's name, bytes: it stands in keys of LMDB. */
const RUN_BYTES_MAX = 512

export interface EmbeddedLogOptions {
  /** For commands that only read: nothing is created, and a missing log is a UserError. */
  readonly readonly?: boolean
  /** The clock of timestamps and leases, ms since the epoch. */
  readonly nowMs?: () => number
  /** Instead of topics/*.yaml. */
  readonly topics?: ReadonlyMap<TopicName, TopicDeclaration>
}

/**
 * Opens the log in a folder, creating it if need be. Close it with `await using` or its Symbol.asyncDispose.
 * @throws UserError if it is missing (readonly), damaged, of a newer format, not permitted, or the disk is full
 */
export const embeddedLog = async (directory: string, options: EmbeddedLogOptions = {}): Promise<Log> => {
  const { readonly = false, nowMs = Date.now } = options
  const topics = new Map([...(options.topics ?? declaredTopics())].filter(([, { internal }]) => !internal))
  const environment = openEnvironment(directory, readonly)
  try {
    await agreeOnFormat(environment, readonly)
    return new EmbeddedLog(environment, readonly, nowMs, topics)
  } catch (error) {
    await environment.release()
    throw explained(error, directory)
  }
}

const agreeOnFormat = async (environment: Environment, readonly: boolean): Promise<void> => {
  const { directory } = environment
  const { meta } = environment.tables
  meta.resetReadTxn()
  if (meta.get('format') === undefined) {
    if (readonly) throw new UserError(`there is no log at "${directory}"`, { fix: 'tributary ingest PATH... (or another --home)' })
    await transact(environment, () => {
      if (meta.get('format') === undefined) void meta.put('format', JSON.stringify({ version: FORMAT_VERSION }))
    })
    meta.resetReadTxn()
  }
  const { version } = JSON.parse(meta.get('format') ?? '{}') as { readonly version?: number }
  if (version === undefined) throw corrupted(directory, 'its format version cannot be read')
  if (version > FORMAT_VERSION)
    throw new UserError(`the log at "${directory}" has format ${version}, this tributary knows up to ${FORMAT_VERSION}`, {
      fix: 'use the newer tributary that wrote it, or another --home',
    })
}

/** A topic as it is in this home. */
interface Topic {
  readonly name: TopicName
  readonly id: number
  readonly partitions: number
  readonly compacted: boolean
  readonly declaration: TopicDeclaration
  readonly serdes: Serdes
}

/** What is to be written, encoded: record i of `encoder` goes where `records[i]` says. */
interface Prepared {
  readonly encoder: Encoder
  readonly records: readonly { readonly topic: Topic; readonly partition: number; readonly tombstone: boolean }[]
}

/** The records of one write that go to one partition. */
interface Group {
  readonly topic: Topic
  readonly partition: number
  /** As it is before the write. */
  readonly extent: Extent
  readonly places: number[]
}

/** From which offset on the records of a run that was reset count, a partition each. */
type Forgotten = Readonly<Partial<Record<TopicName, readonly number[]>>>
/** The topics that hold records of runs for good. */
const RUN_TOPICS: readonly TopicName[] = ['influence', 'dead-letters']

/** A partition's offsets `[start, end)`. */
interface Extent {
  readonly start: number
  readonly end: number
}

class EmbeddedLog implements Log {
  readonly #environment: Environment
  readonly #readonly: boolean
  readonly #nowMs: () => number
  readonly #declared: ReadonlyMap<TopicName, TopicDeclaration>
  readonly #topics = new Map<TopicName, Topic>()
  /** Topics whose schema is known to stand in this home. */
  readonly #schemaKept = new Set<TopicName>()
  /** The batches read last, oldest first. */
  readonly #batches = new Map<string, Batch>()
  /** Partitions of `documents` that were read to their end, and where that was. */
  readonly #caughtUp = new Map<number, number>()
  /** What is to be given back at the close. */
  readonly #held = new Set<() => void>()
  #closed = false

  constructor(
    environment: Environment,
    readonly: boolean,
    nowMs: () => number,
    declared: ReadonlyMap<TopicName, TopicDeclaration>,
  ) {
    this.#environment = environment
    this.#readonly = readonly
    this.#nowMs = nowMs
    this.#declared = declared
  }

  /* ------------------------------------------------------ writing ------------------------------------------------- */

  async ensureTopics({ partitions }: { readonly partitions?: number } = {}): Promise<void> {
    if (partitions !== undefined && !(Number.isInteger(partitions) && partitions >= 1 && partitions <= PARTITIONS_MAX))
      throw new UserError(`${partitions} partitions are not possible`, { fix: `--partitions 1 to ${PARTITIONS_MAX}` })
    this.#fresh()
    const there = this.#find('documents')
    if (there !== undefined && partitions !== undefined && there.partitions !== partitions)
      throw new UserError(`topic "documents" in "${this.#environment.directory}" has ${there.partitions} partitions, ` +
        `not ${partitions}; they are fixed when a home is made`, { fix: 'leave out --partitions, or use another --home' })
    if ([...this.#declared.keys()].every((name) => this.#find(name) !== undefined)) return
    await this.#write(() => {
      const { meta } = this.#environment.tables
      const spread = this.#find('documents')?.partitions ?? partitions ?? this.#partitionsOf('documents', 1)
      const ids = [...this.#declared.keys()].map((name) => this.#find(name)?.id ?? 0)
      let id = Math.max(0, ...ids)
      for (const name of this.#declared.keys()) {
        if (this.#find(name) !== undefined) continue
        const count = name === 'documents' ? spread : this.#partitionsOf(name, spread)
        void meta.put(`topic:${name}`, JSON.stringify({ id: ++id, partitions: count }))
      }
    })
  }

  async append(records: readonly NewRecord[], { unique = false } = {}): Promise<AppendResult> {
    if (records.length === 0) return { appended: 0, duplicates: 0 }
    this.#fresh()
    const prepared = this.#prepare(records, undefined)
    const result = await this.#write(() => this.#put(prepared, unique))
    prepared.encoder.recycle()
    return result
  }

  async #write<T>(action: () => T): Promise<T> {
    if (this.#closed) throw new Error('the log is closed')
    if (this.#readonly) throw new Error(`the log at "${this.#environment.directory}" was opened for reading only`)
    return await transact(this.#environment, action)
  }

  /** Encodes, checks bounds and finds partitions; touches nothing. `home`: the partition of an assignment. */
  #prepare(records: readonly NewRecord[], home: number | undefined): Prepared {
    const encoder = new Encoder()
    const places = records.map(({ topic: name, key, value, partition }) => {
      const topic = this.#topic(name)
      if (value === null && !topic.compacted)
        throw new Error(`topic "${name}" is not compacted: it takes no tombstone (key "${key}")`)
      encoder.add(name, key, value, topic.serdes)
      if (partition !== undefined && !(Number.isInteger(partition) && partition >= 0 && partition < topic.partitions))
        throw new Error(`topic "${name}" has partitions 0 to ${topic.partitions - 1}, not ${partition}`)
      const spread = topic.declaration.partitions === 'documents' ? home : undefined
      return { topic, partition: partition ?? spread ?? this.#hashed(encoder, topic), tombstone: value === null }
    })
    return { encoder, records: places }
  }

  /** The partition that the key encoded last belongs to. */
  #hashed({ bytes, starts, keys }: Encoder, { partitions }: Topic): number {
    const i = starts.length - 1
    return partitionOf(bytes.subarray(starts[i] + 4, starts[i] + 4 + keys[i]), partitions)
  }

  /** Inside a write transaction. */
  #put(prepared: Prepared, unique: boolean): AppendResult {
    const { encoder, records } = prepared
    const timestampMs = this.#nowMs()
    const groups = new Map<number, Group>()
    const seen = new Set<string>()
    let duplicates = 0
    for (let i = 0; i < records.length; i++) {
      const { topic, partition } = records[i]
      const at = topic.id * 0x10000 + partition
      let group = groups.get(at)
      if (group === undefined) groups.set(at, (group = { topic, partition, extent: this.#extent(topic, partition), places: [] }))
      if (unique && !topic.declaration.unique) throw new Error(`topic "${topic.name}" is not declared unique`)
      if (!topic.declaration.unique || this.#isNew(group, keyBytesOf(encoder, i), unique, seen)) group.places.push(i)
      else duplicates++
    }
    for (const { topic, partition, places, extent } of groups.values()) {
      if (places.length === 0) continue
      this.#keepSchema(topic)
      const next = topic.compacted
        ? this.#putNewest(prepared, topic, partition, places, extent, timestampMs)
        : this.#putBatches(encoder, topic, partition, places, extent, timestampMs)
      this.#setExtent(topic, partition, next)
    }
    return { appended: records.length - duplicates, duplicates }
  }

  /** Whether the next record of a group is to be written; of topics kept by retention, its key is then known. */
  #isNew({ topic, partition, extent, places }: Group, key: Buffer, unique: boolean, seen: Set<string>): boolean {
    const { newest, identities } = this.#environment.tables
    if (!topic.compacted) {
      const place = placeBytes(partition, extent.end + places.length)
      // Looks and puts in one. Inside of a transaction putSync says whether it put; the types of lmdb-js do not.
      const put: unknown = identities.putSync(identityKey(topic, key), place, { noOverwrite: unique })
      return put === true || !unique
    }
    if (!unique) return true
    const name = `${topic.id} ${key.toString('latin1')}`
    if (seen.has(name) || newest.doesExist(newestKey(topic, partition, key))) return false
    seen.add(name)
    return true
  }

  #putBatches(
    encoder: Encoder,
    topic: Topic,
    partition: number,
    places: readonly number[],
    { start, end }: Extent,
    timestampMs: number,
  ): Extent {
    const { batches } = this.#environment.tables
    let base = end
    for (const { bytes, count } of batchesOf(encoder, places, timestampMs)) {
      batches.putSync(offsetKey(topic, partition, base), bytes)
      base += count
    }
    return { start: this.#dropOld(topic, partition, { start, end }, timestampMs), end: base }
  }

  /** Drops batches older than the topic's retention. Returns the first offset kept; identities stay known. */
  #dropOld(topic: Topic, partition: number, { start, end }: Extent, timestampMs: number): number {
    const { retentionMs } = topic.declaration
    if (retentionMs === null) return start
    const { batches } = this.#environment.tables
    const from = offsetKey(topic, partition, start)
    const keys = [...batches.getKeys({ start: from, end: offsetKey(topic, partition, end), limit: DROPPED_MAX })]
    let kept = start
    for (const key of keys.map((key) => Buffer.from(key))) {
      const bytes = batches.getBinary(key)
      if (bytes === undefined) break
      const batch = openBatch(bytes, offsetIn(key))
      if (batch.timestampMs >= timestampMs - retentionMs) break
      batches.removeSync(key)
      kept = batch.base + batch.count
    }
    return kept
  }

  #putNewest(
    { encoder, records }: Prepared,
    topic: Topic,
    partition: number,
    places: readonly number[],
    { start, end }: Extent,
    timestampMs: number,
  ): Extent {
    const { newest, order } = this.#environment.tables
    const sequence = this.#nextSequence()
    // Only the last of each key is stored, each takes its offset all the same.
    const last = new Map<string, number>()
    places.forEach((place, i) => last.set(keyBytesOf(encoder, place).toString('latin1'), i))
    for (const i of last.values()) {
      const key = keyBytesOf(encoder, places[i])
      const at = newestKey(topic, partition, key)
      const old = newest.getBinary(at)
      if (old !== undefined) order.removeSync(offsetKey(topic, partition, old.readDoubleLE(0)))
      if (records[places[i]].tombstone) newest.removeSync(at)
      else {
        const value = encoder.bytes.subarray(encoder.starts[places[i]] + 4 + key.length, encoder.ends[places[i]])
        newest.putSync(at, newestBytes({ offset: end + i, timestampMs, sequence }, value))
        order.putSync(offsetKey(topic, partition, end + i), key)
      }
    }
    return { start, end: end + places.length }
  }

  /** Numbers the writes to compacted topics, so that of two records of a key in two partitions one is the newest. */
  #nextSequence(): number {
    const { partitions } = this.#environment.tables
    const sequence = (partitions.getBinary(SEQUENCE)?.readDoubleLE(0) ?? 0) + 1
    const bytes = Buffer.alloc(8)
    bytes.writeDoubleLE(sequence)
    partitions.putSync(SEQUENCE, bytes)
    return sequence
  }

  #keepSchema({ name, serdes }: Topic): void {
    if (this.#schemaKept.has(name)) return
    const { schemas } = this.#environment.tables
    if (schemas.get(serdes.id) === undefined) schemas.putSync(serdes.id, serdes.schemaText)
    // Known once it was seen committed: an aborted transaction would take the put back.
    else this.#schemaKept.add(name)
  }

  /* ------------------------------------------------------ reading ------------------------------------------------- */

  async describe(): Promise<readonly TopicInfo[]> {
    this.#fresh()
    return this.#guarded(() =>
      [...this.#declared.keys()].flatMap((name) => {
        const topic = this.#find(name)
        if (topic === undefined) return []
        const extents = range(topic.partitions).map((partition) => this.#extent(topic, partition))
        const ends = extents.map(({ end }) => end)
        return [{ topic: name, partitions: topic.partitions, ends, starts: extents.map(({ start }) => start) }]
      }),
    )
  }

  async read<Name extends TopicName>(
    topic: Name,
    partition: number,
    offset: number,
    bounds: ReadBounds,
  ): Promise<readonly LogRecord<Name>[]> {
    this.#fresh()
    return this.#guarded(() => this.#readNow(topic, partition, offset, bounds))
  }

  #readNow<Name extends TopicName>(
    name: Name,
    partition: number,
    offset: number,
    bounds: ReadBounds,
  ): readonly LogRecord<Name>[] {
    const topic = this.#topic(name)
    if (!(Number.isInteger(partition) && partition >= 0 && partition < topic.partitions))
      throw new Error(`topic "${name}" has partitions 0 to ${topic.partitions - 1}, not ${partition}`)
    const { start, end } = this.#extent(topic, partition)
    const records = topic.compacted
      ? this.#readNewest<Name>(topic, partition, offset, bounds)
      : this.#readBatches<Name>(topic, partition, Math.max(offset, start), end, bounds)
    if (name === 'documents')
      if (records.length === 0) this.#caughtUp.set(partition, offset)
      else this.#caughtUp.delete(partition)
    return records
  }

  #readBatches<Name extends TopicName>(
    topic: Topic,
    partition: number,
    offset: number,
    end: number,
    { recordsMax, bytesMax }: ReadBounds,
  ): readonly LogRecord<Name>[] {
    const records: LogRecord<Name>[] = []
    const forgotten = this.#forgottenOf(topic.name, partition)
    let bytes = 0
    for (let next = offset; next < end; ) {
      const batch = this.#batchAt(topic, partition, next)
      for (; next < batch.base + batch.count; next++) {
        const { record, size } = recordIn<Name>(topic, partition, batch, next)
        if (forgotten?.(record) === true) continue
        if (records.length > 0 && (records.length >= recordsMax || bytes + size > bytesMax)) return records
        records.push(record)
        bytes += size
      }
    }
    return records
  }

  /** Whether a record was written by a run before it was reset; undefined if no run was. */
  #forgottenOf(name: TopicName, partition: number): ((record: LogRecord) => boolean) | undefined {
    if (!RUN_TOPICS.includes(name)) return undefined
    const entries = [...this.#environment.tables.meta.getRange({ start: 'forgotten:', end: 'forgotten;' })]
    if (entries.length === 0) return undefined
    const from = new Map(entries.map(({ key, value }) => [
      key.slice('forgotten:'.length), (JSON.parse(value) as Forgotten)[name]?.[partition] ?? 0,
    ]))
    return ({ value, offset }) => {
      const run = value !== undefined && 'run' in value ? value.run : null
      return run !== null && offset < (from.get(run) ?? 0)
    }
  }

  async forget(run: RunId): Promise<void> {
    this.#fresh()
    const lease = this.#take(`run:${run}`, `reset run "${run}"`, () => {})
    try {
      await this.#write(() => {
        const { meta, positions } = this.#environment.tables
        const ends: [TopicName, readonly number[]][] = RUN_TOPICS.flatMap((name) => {
          const topic = this.#find(name)
          return topic === undefined ? [] : [[name, range(topic.partitions).map((partition) => this.#extent(topic, partition).end)]]
        })
        meta.putSync(`forgotten:${run}`, JSON.stringify(Object.fromEntries(ends)))
        for (const partition of range(this.#topic('documents').partitions)) positions.removeSync(keyOf(run, partition))
        for (const { name, cleanup } of this.#declared.values()) if (cleanup === 'compact' && name !== 'queries') this.#forgetNewest(this.#topic(name), run)
      })
    } finally {
      lease.release()
    }
  }

  /** Removes the newest values of a run: the keys that are its name or begin with it. */
  #forgetNewest(topic: Topic, run: RunId): void {
    const { newest, order } = this.#environment.tables
    for (const partition of range(topic.partitions))
      for (const { record } of [...this.#newestOf(topic, partition, run)]) {
        if (record.key !== run && !record.key.startsWith(keyOf(run, ''))) continue
        newest.removeSync(newestKey(topic, partition, Buffer.from(record.key)))
        order.removeSync(offsetKey(topic, partition, record.offset))
      }
  }

  /** The batch that holds an offset, which is in the partition's extent. */
  #batchAt(topic: Topic, partition: number, offset: number): Batch {
    const { batches } = this.#environment.tables
    const from = { start: offsetKey(topic, partition, offset), end: partitionKey(topic, partition), reverse: true, limit: 1 }
    for (const key of batches.getKeys(from)) {
      const name = key.toString('latin1')
      const base = offsetIn(key)
      const kept = this.#batches.get(name)
      this.#batches.delete(name)
      const bytes = kept === undefined ? batches.getBinary(Buffer.from(key)) : undefined
      const batch = kept ?? (bytes === undefined ? undefined : openBatch(asBuffer(bytes), base))
      if (batch === undefined || offset >= batch.base + batch.count) break
      this.#batches.set(name, batch)
      if (this.#batches.size > BATCHES_KEPT_MAX) for (const oldest of this.#batches.keys()) {
        this.#batches.delete(oldest)
        break
      }
      return batch
    }
    throw corrupted(this.#environment.directory, `record ${offset} of ${topic.name}, partition ${partition}, is missing`)
  }

  #readNewest<Name extends TopicName>(
    topic: Topic,
    partition: number,
    offset: number,
    { recordsMax, bytesMax }: ReadBounds,
  ): readonly LogRecord<Name>[] {
    const { newest, order } = this.#environment.tables
    const records: LogRecord<Name>[] = []
    let bytes = 0
    const found = order.getRange({
      start: offsetKey(topic, partition, offset),
      end: partitionKey(topic, partition + 1),
      limit: Math.max(1, recordsMax),
    })
    for (const key of [...found].map(({ value }) => Buffer.from(value))) {
      const entry = newest.getBinary(newestKey(topic, partition, key))
      if (entry === undefined) throw corrupted(this.#environment.directory, `the newest ${topic.name} of a key is missing`)
      const size = key.length + entry.length - NEWEST_HEAD_BYTES
      if (records.length > 0 && bytes + size > bytesMax) break
      records.push(newestRecord<Name>(topic, partition, key, asBuffer(entry)).record)
      bytes += size
    }
    return records
  }

  async latest<Name extends TopicName>(name: Name, prefix = ''): Promise<readonly LogRecord<Name>[]> {
    this.#fresh()
    return this.#guarded(() => {
      const topic = this.#topic(name)
      if (!topic.compacted) throw new Error(`topic "${name}" is not compacted: it has no newest values`)
      const newest = new Map<string, Sequenced<Name>>()
      for (const partition of range(topic.partitions))
        for (const entry of this.#newestOf<Name>(topic, partition, prefix)) {
          const known = newest.get(entry.record.key)
          if (known === undefined || known.sequence < entry.sequence) newest.set(entry.record.key, entry)
        }
      return [...newest.values()].map(({ record }) => record).sort((a, b) => (a.key < b.key ? -1 : 1))
    })
  }

  /** The live records of a compacted topic's partition whose keys begin with a prefix. */
  #newestOf<Name extends TopicName>(topic: Topic, partition: number, prefix: string): readonly Sequenced<Name>[] {
    const start = newestKey(topic, partition, Buffer.from(prefix))
    const found: Sequenced<Name>[] = []
    for (const { key, value } of this.#environment.tables.newest.getRange({ start, end: partitionKey(topic, partition + 1) })) {
      if (start.compare(key, 0, Math.min(start.length, key.length)) !== 0) break
      found.push(newestRecord<Name>(topic, partition, key.subarray(PARTITION_KEY_BYTES), Buffer.from(value)))
    }
    return found
  }

  async positions(run: RunId): Promise<readonly Position[]> {
    this.#fresh()
    return this.#guarded(() => range(this.#topic('documents').partitions).map((partition) => this.#position(run, partition)))
  }

  #position(run: RunId, partition: number): Position {
    const text = this.#environment.tables.positions.get(keyOf(run, partition))
    return text === undefined ? { offset: 0 } : (JSON.parse(text) as Position)
  }

  /* ------------------------------------------------- owning and waiting --------------------------------------------- */

  async *assignments(run: RunId, { signal }: { readonly signal: AbortSignal }): AsyncIterable<Assignment> {
    if (signal.aborted) return
    if (run === '' || Buffer.byteLength(run) > RUN_BYTES_MAX || /[\u0000-\u001f]/.test(run))
      throw new UserError(`"${run}" cannot name a run`, { fix: `use 1 to ${RUN_BYTES_MAX} printable characters` })
    this.#fresh()
    const { partitions } = this.#topic('documents')
    const lost = new AbortController()
    const lease = this.#take(`run:${run}`, `score run "${run}"`, () => lost.abort())
    const end = (): void => {
      this.#held.delete(end)
      signal.removeEventListener('abort', end)
      lost.abort()
      lease.release()
    }
    this.#held.add(end)
    signal.addEventListener('abort', end)
    let all = false
    try {
      for (const partition of range(partitions)) yield this.#assignment(run, partition, lease.token, lost)
      all = true
    } finally {
      if (!all) end()
    }
  }

  #assignment(run: RunId, partition: number, token: string, lost: AbortController): Assignment {
    return {
      partition,
      lost: lost.signal,
      restore: async () => {
        this.#fresh() // and no await from here on: one snapshot
        return this.#guarded(() => ({ position: this.#position(run, partition), state: this.#stateOf(run, partition) }))
      },
      read: async (offset, bounds) => await this.read('documents', partition, offset, bounds),
      commit: async ({ append, position }: Commit) => {
        const prepared = this.#prepare(append, partition)
        const text = JSON.stringify(position)
        await this.#write(() => {
          this.#mustStillOwn(run, token, lost)
          this.#put(prepared, false)
          this.#environment.tables.positions.putSync(keyOf(run, partition), text)
        })
        prepared.encoder.recycle()
      },
    }
  }

  #stateOf(run: RunId, partition: number): readonly LogRecord[] {
    return [...this.#declared.values()].flatMap(({ name, cleanup, partitions }) => {
      if (cleanup !== 'compact' || partitions !== 'documents') return []
      return this.#newestOf<TopicName>(this.#topic(name), partition, keyOf(run, '')).map(({ record }) => record)
    })
  }

  /**
   * A worker that gave its lease back may finish the commit in hand as long as nobody took it since: whoever takes it
   * restores afterwards, in the order of the write transactions.
   */
  #mustStillOwn(run: RunId, token: string, lost: AbortController): void {
    const text = this.#environment.tables.leases.get(`run:${run}`)
    const holder = text === undefined ? undefined : parseHolder(text)
    if (holder?.token === token) return
    lost.abort()
    const who = holder === undefined ? 'nobody' : `process ${holder.pid} since ${new Date(holder.sinceMs).toISOString()}`
    throw new UserError(`this process (${process.pid}) no longer owns run "${run}"; its owner is ${who}`, {
      fix: 'nothing of this commit was kept; start again to go on from the last one',
    })
  }

  async grown({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const endsNow = (): readonly number[] => {
      this.#fresh()
      const topic = this.#find('documents')
      return topic === undefined ? [] : range(topic.partitions).map((partition) => this.#extent(topic, partition).end)
    }
    let ends = endsNow()
    // What came between a read that found the end and this call counts as grown.
    const missed = [...this.#caughtUp].filter(([partition, offset]) => ends[partition] > offset)
    for (const [partition] of missed) this.#caughtUp.delete(partition)
    if (missed.length > 0) return
    for (const before = ends; !signal.aborted && !this.#closed; ends = endsNow()) {
      if (ends.some((end, partition) => end > (before[partition] ?? 0))) return
      await pause(POLL_MS, signal)
      if (this.#closed) return
    }
  }

  lease(name: string, purpose: string): Lease {
    this.#fresh()
    const lease = this.#take(name, purpose, () => {})
    const release = (): void => {
      this.#held.delete(release)
      lease.release()
    }
    this.#held.add(release)
    return { release, [Symbol.dispose]: release }
  }

  #take(name: string, purpose: string, lost: () => void): { readonly token: string; release(): void } {
    if (this.#readonly) throw new Error(`the log at "${this.#environment.directory}" was opened for reading only`)
    const { leases } = this.#environment.tables
    const holder = holderHere(purpose, this.#nowMs())
    this.#sync(() => {
      const text = leases.get(name)
      const other = text === undefined ? undefined : parseHolder(text)
      if (other !== undefined && isHeld(other, this.#nowMs())) throw heldError(name, purpose, other)
      leases.putSync(name, JSON.stringify(holder))
    })
    /** Inside a write transaction: changes the record if it is still ours. */
    const change = (changes: Partial<Holder>): boolean => {
      const text = leases.get(name)
      if (text === undefined || parseHolder(text).token !== holder.token) return false
      leases.putSync(name, JSON.stringify({ ...parseHolder(text), ...changes }))
      return true
    }
    // A renewal that fails is no loss: whoever lost the lease learns it at the next commit.
    const renew = async (): Promise<void> => {
      if (!(await this.#write(() => change({ renewedMs: this.#nowMs() })))) lost()
    }
    const timer = setInterval(() => void renew().catch(() => {}), RENEW_MS).unref()
    let released = false
    return {
      token: holder.token,
      release: () => {
        if (released) return
        released = true
        clearInterval(timer)
        this.#sync(() => change({ released: true }))
      },
    }
  }

  #sync<T>(action: () => T): T {
    try {
      return this.#environment.root.transactionSync(action)
    } catch (error) {
      throw explained(error, this.#environment.directory)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    for (const release of [...this.#held]) release()
    this.#closed = true
    this.#batches.clear()
    await this.#environment.release()
  }

  /* ------------------------------------------------------ helpers ------------------------------------------------- */

  /** Lets the next reads see what was committed last, by any process. */
  #fresh(): void {
    if (this.#closed) throw new Error('the log is closed')
    this.#environment.tables.meta.resetReadTxn()
  }

  #guarded<T>(action: () => T): T {
    try {
      return action()
    } catch (error) {
      throw explained(error, this.#environment.directory)
    }
  }

  #topic(name: TopicName): Topic {
    const topic = this.#find(name)
    if (topic === undefined)
      throw new UserError(`the log at "${this.#environment.directory}" has no topic "${name}" yet`, {
        fix: 'tributary ingest PATH...',
      })
    return topic
  }

  #find(name: TopicName): Topic | undefined {
    const known = this.#topics.get(name)
    if (known !== undefined) return known
    const { meta, schemas } = this.#environment.tables
    const text = meta.get(`topic:${name}`)
    const declaration = this.#declared.get(name)
    if (text === undefined || declaration === undefined) return undefined
    const { id, partitions } = JSON.parse(text) as { readonly id: number; readonly partitions: number }
    const serdes = new Serdes(declaration.schema, (fingerprint) => schemas.get(fingerprint))
    const topic = { name, id, partitions, compacted: declaration.cleanup === 'compact', declaration, serdes }
    this.#topics.set(name, topic)
    return topic
  }

  #partitionsOf(name: TopicName, documents: number): number {
    const declared = this.#declared.get(name)?.partitions ?? 1
    return declared === 'documents' ? documents : declared
  }

  #extent(topic: Topic, partition: number): Extent {
    const bytes = this.#environment.tables.partitions.getBinary(partitionKey(topic, partition))
    if (bytes === undefined) return { start: 0, end: 0 }
    return { end: asBuffer(bytes).readDoubleLE(0), start: asBuffer(bytes).readDoubleLE(8) }
  }

  #setExtent(topic: Topic, partition: number, { start, end }: Extent): void {
    const bytes = Buffer.alloc(16)
    bytes.writeDoubleLE(end, 0)
    bytes.writeDoubleLE(start, 8)
    this.#environment.tables.partitions.putSync(partitionKey(topic, partition), bytes)
  }
}

/* ------------------------------------------------- keys and entries ------------------------------------------------- */

const PARTITION_KEY_BYTES = 3
/** A key of table `partitions` that no topic has: ids begin at 1. */
const SEQUENCE = Buffer.from([0])

const partitionKey = ({ id }: Topic, partition: number): Buffer => {
  const key = Buffer.allocUnsafe(PARTITION_KEY_BYTES)
  key[0] = id
  key.writeUInt16BE(partition, 1)
  return key
}

const offsetKey = ({ id }: Topic, partition: number, offset: number): Buffer => {
  const key = Buffer.allocUnsafe(PARTITION_KEY_BYTES + 6)
  key[0] = id
  key.writeUInt16BE(partition, 1)
  key.writeUIntBE(offset, PARTITION_KEY_BYTES, 6)
  return key
}

const offsetIn = (key: Buffer): number => asBuffer(key).readUIntBE(PARTITION_KEY_BYTES, 6)

const newestKey = (topic: Topic, partition: number, key: Buffer): Buffer =>
  Buffer.concat([partitionKey(topic, partition), key])

/** Keys shorter than this stand in the index as they are: ids that follow one another lie in one page. */
const IDENTITY_BYTES = 128

const identityKey = ({ id }: Topic, key: Buffer): Buffer => {
  const whole = key.length < IDENTITY_BYTES
  const bytes = Buffer.allocUnsafe(1 + (whole ? key.length : IDENTITY_BYTES))
  bytes[0] = id
  if (whole) key.copy(bytes, 1)
  else {
    // Its beginning for the order, and SHA-256 for the rest. Exactly IDENTITY_BYTES, as no whole key is.
    key.copy(bytes, 1, 0, IDENTITY_BYTES - 32)
    createHash('sha256').update(key).digest().copy(bytes, 1 + IDENTITY_BYTES - 32)
  }
  return bytes
}

const placeBytes = (partition: number, offset: number): Buffer => {
  const bytes = Buffer.allocUnsafe(8)
  bytes.writeUInt16BE(partition, 0)
  bytes.writeUIntBE(offset, 2, 6)
  return bytes
}

const keyBytesOf = ({ bytes, starts, keys }: Encoder, i: number): Buffer => bytes.subarray(starts[i] + 4, starts[i] + 4 + keys[i])

/** Head of an entry of `newest`: f64 offset | f64 timestamp | f64 sequence | u32 checksum of the value; then the value. */
const NEWEST_HEAD_BYTES = 28

interface NewestHead {
  readonly offset: number
  readonly timestampMs: number
  readonly sequence: number
}

const newestBytes = ({ offset, timestampMs, sequence }: NewestHead, value: Uint8Array): Buffer => {
  const bytes = Buffer.allocUnsafe(NEWEST_HEAD_BYTES + value.length)
  bytes.writeDoubleLE(offset, 0)
  bytes.writeDoubleLE(timestampMs, 8)
  bytes.writeDoubleLE(sequence, 16)
  bytes.writeUInt32LE(checksum(value), 24)
  bytes.set(value, NEWEST_HEAD_BYTES)
  return bytes
}

interface Sequenced<Name extends TopicName> {
  readonly record: LogRecord<Name>
  readonly sequence: number
}

const newestRecord = <Name extends TopicName>(topic: Topic, partition: number, key: Buffer, entry: Buffer): Sequenced<Name> => {
  const sound = checksum(entry.subarray(NEWEST_HEAD_BYTES)) === entry.readUInt32LE(24)
  const decoded = sound
    ? topic.serdes.decode(entry, NEWEST_HEAD_BYTES, entry.length)
    : { problem: 'its checksum is wrong: the bytes changed after they were written' }
  const head = { topic: topic.name as Name, partition, offset: entry.readDoubleLE(0), key: key.toString('utf8') }
  const raw = (): Buffer => entry.subarray(NEWEST_HEAD_BYTES)
  return { record: recordOf(head, entry.readDoubleLE(8), decoded, raw), sequence: entry.readDoubleLE(16) }
}

const recordIn = <Name extends TopicName>(
  topic: Topic,
  partition: number,
  batch: Batch,
  offset: number,
): { readonly record: LogRecord<Name>; readonly size: number } => {
  const name = topic.name as Name
  const { bytes, problem, timestampMs } = batch
  if (problem !== undefined) {
    // Where the records lie cannot be trusted either: the first one carries all the bytes.
    const raw = offset === batch.base ? bytes : bytes.subarray(0, 0)
    return { record: recordOf({ topic: name, partition, offset, key: '' }, timestampMs, { problem }, () => raw), size: raw.length }
  }
  const { start, value, end } = placeIn(batch, offset - batch.base)
  const decoded = topic.serdes.decode(bytes, value, end)
  const key = bytes.toString('utf8', start + 4, value)
  const size = end - start - 4
  // Every document that is read comes by here: nothing is made that the record does not keep.
  if ('value' in decoded) return { record: { topic: name, partition, offset, key, timestampMs, value: decoded.value as TopicValues[Name] }, size }
  return { record: recordOf({ topic: name, partition, offset, key }, timestampMs, decoded, () => bytes.subarray(value, end)), size }
}

const recordOf = <Name extends TopicName>(
  head: { readonly topic: Name; readonly partition: number; readonly offset: number; readonly key: string },
  timestampMs: number,
  decoded: Decoded,
  raw: () => Uint8Array,
): LogRecord<Name> => {
  const { topic, partition, offset, key } = head
  if ('problem' in decoded)
    return { topic, partition, offset, key, timestampMs, value: undefined, raw: new Uint8Array(raw()), problem: decoded.problem }
  return { topic, partition, offset, key, timestampMs, value: decoded.value as TopicValues[Name] }
}

/** LMDB hands out plain Uint8Array in places where its types say Buffer. */
const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const range = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i)
