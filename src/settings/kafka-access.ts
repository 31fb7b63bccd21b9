/** @file How a cluster is reached, as its settings say it: brokers, TLS, SASL, schema registry. */
import { readFileSync } from 'node:fs'
import type { GlobalSettings, SaslMechanism } from './settings.js'
import { UsageError } from './usage-error.js'

/** What a client needs to connect. Holds a password: never print it, never record it. */
export interface KafkaAccess {
  /** host:port each. */
  readonly brokers: readonly string[]
  /** PEM texts; null: plaintext. */
  readonly tls: { readonly ca: string | null; readonly cert: string | null; readonly key: string | null; readonly servername?: string } | null
  readonly sasl: { readonly mechanism: SaslMechanism; readonly username: string; readonly password: string } | null
  readonly schemaRegistry: string | null
  /** Before every name on the cluster. */
  readonly prefix: string
  /** A worker that was not heard of for so long loses its partitions. */
  readonly sessionMs: number
}

const portDefault = 9092

/**
 * What `--log kafka://...` and the section `kafka` come to; undefined for the embedded log.
 * @throws UsageError for files that cannot be read, and for half of a credential
 */
export const kafkaAccess = (settings: GlobalSettings): KafkaAccess | undefined => {
  const { log, kafkaTls, kafkaCa, kafkaCert, kafkaKey, kafkaServername, kafkaSasl, kafkaUsername, kafkaPassword, schemaRegistry } = settings
  if (!log.startsWith('kafka://')) return undefined
  const brokers = log.slice('kafka://'.length).split(',').map((broker) => (/:\d+$/.test(broker) ? broker : `${broker}:${portDefault}`))
  if ((kafkaCert === null) !== (kafkaKey === null))
    throw new UsageError(`the client's ${kafkaCert === null ? 'key is given without its certificate' : 'certificate is given without its key'}`, {
      fix: 'kafka: {cert: FILE, key: FILE} in the run file, or TRIBUTARY_KAFKA_CERT and TRIBUTARY_KAFKA_KEY',
    })
  const tls = kafkaTls || kafkaCa !== null || kafkaCert !== null || kafkaServername !== null
    ? { ca: pem('ca', kafkaCa), cert: pem('cert', kafkaCert), key: pem('key', kafkaKey), ...(kafkaServername === null ? {} : { servername: kafkaServername }) }
    : null
  return { brokers, tls, sasl: saslOf(kafkaSasl, kafkaUsername, kafkaPassword), schemaRegistry, prefix: settings.kafkaPrefix ?? '', sessionMs: settings.kafkaSessionTimeoutMs }
}

const saslOf = (mechanism: SaslMechanism | null, username: string | null, password: string | null): KafkaAccess['sasl'] => {
  if (mechanism === null && username === null && password === null) return null
  if (mechanism === null || username === null || password === null) {
    const missing = [mechanism === null ? 'sasl (the mechanism)' : '', username === null ? 'username' : '', password === null ? 'password' : '']
    throw new UsageError(`the cluster's credentials lack ${missing.filter((name) => name !== '').join(' and ')}`, {
      fix: 'kafka: {sasl: scram-sha-512, username: NAME} in the run file and TRIBUTARY_KAFKA_PASSWORD, or none of them',
    })
  }
  return { mechanism, username, password }
}

const pem = (name: string, path: string | null): string | null => {
  if (path === null) return null
  try {
    const text = readFileSync(path, 'utf8')
    if (text.includes('-----BEGIN ')) return text
  } catch (cause) {
    throw new UsageError(`kafka ${name}: "${path}" cannot be read: ${(cause as Error).message}`, { cause, fix: `the path of a PEM file` })
  }
  throw new UsageError(`kafka ${name}: "${path}" is no PEM file`, { fix: 'convert it with openssl to PEM' })
}
