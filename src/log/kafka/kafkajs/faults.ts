/** @file kafkajs's errors → the port's few kinds of faults. */
import { KafkaFault, type KafkaFaultKind } from '../client.js'
import { createErrorFromCode } from './internals.js'

interface KafkajsError extends Error {
  readonly type?: string
  readonly code?: string | number
  readonly originalError?: unknown
  readonly errors?: readonly unknown[]
  /** What an error of the protocol is about, where we know better than who asked (errorAbout). */
  readonly resource?: string
}

/** An error of the protocol that came with a topic of many. */
export const errorAbout = (topic: string, code: number): Error => Object.assign(createErrorFromCode(code), { resource: topic })

/** Names of the protocol (kafka.apache.org/protocol: Error Codes) by what follows from them. */
const kinds: Readonly<Record<string, KafkaFaultKind>> = {
  INVALID_PRODUCER_EPOCH: 'fenced',
  PRODUCER_FENCED: 'fenced',
  INVALID_PRODUCER_ID_MAPPING: 'fenced',
  UNKNOWN_MEMBER_ID: 'evicted',
  ILLEGAL_GENERATION: 'evicted',
  REBALANCE_IN_PROGRESS: 'evicted',
  FENCED_INSTANCE_ID: 'evicted',
  UNKNOWN_TOPIC_OR_PARTITION: 'unknown-topic',
  MESSAGE_TOO_LARGE: 'too-large',
  RECORD_LIST_TOO_LARGE: 'too-large',
  OFFSET_OUT_OF_RANGE: 'out-of-range',
  UNSUPPORTED_VERSION: 'unsupported-version',
  UNSUPPORTED_FOR_MESSAGE_FORMAT: 'unsupported-version',
  UNSUPPORTED_COMPRESSION_TYPE: 'unsupported-codec',
  SASL_AUTHENTICATION_FAILED: 'authentication',
  UNSUPPORTED_SASL_MECHANISM: 'authentication',
  ILLEGAL_SASL_STATE: 'authentication',
  INVALID_TOPIC_EXCEPTION: 'invalid',
  INVALID_PARTITIONS: 'invalid',
  INVALID_REPLICATION_FACTOR: 'invalid',
  INVALID_REPLICA_ASSIGNMENT: 'invalid',
  INVALID_CONFIG: 'invalid',
  INVALID_REQUEST: 'invalid',
  POLICY_VIOLATION: 'invalid',
  INVALID_SESSION_TIMEOUT: 'invalid',
  INVALID_TRANSACTION_TIMEOUT: 'invalid',
}

/** Errors of node's TLS: OpenSSL's codes, and the checks of names and authorities. */
const isTls = (code: string, message: string): boolean =>
  /^(ERR_SSL|ERR_TLS|ERR_OSSL|EPROTO|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/.test(code) ||
  /certificate|ssl routines|wrong version number|altnames|secure TLS connection/i.test(message)

const causesOf = (error: unknown): readonly KafkajsError[] => {
  const chain: KafkajsError[] = []
  for (let at: unknown = error; at instanceof Error && chain.length < 8; ) {
    const one: KafkajsError = at
    chain.push(one)
    at = one.cause ?? one.originalError ?? one.errors?.[0]
  }
  return chain
}

const kindOf = (error: KafkajsError): KafkaFaultKind | undefined => {
  const { name, type = '', message } = error
  const code = String(error.code ?? '')
  if (type.endsWith('AUTHORIZATION_FAILED')) return 'not-authorized'
  if (Object.hasOwn(kinds, type)) return kinds[type]
  if (code === '90') return 'fenced' // PRODUCER_FENCED, newer than kafkajs
  if (isTls(code, message)) return 'tls'
  if (name === 'KafkaJSSASLAuthenticationError') return 'authentication'
  if (name === 'KafkaJSServerDoesNotSupportApiKey') return 'unsupported-version'
  if (name === 'KafkaJSProtocolError' || type !== '') return 'unavailable'
  if (/^(ECONN|ENOTFOUND|EHOST|ENET|ETIMEDOUT|EPIPE|EAI_)/.test(code)) return 'unreachable'
  if (name.startsWith('KafkaJSConnection') || name === 'KafkaJSRequestTimeoutError' || name === 'KafkaJSNoBrokerAvailableError') return 'unreachable'
  if (name === 'KafkaJSBrokerNotFound' || name.endsWith('NotLoaded') || name.includes('Timeout') || name === 'KafkaJSGroupCoordinatorNotFound')
    return 'unavailable'
  return undefined
}

/** The fault that an error is; errors of our own pass, and so do bugs (TypeError and the like). */
export const faultOf = (error: unknown, about?: string): unknown => {
  if (error instanceof KafkaFault) return error
  const chain = causesOf(error)
  const resource = chain.find((one) => one.resource !== undefined)?.resource ?? about
  // The innermost one knows best: outside are "number of retries exceeded" and the like.
  for (const one of chain.toReversed()) {
    const kind = kindOf(one)
    if (kind === undefined) continue
    const words = [...new Set(chain.map(({ message }) => message))].at(-1) ?? one.message
    return new KafkaFault(kind, resource === undefined ? words : `${resource}: ${words}`, { resource, cause: error })
  }
  const outer = chain[0]
  if (outer !== undefined && outer.name.startsWith('KafkaJS')) return new KafkaFault('unavailable', outer.message, { resource, cause: error })
  return error
}

/** Runs a work whose errors become faults. */
export const withFaults = async <Result>(resource: string | undefined, work: () => Promise<Result>): Promise<Result> => {
  try {
    return await work()
  } catch (error) {
    throw faultOf(error, resource)
  }
}
