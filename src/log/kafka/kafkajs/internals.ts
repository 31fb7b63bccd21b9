/**
 * @file The parts of kafkajs 2.2.4 below its public face, with types of our own: connections, authentication, metadata
 * and the requests of a broker. Its consumer and producer are not used (they hide offsets, heartbeats and the state of
 * transactions). The only file that knows kafkajs's insides; test/log/kafka/internals.test.ts fails if they change.
 */
import { createRequire } from 'node:module'
import type { Admin } from 'kafkajs'

const require = createRequire(import.meta.url)

/** The version whose insides these are; package.json may say no other. */
export const KAFKAJS_VERSION = '2.2.4'

export interface Encoder {
  readonly buffer: Buffer
  writeInt8(value: number): Encoder
  writeInt16(value: number): Encoder
  writeInt32(value: number): Encoder
  writeInt64(value: number | bigint): Encoder
  writeString(value: string): Encoder
  writeBytes(value: Buffer): Encoder
  writeArray(values: readonly unknown[]): Encoder
}

/** A request in the words of the protocol, for what kafkajs's own decoders do not give. */
export interface WireRequest<Response> {
  readonly request: { readonly apiKey: number; readonly apiVersion: number; readonly apiName: string; encode(): Promise<Encoder> }
  readonly response: { decode(payload: Buffer): Promise<Response>; parse(response: Response): Promise<Response> }
  readonly requestTimeout?: number | null
}

interface TopicPartitions {
  readonly topic: string
  readonly partitions: readonly number[]
}

/** kafkajs's Broker: one node. Each rejects with kafkajs's errors. */
export interface Broker {
  readonly nodeId: number | null
  readonly versions: Readonly<Record<number, { readonly minVersion: number; readonly maxVersion: number }>> | null
  readonly connectionPool: { send<Response>(request: WireRequest<Response>): Promise<Response>; readonly host: string; readonly port: number }
  disconnect(): Promise<void>
  /** Of these topics, or of all; errors and all, each topic with its own (`newCluster`). */
  metadata(topics?: readonly string[]): Promise<Metadata>
  lookupRequest(apiKey: number, definition: unknown): (options: object) => WireRequest<unknown>
  listOffsets(request: {
    readonly replicaId: number
    readonly isolationLevel: number
    readonly topics: readonly { readonly topic: string; readonly partitions: readonly { readonly partition: number; readonly timestamp: number }[] }[]
  }): Promise<{ readonly responses: readonly { readonly topic: string; readonly partitions: readonly { readonly partition: number; readonly offset: string }[] }[] }>
  initProducerId(request: { readonly transactionalId: string; readonly transactionTimeout: number }): Promise<{ readonly producerId: string; readonly producerEpoch: number }>
  addOffsetsToTxn(request: Transaction & { readonly groupId: string }): Promise<unknown>
  txnOffsetCommit(request: Transaction & {
    readonly groupId: string
    readonly topics: readonly { readonly topic: string; readonly partitions: readonly { readonly partition: number; readonly offset: string; readonly metadata: null }[] }[]
  }): Promise<unknown>
  endTxn(request: Transaction & { readonly transactionResult: boolean }): Promise<unknown>
  findGroupCoordinator(request: { readonly groupId: string; readonly coordinatorType: number }): Promise<{ readonly coordinator: { readonly nodeId: number } }>
  joinGroup(request: {
    readonly groupId: string
    readonly sessionTimeout: number
    readonly rebalanceTimeout: number
    readonly memberId: string
    readonly groupProtocols: readonly { readonly name: string; readonly metadata: Buffer }[]
  }): Promise<{
    readonly generationId: number
    readonly leaderId: string
    readonly memberId: string
    readonly members: readonly { readonly memberId: string; readonly memberMetadata: Buffer }[]
  }>
  syncGroup(request: {
    readonly groupId: string
    readonly generationId: number
    readonly memberId: string
    readonly groupAssignment: readonly { readonly memberId: string; readonly memberAssignment: Buffer }[]
  }): Promise<{ readonly memberAssignment: Buffer }>
  heartbeat(request: { readonly groupId: string; readonly groupGenerationId: number; readonly memberId: string }): Promise<unknown>
  leaveGroup(request: { readonly groupId: string; readonly memberId: string }): Promise<unknown>
}

export interface TopicMetadata {
  readonly topicErrorCode: number
  readonly topic: string
  /** `leader`: -1 without one. */
  readonly partitionMetadata: readonly { readonly partitionId: number; readonly leader: number; readonly replicas: readonly number[] }[]
}

interface Metadata {
  readonly topicMetadata: readonly TopicMetadata[]
}

interface Transaction {
  readonly transactionalId: string
  readonly producerId: string
  readonly producerEpoch: number
}

/** kafkajs's Cluster: connections to all nodes, and who leads what. */
export interface Cluster {
  connect(): Promise<void>
  disconnect(): Promise<void>
  refreshMetadata(): Promise<void>
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>
  findBroker(options: { readonly nodeId: number }): Promise<Broker>
  /** Of the nodes that the metadata name. */
  getNodeIds(): readonly string[]
  readonly brokerPool: {
    findConnectedBroker(): Promise<Broker>
    /** Null: none were asked for yet. */
    readonly metadata: Metadata | null
    createBroker: (options: object) => Broker
  }
}

export interface ClusterOptions {
  readonly brokers: readonly string[]
  readonly clientId: string
  readonly ssl: object | undefined
  readonly sasl: object | undefined
  readonly connectionTimeout: number
  readonly authenticationTimeout: number
  readonly reauthenticationThreshold: number
  readonly requestTimeout: number
  readonly enforceRequestTimeout: boolean
  readonly metadataMaxAge: number
  readonly retry: { readonly retries: number; readonly initialRetryTime: number; readonly maxRetryTime: number }
  readonly allowAutoTopicCreation: boolean
  readonly maxInFlightRequests: null
  readonly isolationLevel: number
}

const load = <Part>(path: string): Part => require(`kafkajs/src/${path}`) as Part

const ClusterClass = load<new (options: ClusterOptions & { readonly logger: unknown; readonly socketFactory: unknown }) => Cluster>('cluster/index.js')
const EncoderClass = load<new () => Encoder>('protocol/encoder.js')
const socketFactory = load<() => unknown>('network/socketFactory.js')
const { createLogger, LEVELS } = load<{
  createLogger(options: { level: number; logCreator: () => (entry: unknown) => void }): unknown
  LEVELS: { readonly NOTHING: number }
}>('loggers/index.js')
export const { MemberMetadata, MemberAssignment } = load<{
  MemberMetadata: {
    encode(value: { version: number; topics: readonly string[]; userData: Buffer }): Buffer
    decode(buffer: Buffer): { readonly topics: readonly string[]; readonly userData: Buffer | null }
  }
  MemberAssignment: {
    encode(value: { version: number; assignment: Readonly<Record<string, readonly number[]>>; userData: Buffer }): Buffer
    decode(buffer: Buffer): { readonly assignment: Readonly<Record<string, readonly number[]>> } | null
  }
}>('consumer/assignerProtocol.js')
const apiKeys = load<Readonly<Record<RequestName, number>>>('protocol/requests/apiKeys.js')
const { requests } = load<{ requests: Readonly<Record<RequestName, unknown>> }>('protocol/requests/index.js')
const createAdmin = load<(options: {
  readonly cluster: Cluster
  readonly logger: unknown
  readonly retry: ClusterOptions['retry']
}) => Admin>('admin/index.js')
/** An error code of the protocol as kafkajs's error, with its name in `type`. */
export const { createErrorFromCode } = load<{ createErrorFromCode(code: number): Error }>('protocol/error.js')

export const COORDINATOR = { group: 0, transaction: 1 } as const

export const newEncoder = (): Encoder => new EncoderClass()

type RequestName = 'Metadata' | 'AddPartitionsToTxn'

/** A request whose answer is given as it was decoded: kafkajs itself refuses it whole for one error in it. */
const asDecoded = async <Answer>(broker: Broker, name: RequestName, options: object): Promise<Answer> => {
  const { request, response } = broker.lookupRequest(apiKeys[name], requests[name])(options)
  try {
    return (await broker.connectionPool.send({ request, response: { decode: response.decode, parse: async (answer) => answer } })) as Answer
  } catch (error) {
    if ((error as Error).name === 'KafkaJSConnectionClosedError') await broker.disconnect() // as kafkajs does with its own
    throw error
  }
}

/** Partitions that a transaction will write to: an error code for each, 0 for all or for none. */
export const addPartitionsToTxn = async (broker: Broker, request: Transaction & { readonly topics: readonly TopicPartitions[] }): Promise<{
  readonly errors: readonly { readonly topic: string; readonly partitionErrors: readonly { readonly errorCode: number }[] }[]
}> => asDecoded(broker, 'AddPartitionsToTxn', request)

/** kafkajs logs nothing: what goes wrong is thrown, and said once. */
const logger = createLogger({ level: LEVELS.NOTHING, logCreator: () => () => {} })

export const newCluster = (options: ClusterOptions): Cluster => {
  const cluster = new ClusterClass({ ...options, socketFactory: socketFactory(), logger })
  const { brokerPool } = cluster
  const create = brokerPool.createBroker
  brokerPool.createBroker = (own) => {
    const broker = create(own)
    broker.metadata = (topics = []) => asDecoded(broker, 'Metadata', { topics, allowAutoTopicCreation: options.allowAutoTopicCreation })
    return broker
  }
  return cluster
}

/** kafkajs's admin client over a cluster's connections. */
export const adminOf = (cluster: Cluster, retry: ClusterOptions['retry']): Admin => createAdmin({ cluster, logger, retry })
