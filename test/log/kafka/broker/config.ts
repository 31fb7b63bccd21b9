/**
 * @file server.properties of a broker for tests: one node, alone or of several, that is broker and controller (KRaft), small,
 * quick to start and quick to come back after it was killed.
 */

export interface ListenerPorts {
  readonly plaintext: number
  readonly controller: number
  /** SASL without and with TLS, TLS alone; only of a broker made with `secure`. */
  readonly sasl?: number
  readonly saslTls?: number
  readonly tls?: number
  /** A plain listener that clients are told to reach at another port, a proxy's. */
  readonly proxied?: { readonly port: number; readonly proxy: number }
}

/** Users of a secure broker: `writer` may do everything, the others what they are given. */
export const USERS = { writer: 'writer-secret', worker: 'worker-secret', stranger: 'stranger-secret' } as const

const plainUsers = Object.entries(USERS).map(([user, password]) => `user_${user}="${password}"`).join(' ')

const saslLines = (listener: string): readonly string[] => [
  `listener.name.${listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512`,
  `listener.name.${listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required ${plainUsers};`,
  ...['256', '512'].map((bits) =>
    `listener.name.${listener}.scram-sha-${bits}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;`),
]

/** A node of a cluster of several. */
export interface Place {
  readonly clusterId: string
  /** From 1. */
  readonly node: number
  /** Ports of the controllers of nodes 1, 2, ... */
  readonly controllers: readonly number[]
}

export interface ServerOptions {
  readonly ports: ListenerPorts
  /** Absent: it is a cluster of its own. */
  readonly place?: Place
  /** Absolute, as the broker sees them. */
  readonly dataFolder: string
  readonly tlsFolder: string
  /** What to listen on: 127.0.0.1, or 0.0.0.0 inside a container. */
  readonly bind: string
  /** More or other settings. */
  readonly overrides?: Readonly<Record<string, string>>
}

export const serverProperties = ({ ports, place, dataFolder, tlsFolder, bind, overrides = {} }: ServerOptions): string => {
  const controllers = place?.controllers ?? [ports.controller]
  const replicas = Math.min(3, controllers.length)
  const insync = Math.max(1, replicas - 1)
  const listeners = [
    { name: 'PLAINTEXT', protocol: 'PLAINTEXT', port: ports.plaintext, advertised: ports.plaintext },
    { name: 'PROXIED', protocol: 'PLAINTEXT', port: ports.proxied?.port, advertised: ports.proxied?.proxy },
    { name: 'SASL', protocol: 'SASL_PLAINTEXT', port: ports.sasl, advertised: ports.sasl },
    { name: 'SASLTLS', protocol: 'SASL_SSL', port: ports.saslTls, advertised: ports.saslTls },
    { name: 'TLS', protocol: 'SSL', port: ports.tls, advertised: ports.tls },
  ].filter(({ port }) => port !== undefined)
  const lines = [
    'process.roles=broker,controller',
    `node.id=${place?.node ?? 1}`,
    `controller.quorum.voters=${controllers.map((port, i) => `${i + 1}@127.0.0.1:${port}`).join()}`,
    'controller.listener.names=CONTROLLER',
    `listeners=${[...listeners.map(({ name, port }) => `${name}://${bind}:${port}`), `CONTROLLER://127.0.0.1:${ports.controller}`].join()}`,
    `advertised.listeners=${listeners.map(({ name, advertised }) => `${name}://127.0.0.1:${advertised}`).join()}`,
    'inter.broker.listener.name=PLAINTEXT',
    `listener.security.protocol.map=${['CONTROLLER:PLAINTEXT', ...listeners.map(({ name, protocol }) => `${name}:${protocol}`)].join()}`,
    `log.dirs=${dataFolder}`,
    'auto.create.topics.enable=false',
    `min.insync.replicas=${insync}`,
    `offsets.topic.replication.factor=${replicas}`,
    'offsets.topic.num.partitions=1',
    `transaction.state.log.replication.factor=${replicas}`,
    `transaction.state.log.min.isr=${insync}`,
    'transaction.state.log.num.partitions=1',
    'group.initial.rebalance.delay.ms=0',
    'group.min.session.timeout.ms=1000',
    'log.cleaner.backoff.ms=1000',
    'log.cleaner.dedupe.buffer.size=4194304', // 128 MiB of the heap by default
    'broker.session.timeout.ms=2000', // after SIGKILL the node waits out its old session
    'broker.heartbeat.interval.ms=500',
    'num.network.threads=2',
    'num.io.threads=2',
    'background.threads=2',
  ]
  if (ports.tls !== undefined)
    lines.push(
      ...saslLines('sasl'), ...saslLines('sasltls'),
      'ssl.keystore.type=PEM', `ssl.keystore.location=${tlsFolder}/server.pem`,
      'ssl.truststore.type=PEM', `ssl.truststore.location=${tlsFolder}/ca.pem`,
      'ssl.client.auth=none',
      'listener.name.tls.ssl.client.auth=required',
      'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer',
      'super.users=User:ANONYMOUS;User:writer;User:CN=writer',
    )
  for (const [name, value] of Object.entries(overrides)) lines.push(`${name}=${value}`)
  return `${lines.join('\n')}\n`
}

/** Arguments of StorageTool's `format`. */
export const formatArguments = (clusterId: string, properties: string, secure: boolean): readonly string[] => [
  'format', '-t', clusterId, '-c', properties,
  ...(secure ? Object.entries(USERS) : []).flatMap(([user, password]) => ['256', '512'].flatMap((bits) =>
    ['--add-scram', `SCRAM-SHA-${bits}=[name=${user},password=${password}]`])),
]

/** Warnings, and the one line that says that the broker is there. */
export const log4jProperties = `
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%p %c: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=info
`

/** What the broker prints when it takes requests. */
export const STARTED = 'Kafka Server started'
