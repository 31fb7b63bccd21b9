/** @file Faults of a cluster in the user's words, and waiting for those that may pass. */
import { TransientError, UserError } from '../../base/index.js'
import { KafkaFault, isFault } from './client.js'

/** How long a fault that may pass is waited for before it ends the work, ms: a broker that restarts takes 10 to 30 s. */
export const PATIENCE_MS = 60_000
const PAUSE_FIRST_MS = 100
const PAUSE_MS_MAX = 2_000

/** Time, as the log sees it; tests have their own. */
export interface Clock {
  readonly nowMs: () => number
  /** Resolves after so long, or at once when the signal is aborted. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>
  /** In [0, 1): keeps two who collide from colliding again. */
  readonly random: () => number
}

/** Tries again while no broker answers or none can serve it. For what does no harm when it is done twice. */
export const patiently = async <T>({ nowMs, sleep }: Clock, action: () => Promise<T>): Promise<T> => {
  const startedMs = nowMs()
  for (let pauseMs = PAUSE_FIRST_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
    try {
      return await action()
    } catch (error) {
      if (!isFault(error, 'unreachable', 'unavailable') || nowMs() - startedMs > PATIENCE_MS) throw error
      await sleep(pauseMs)
    }
  }
}

/** What an action throws, as the errors of a log. @param cluster as the user named it */
export const guarded = async <T>(cluster: string, action: () => Promise<T>): Promise<T> => {
  try {
    return await action()
  } catch (error) {
    throw explained(error, cluster)
  }
}

/** A fault as a UserError with its fix, or as a TransientError; anything else as it is. */
export const explained = (error: unknown, cluster: string): unknown => {
  if (!(error instanceof KafkaFault)) return error
  const on = error.resource === undefined ? '' : ` ("${error.resource}")`
  const user = (what: string, fix: string): UserError => new UserError(`${what}: ${error.message}`, { cause: error, fix })
  switch (error.kind) {
    case 'unreachable':
      return user(`no broker of ${cluster} answers`, /clos/i.test(error.message)
        ? 'if that port wants TLS or credentials: kafka: {tls, sasl, username} in the run file and TRIBUTARY_KAFKA_PASSWORD; else look at the broker'
        : 'start the broker, or mend the addresses in --log')
    case 'unavailable':
      return user(`the cluster at ${cluster} cannot serve this now${on}`, 'look at the brokers: a leader or replicas are missing; then start again')
    case 'tls':
      return user(`${cluster} refuses TLS, or speaks none`, /certificate required|bad certificate/i.test(error.message)
        ? 'kafka: {cert, key} in the run file: this port wants a certificate of the client'
        : /altnames/i.test(error.message)
          ? 'kafka: {servername: NAME} in the run file: what the certificate names, if that is the broker'
        : /verify|self.signed|authority/i.test(error.message)
          ? "kafka: {ca: FILE} in the run file: the authority that signed the broker's certificate"
          : 'kafka: {tls, ca, cert, key} in the run file, and the port of the TLS listener')
    case 'authentication':
      return user(`${cluster} refuses the credentials`, /SASL state/i.test(error.message)
        ? 'leave out kafka: {sasl, username}, or name the port of its SASL listener: this one takes no credentials'
        : 'mend kafka: {sasl, username} in the run file, and TRIBUTARY_KAFKA_PASSWORD')
    case 'not-authorized':
      return user(`these credentials may not do this at ${cluster}${on}`, `${aclFix(error)} (docs/kafka.md lists all ACLs)`)
    case 'unknown-topic':
      return user(`${cluster} has no topic${on}`, 'tributary topics apply; if it was deleted under a run, what was in it is lost: tributary reset --run NAME, then score again')
    case 'too-large':
      return user(`a record is larger than ${cluster} takes${on}`, 'tributary topics apply (it sets max.message.bytes), or smaller documents')
    case 'unsupported-version':
      return user(`the broker at ${cluster} lacks what is needed`, 'a broker of Kafka 2.5 or newer')
    case 'unsupported-codec':
      return user(`records at ${cluster}${on} are compressed in a way that cannot be read here`, 'produce them uncompressed or with gzip: compression.type on producer or topic')
    case 'invalid':
      return user(`${cluster} refuses the declaration of a topic${on}`, 'mend replication factor or configuration, then: tributary topics apply')
    case 'fenced':
    case 'unknown-outcome':
    case 'evicted':
      return new TransientError(`${cluster}: ${error.message}`, { cause: error })
    case 'out-of-range':
    case 'closed':
      return error
    default:
      return error.kind satisfies never
  }
}

/** What an ACL is missing on, in the words of the protocol's errors (29, 30, 53, 31). */
const aclFix = ({ message, resource = '' }: KafkaFault): string =>
  /Transactional Id authorization/.test(message) ? `allow Describe and Write on transactional id "${resource}"`
    : /Group authorization/.test(message) ? `allow Describe and Read on group "${resource}"`
      : /Topic authorization/.test(message) ? `allow Describe, Read and Write on topic "${resource}"`
        : 'allow what this command does'
