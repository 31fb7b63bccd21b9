/**
 * @file A Kafka cluster in memory, behind the port: partitions with control batches, transactions by producer id and
 * epoch, the last stable offset, fencing, groups with generations, compaction. As in KIP-98, the answer to a commit comes
 * before its markers are in the partitions. At each request `weather` says what becomes of it.
 */
import { KafkaFault, sendsOf, sizeOf } from '../../../src/log/kafka/index.js'
import type {
  Fetched, FetchBounds, GroupMember, GroupOffsets, KafkaAdmin, KafkaClient, Membership, NewKafkaTopic, OffsetKind, ProducerRecord, TransactionalProducer,
  Written,
} from '../../../src/log/kafka/index.js'

/** What becomes of a request: done and answered; not done; done, but the answer is lost; done later, without an answer. */
export type Fate = 'fine' | 'request lost' | 'answer lost' | 'delayed'
export type Weather = (request: string) => Promise<Fate>

interface Transaction {
  readonly pid: number
  state: 'open' | 'decided' | 'committed' | 'aborted'
  commit: boolean
  readonly partitions: Set<Partition>
  readonly offsets: GroupOffsets[]
}

interface Entry {
  readonly offset: number
  readonly timestampMs: number
  readonly key: string
  readonly value: Buffer | null
  readonly transaction: Transaction
  readonly control: boolean
}

class Partition {
  entries: Entry[] = []
  end = 0

  /** The first offset of a transaction that is not over. */
  get stable(): number {
    return this.entries.find(({ transaction }) => transaction.state === 'open' || transaction.state === 'decided')?.offset ?? this.end
  }

  add(transaction: Transaction, record: Pick<Entry, 'timestampMs' | 'key' | 'value'>, control = false): void {
    const { timestampMs, key, value } = record
    this.entries.push({ offset: this.end++, timestampMs, key, value, transaction, control })
  }

  /** Leaves the newest of each key, and nothing that was aborted; the last offsets stay as gaps. */
  compact(): void {
    const { stable } = this
    const newest = new Map<string, number>()
    for (const { key, offset, control, transaction } of this.entries)
      if (offset < stable && !control && transaction.state === 'committed') newest.set(key, offset)
    this.entries = this.entries.filter(({ key, offset, control }) => offset >= stable || (!control && newest.get(key) === offset))
  }
}

interface Owner {
  readonly pid: number
  epoch: number
  ongoing: Transaction | undefined
}

class Member implements GroupMember {
  generation = -1
  #newest: Membership | undefined
  #wake: (() => void) | undefined
  #left = false
  readonly #group: Group
  readonly #weather: Weather

  constructor(group: Group, weather: Weather) {
    this.#group = group
    this.#weather = weather
  }

  /** After an eviction; a process that is dead or stopped does not get so far. */
  async rejoin(): Promise<void> {
    await this.#weather('rejoin')
    if (!this.#left) this.#group.add(this)
  }

  give(membership: Membership): void {
    this.#newest = membership
    this.#wake?.()
  }

  get memberships(): AsyncIterable<Membership> {
    return this.#follow()
  }

  async *#follow(): AsyncGenerator<Membership> {
    while (!this.#left) {
      const membership = this.#newest
      this.#newest = undefined
      if (membership === undefined) await new Promise<void>((resolve) => (this.#wake = resolve))
      else {
        this.generation = membership.generation
        yield membership
      }
    }
  }

  async verify(): Promise<void> {
    const fate = await this.#weather('heartbeat')
    if (fate !== 'fine') throw new KafkaFault('unreachable', 'the heartbeat was lost')
    if (!this.#group.members.has(this) || this.generation !== this.#group.generation) throw new KafkaFault('evicted', 'not a member of this generation')
  }

  async leave(): Promise<void> {
    if (this.#left) return
    this.#left = true
    this.#wake?.()
    this.#group.remove(this)
  }
}

class Group {
  generation = 0
  readonly members = new Set<Member>()
  readonly offsets = new Map<string, number>()
  readonly #partitions: () => number

  constructor(partitions: () => number) {
    this.#partitions = partitions
  }

  add(member: Member): void {
    this.members.add(member)
    this.#rebalance()
  }

  remove(member: Member): void {
    if (this.members.delete(member)) this.#rebalance()
  }

  #rebalance(): void {
    this.generation++
    const members = [...this.members]
    const count = this.#partitions()
    members.forEach((member, at) => {
      const partitions = Array.from({ length: count }, (_, partition) => partition).filter((partition) => (partition + this.generation) % members.length === at)
      member.give({ generation: this.generation, partitions })
    })
  }
}

/** A network's answer is never in the same turn of the event loop. */
const fair: Weather = () => new Promise((resolve) => setImmediate(() => resolve('fine')))

const reach = async (weather: Weather, request: string): Promise<void> => {
  const fate = await weather(request)
  if (fate !== 'fine') throw new KafkaFault('unreachable', `${request}: ${fate}`)
}

export class FakeCluster {
  /** Of what the cluster does by itself: markers of transactions, requests that come late. */
  weather: Weather = fair
  nowMs: () => number = Date.now
  readonly #topics = new Map<string, { readonly partitions: Partition[]; configs: Readonly<Record<string, string>>; readonly replicationFactor: number }>()
  readonly #owners = new Map<string, Owner>()
  readonly #groups = new Map<string, Group>()
  #pids = 0

  /** One process's client, with the weather between it and the cluster. */
  client(weather: Weather = fair): KafkaClient {
    return {
      admin: this.#admin(weather),
      fetch: async (topic, partition, offset, bounds) => {
        await reach(weather, 'fetch')
        return this.#fetch(topic, partition, offset, bounds)
      },
      join: async (group, topic) => {
        await reach(weather, 'join')
        const member = new Member(this.#group(group, topic), weather)
        this.#group(group, topic).add(member)
        return member
      },
      producer: (id) => this.#open(id, weather),
      [Symbol.asyncDispose]: async () => undefined,
    }
  }

  /** Evicts a member of each group, chosen by a number; it is told, and joins again. */
  evict(choose: (count: number) => number): void {
    for (const group of this.#groups.values()) {
      const members = [...group.members]
      const member = members.at(choose(members.length))
      if (member === undefined) continue
      group.remove(member)
      member.give({ generation: group.generation, partitions: [] })
      void member.rejoin()
    }
  }

  /** The timeout of transactions: what is open is aborted, and its producer fenced. */
  expire(): void {
    for (const owner of this.#owners.values()) {
      if (owner.ongoing?.state !== 'open') continue
      owner.epoch++
      this.#decide(owner.ongoing, false)
      this.#complete(owner.ongoing)
      owner.ongoing = undefined
    }
  }

  compact(): void {
    for (const { partitions, configs } of this.#topics.values()) if (configs['cleanup.policy'] === 'compact') for (const partition of partitions) partition.compact()
  }

  /** What a reader of committed records sees of a topic. */
  committed(topic: string): readonly { readonly partition: number; readonly key: string; readonly value: Buffer | null }[] {
    return this.#partitions(topic).flatMap(({ entries }, partition) =>
      entries.filter(({ control, transaction }) => !control && transaction.state === 'committed').map(({ key, value }) => ({ partition, key, value })))
  }

  #partitions(topic: string): Partition[] {
    const found = this.#topics.get(topic)
    if (found === undefined) throw new KafkaFault('unknown-topic', 'there is no such topic', { resource: topic })
    return found.partitions
  }

  #partition(topic: string, partition: number): Partition {
    const found = this.#partitions(topic).at(partition)
    if (found === undefined) throw new KafkaFault('unknown-topic', `there is no partition ${partition}`, { resource: topic })
    return found
  }

  #group(group: string, topic: string): Group {
    const found = this.#groups.get(group) ?? new Group(() => this.#partitions(topic).length)
    this.#groups.set(group, found)
    return found
  }

  #fetch(topic: string, partition: number, offset: number, { bytesMax }: FetchBounds): Fetched {
    const { entries, stable, end } = this.#partition(topic, partition)
    if (offset > end) throw new KafkaFault('out-of-range', `the end is ${end}`)
    const records: Fetched['records'][number][] = []
    let bytes = 0
    for (const entry of entries) {
      if (entry.offset < offset) continue
      if (entry.offset >= stable) break
      if (bytes > bytesMax) return { records, next: entry.offset, stableEnd: stable }
      if (entry.control || entry.transaction.state !== 'committed') continue
      records.push({ offset: entry.offset, timestampMs: entry.timestampMs, key: entry.key, value: entry.value })
      bytes += sizeOf(entry)
    }
    return { records, next: Math.max(offset, stable), stableEnd: stable }
  }

  /* --------------------------------------------------- transactions ------------------------------------------------- */

  async #open(id: string, weather: Weather): Promise<TransactionalProducer> {
    const fate = await weather('init')
    if (fate === 'request lost') throw new KafkaFault('unreachable', 'init: request lost')
    const owner = this.#owners.get(id) ?? { pid: ++this.#pids, epoch: -1, ongoing: undefined }
    this.#owners.set(id, owner)
    owner.epoch++
    if (owner.ongoing?.state === 'open') this.#decide(owner.ongoing, false)
    if (owner.ongoing !== undefined) this.#complete(owner.ongoing)
    owner.ongoing = undefined
    if (fate !== 'fine') throw new KafkaFault('unreachable', `init: ${fate}`)
    return new FakeProducer(this, owner, weather)
  }

  /** Within the owner's transaction; the epoch is looked at when the request arrives. */
  send(owner: Owner, epoch: number, records: readonly ProducerRecord[]): readonly Written[] {
    const transaction = this.#ongoing(owner, epoch)
    for (const { topic, partition, key, value } of records) {
      this.#partition(topic, partition)
      const most = Number(this.#topics.get(topic)?.configs['max.message.bytes'] ?? 1_048_588)
      if (sizeOf({ key, value }) > most) throw new KafkaFault('too-large', `more than ${most} bytes`, { resource: topic })
    }
    return records.map((record) => {
      const partition = this.#partition(record.topic, record.partition)
      transaction.partitions.add(partition)
      // The sender's memory is its own to use again.
      partition.add(transaction, { ...record, value: record.value === null ? null : Buffer.from(record.value) })
      return { topic: record.topic, partition: record.partition, end: partition.end }
    })
  }

  sendOffsets(owner: Owner, epoch: number, offsets: GroupOffsets): void {
    this.#ongoing(owner, epoch).offsets.push(offsets)
  }

  end(owner: Owner, epoch: number, commit: boolean): void {
    const transaction = this.#ongoing(owner, epoch)
    this.#decide(transaction, commit)
    void this.weather('markers').then(() => this.#complete(transaction))
  }

  #ongoing(owner: Owner, epoch: number): Transaction {
    if (epoch !== owner.epoch) throw new KafkaFault('fenced', `epoch ${epoch}, the owner's is ${owner.epoch}`)
    if (owner.ongoing !== undefined && owner.ongoing.state !== 'open') {
      this.#complete(owner.ongoing) // CONCURRENT_TRANSACTIONS, until it is over
      owner.ongoing = undefined
    }
    owner.ongoing ??= { pid: owner.pid, state: 'open', commit: false, partitions: new Set(), offsets: [] }
    return owner.ongoing
  }

  #decide(transaction: Transaction, commit: boolean): void {
    transaction.state = 'decided'
    transaction.commit = commit
  }

  #complete(transaction: Transaction): void {
    if (transaction.state !== 'decided') return
    for (const partition of transaction.partitions) partition.add(transaction, { timestampMs: this.nowMs(), key: '', value: null }, true)
    transaction.state = transaction.commit ? 'committed' : 'aborted'
    if (transaction.commit)
      for (const { group, topic, offsets } of transaction.offsets)
        for (const { partition, offset } of offsets) this.#group(group, topic).offsets.set(`${topic} ${partition}`, offset)
  }

  /* -------------------------------------------------- administration ------------------------------------------------ */

  #admin(weather: Weather): KafkaAdmin {
    const admin = (): Promise<void> => reach(weather, 'admin')
    const offset = ({ entries, stable, end }: Partition, kind: OffsetKind): number =>
      kind === 'earliest' ? (entries.length === 0 ? end : 0) : kind === 'latest' ? end : stable
    return {
      topics: async (names) => {
        await admin()
        return [...this.#topics].filter(([topic]) => names?.includes(topic) ?? true)
          .map(([topic, { partitions, replicationFactor }]) => ({ topic, partitions: partitions.length, replicationFactor }))
      },
      configs: async (topic) => {
        await admin()
        this.#partitions(topic)
        return this.#topics.get(topic)?.configs ?? {}
      },
      createTopics: async (topics: readonly NewKafkaTopic[]) => {
        await admin()
        const missing = topics.filter(({ topic }) => !this.#topics.has(topic))
        for (const { topic, partitions, configs, replicationFactor } of missing)
          this.#topics.set(topic, { partitions: Array.from({ length: partitions }, () => new Partition()), configs, replicationFactor: replicationFactor ?? 1 })
        return missing.map(({ topic }) => topic)
      },
      growTopic: async (topic, partitions) => {
        await admin()
        const there = this.#partitions(topic)
        while (there.length < partitions) there.push(new Partition())
      },
      setConfigs: async (topic, configs) => {
        await admin()
        this.#partitions(topic)
        const found = this.#topics.get(topic)
        if (found !== undefined) found.configs = configs
      },
      deleteTopics: async (topics) => {
        await admin()
        for (const topic of topics) this.#topics.delete(topic)
      },
      offsets: async (topic, kind) => {
        await admin()
        return this.#partitions(topic).map((partition) => offset(partition, kind))
      },
      offsetsAt: async (topic, timestampMs) => {
        await admin()
        return this.#partitions(topic).map(({ entries, end }) => entries.find((entry) => entry.timestampMs >= timestampMs)?.offset ?? end)
      },
      groupOffsets: async (group, topic) => {
        await admin()
        return this.#partitions(topic).map((_, partition) => this.#groups.get(group)?.offsets.get(`${topic} ${partition}`) ?? null)
      },
      groupMembers: async (group) => {
        await admin()
        return this.#groups.get(group)?.members.size ?? 0
      },
      deleteGroups: async (groups) => {
        await admin()
        for (const group of groups) this.#groups.delete(group)
      },
    }
  }
}

class FakeProducer implements TransactionalProducer {
  readonly #cluster: FakeCluster
  readonly #owner: Owner
  readonly #epoch: number
  readonly #weather: Weather
  #usable = true

  constructor(cluster: FakeCluster, owner: Owner, weather: Weather) {
    this.#cluster = cluster
    this.#weather = weather
    this.#owner = owner
    this.#epoch = owner.epoch
  }

  async transaction(records: readonly ProducerRecord[], offsets?: GroupOffsets): Promise<readonly Written[]> {
    if (!this.#usable) throw new Error('the producer was used after an error')
    this.#usable = false
    const written: Written[] = []
    const sends = sendsOf(records)
    for (const send of sends) await this.#request('send', () => written.push(...this.#cluster.send(this.#owner, this.#epoch, send)))
    if (offsets !== undefined) await this.#request('offsets', () => this.#cluster.sendOffsets(this.#owner, this.#epoch, offsets))
    if (sends.length > 0 || offsets !== undefined) await this.#request('commit', () => this.#cluster.end(this.#owner, this.#epoch, true))
    this.#usable = true
    return written
  }

  async #request(name: string, action: () => unknown): Promise<void> {
    const fate = await this.#weather(name)
    if (fate === 'fine' || fate === 'answer lost')
      try {
        action()
      } catch (error) {
        if (error instanceof KafkaFault && error.kind === 'too-large') this.#cluster.end(this.#owner, this.#epoch, false)
        throw error
      }
    if (fate === 'delayed')
      void this.#cluster.weather('late').then(() => {
        try {
          action()
        } catch {
          // It came too late: nobody waits for what it would say.
        }
      })
    if (fate !== 'fine') throw new KafkaFault('unknown-outcome', `${name}: ${fate}`)
  }

  async close(): Promise<void> {
    this.#usable = false
  }
}
