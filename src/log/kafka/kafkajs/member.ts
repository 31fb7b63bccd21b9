/**
 * @file A member of a consumer group (KIP-62's protocol, on the requests themselves): it joins, hears what is its own, and
 * beats its heart on a timer, whatever its caller computes or awaits. While the group rebalances it keeps what it has:
 * whoever gets a partition fences its last owner by the transactional id, so nothing depends on giving it back first.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaFault, isFault, type GroupMember, type KafkaFaultKind, type Membership } from '../client.js'
import { assign } from './assign.js'
import { connect, timingsOf, type KafkajsOptions } from './connect.js'
import { faultOf } from './faults.js'
import { MemberAssignment, MemberMetadata, type Broker } from './internals.js'
import { coordinatorOf, judged, partitionsOf } from './leaders.js'

/** What a member cannot mend by trying again. */
const final: readonly KafkaFaultKind[] = ['not-authorized', 'authentication', 'tls', 'unknown-topic', 'unsupported-version', 'invalid']

const strategy = 'tributary-sticky'
const backoffMs = 200
/** How often the leader looks whether the topic has grown. */
const growthMs = 30_000

interface Owned {
  readonly generation: number
  readonly partitions: readonly number[]
}

export const joinGroup = async (options: KafkajsOptions, group: string, topic: string): Promise<GroupMember> => {
  const { sessionMs, heartbeatMs, rebalanceMs, requestMs } = timingsOf(options)
  const cluster = connect(options)
  const leaving = new AbortController()
  let memberId = ''
  let coordinator: Broker | undefined
  let owned: Owned = { generation: -1, partitions: [] }
  /** A generation that the coordinator knows and this member is in; undefined between two. */
  let current: number | undefined
  let heardMs = Date.now()

  // The newest membership that was not read yet, and who waits for one.
  let news: Membership | undefined
  let failed: unknown
  let ended = false
  let wake: () => void = () => {}
  const tell = (membership: Membership): void => {
    news = membership
    wake()
  }
  const evicted = (): void => {
    current = undefined
    if (owned.partitions.length > 0) tell({ generation: owned.generation, partitions: [] })
    owned = { generation: -1, partitions: [] }
  }

  const partitionsOfTopic = async (): Promise<readonly number[]> => {
    await cluster.refreshMetadata()
    return partitionsOf(cluster, topic).map(({ partitionId }) => partitionId)
  }

  const join = async (): Promise<{ leads: boolean; partitions: number }> => {
    await cluster.connect()
    await cluster.addMultipleTargetTopics([topic])
    const broker = await coordinatorOf(cluster, 'group', group, requestMs)
    coordinator = broker
    const metadata = MemberMetadata.encode({ version: 0, topics: [topic], userData: Buffer.from(JSON.stringify(owned)) })
    const joined = await broker.joinGroup({
      groupId: group, sessionTimeout: sessionMs, rebalanceTimeout: rebalanceMs, memberId, groupProtocols: [{ name: strategy, metadata }],
    })
    memberId = joined.memberId
    const leads = joined.leaderId === memberId
    let groupAssignment: { memberId: string; memberAssignment: Buffer }[] = []
    let count = 0
    if (leads) {
      const partitions = await partitionsOfTopic()
      count = partitions.length
      const claims = joined.members.map((member) => ({ member: member.memberId, ...claimOf(member.memberMetadata) }))
      groupAssignment = [...assign(claims, partitions)].map(([id, own]) => ({
        memberId: id, memberAssignment: MemberAssignment.encode({ version: 0, assignment: { [topic]: own }, userData: Buffer.alloc(0) }),
      }))
    }
    const { memberAssignment } = await broker.syncGroup({ groupId: group, generationId: joined.generationId, memberId, groupAssignment })
    const own = MemberAssignment.decode(memberAssignment)?.assignment[topic] ?? []
    owned = { generation: joined.generationId, partitions: own.toSorted((a, b) => a - b) }
    current = joined.generationId
    heardMs = Date.now()
    tell({ generation: owned.generation, partitions: owned.partitions })
    return { leads, partitions: count }
  }

  const beat = async (): Promise<void> => {
    const generation = current
    if (coordinator === undefined || generation === undefined) throw new KafkaFault('evicted', `${group} is between two generations`, { resource: group })
    try {
      await coordinator.heartbeat({ groupId: group, groupGenerationId: generation, memberId })
      heardMs = Date.now()
    } catch (error) {
      throw faultOf(error, group)
    }
  }

  /** What an error of a heartbeat or a join says about the membership. */
  const after = async (error: unknown): Promise<void> => {
    const fault = await judged(cluster, faultOf(error, group))
    const type = String((fault as { cause?: { type?: unknown } }).cause?.type ?? '')
    if (!(fault instanceof KafkaFault) || final.includes(fault.kind)) throw fault
    if (type === 'REBALANCE_IN_PROGRESS') {
      current = undefined // asked to join again; what it has, it keeps until it hears more
      return
    }
    if (type === 'UNKNOWN_MEMBER_ID' || type === 'FENCED_INSTANCE_ID') memberId = ''
    if (fault.kind === 'evicted' || Date.now() - heardMs > sessionMs) evicted()
  }

  const live = async (): Promise<void> => {
    const { signal } = leaving
    while (!signal.aborted)
      try {
        const { leads, partitions } = await join()
        let lookMs = Date.now() + growthMs
        while (!signal.aborted && current !== undefined) {
          await sleep(heartbeatMs, undefined, { signal })
          await beat()
          if (!leads || Date.now() < lookMs) continue
          lookMs = Date.now() + growthMs
          if ((await partitionsOfTopic()).length !== partitions) current = undefined
        }
      } catch (error) {
        if (signal.aborted) break
        await after(error)
        if (current !== undefined || !isFault(faultOf(error), 'evicted')) await sleep(backoffMs, undefined, { signal }).catch(() => {})
        // The coordinator moved or is away: a join finds it, and shows at once whether this is still a member.
      }
  }

  try {
    await cluster.connect()
    await cluster.addMultipleTargetTopics([topic])
  } catch (error) {
    await cluster.disconnect().catch(() => {})
    throw faultOf(error, topic)
  }
  const running = live().catch((error: unknown) => {
    failed = error
    evicted()
  }).finally(() => {
    ended = true
    wake()
  })

  async function* memberships(): AsyncGenerator<Membership> {
    for (;;) {
      if (news !== undefined) {
        const membership = news
        news = undefined
        yield membership
      } else if (failed !== undefined) throw failed
      else if (ended) return
      else await new Promise<void>((resolve) => (wake = resolve))
    }
  }

  return {
    memberships: memberships(),
    verify: async () => {
      if (failed !== undefined) throw failed
      try {
        await beat()
      } catch (error) {
        if (Date.now() - heardMs > sessionMs) throw new KafkaFault('evicted', `${group} was not reached for ${sessionMs} ms`, { resource: group, cause: error })
        throw error
      }
    },
    leave: async () => {
      if (leaving.signal.aborted) return running
      leaving.abort()
      if (memberId !== '') await coordinator?.leaveGroup({ groupId: group, memberId }).catch(() => {})
      await cluster.disconnect().catch(() => {}) // a join that waits at the broker ends with its connection
      await running
    },
  }
}

/** What a member says that it has; nothing from one that says it otherwise (another version). */
const claimOf = (metadata: Buffer): { owned: readonly number[]; generation: number } => {
  try {
    const { generation, partitions } = JSON.parse(MemberMetadata.decode(metadata).userData?.toString('utf8') ?? '') as Owned
    if (Number.isInteger(generation) && Array.isArray(partitions)) return { owned: partitions, generation }
  } catch {
    // a member of another client
  }
  return { owned: [], generation: -1 }
}
