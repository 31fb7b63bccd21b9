/** @file How the cluster is reached: addresses, TLS, SASL, and the bounds of time of every request. */
import { isIP } from 'node:net'
import { newCluster, type Cluster } from './internals.js'

/** What a client needs to connect. Holds a password: never print it. */
export interface KafkajsOptions {
  /** host:port each. */
  readonly brokers: readonly string[]
  readonly clientId?: string
  /** PEM texts; null: plaintext. `servername`: what the certificate must name, if not the host. */
  readonly tls?: { readonly ca: string | null; readonly cert: string | null; readonly key: string | null; readonly servername?: string } | null
  readonly sasl?: { readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; readonly username: string; readonly password: string } | null
  /** A member that was not heard of for so long is evicted. */
  readonly sessionMs?: number
  readonly heartbeatMs?: number
  /** How long a rebalance waits for members that do not come. */
  readonly rebalanceMs?: number
  /** An open transaction of a worker that died is aborted by the broker after this. */
  readonly transactionMs?: number
  /** Of one request. */
  readonly requestMs?: number
}

export interface Timings {
  readonly sessionMs: number
  readonly heartbeatMs: number
  readonly rebalanceMs: number
  readonly transactionMs: number
  readonly requestMs: number
}

/**
 * `transactionMs` bounds how long readers wait behind a worker that died in mid-transaction and does not come back; a
 * transaction takes well under a second.
 */
export const timingsOf = (options: KafkajsOptions): Timings => {
  const { sessionMs = 30_000, rebalanceMs = 30_000, transactionMs = 30_000, requestMs = 10_000 } = options
  return { sessionMs, rebalanceMs, transactionMs, requestMs, heartbeatMs: options.heartbeatMs ?? Math.min(1000, sessionMs / 6) }
}

const connectMs = 5_000

/** A cluster with connections of its own, so that what waits on one (a long fetch, a join) holds up nothing else. */
export const connect = (options: KafkajsOptions): Cluster => {
  const { brokers, clientId = 'tributary', tls = null, sasl = null } = options
  const host = brokers[0]?.replace(/:\d+$/, '') ?? ''
  return newCluster({
    brokers: [...brokers],
    clientId,
    ssl: tls === null ? undefined : {
      ca: tls.ca ?? undefined, cert: tls.cert ?? undefined, key: tls.key ?? undefined,
      // kafkajs names the host itself unless it is an address, which SNI does not take.
      ...(tls.servername === undefined ? {} : { servername: tls.servername }),
      ...(tls.servername === undefined && isIP(host) === 0 && brokers.length === 1 ? { servername: host } : {}),
    },
    sasl: sasl === null ? undefined : { mechanism: sasl.mechanism, username: sasl.username, password: sasl.password },
    connectionTimeout: connectMs,
    authenticationTimeout: 10_000,
    reauthenticationThreshold: 10_000,
    requestTimeout: timingsOf(options).requestMs,
    enforceRequestTimeout: true,
    metadataMaxAge: 300_000,
    retry: { retries: 3, initialRetryTime: 50, maxRetryTime: 1000 },
    allowAutoTopicCreation: false,
    maxInFlightRequests: null,
    isolationLevel: 1,
  })
}
