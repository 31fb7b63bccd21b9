/**
 * @file A real broker for the tests of one file: KAFKA_BROKERS if it is set (and nothing is asked that needs a broker of
 * our own), else a container where a Docker engine answers, else the local JVM. Without any of them the tests are
 * skipped and say why; with CI=true that is a failure.
 *
 *     await withBroker('kafkajs', {}, (broker) => {
 *       test('...', async () => { await connect(broker.plaintext) })
 *     })
 */
import { after, describe, test } from 'node:test'
import { freePorts } from '../../free-ports.js'
import { newAuthority, type Authority } from './broker/certificates.js'
import type { ListenerPorts } from './broker/config.js'
import { dockerNode } from './broker/docker.js'
import { jvmNode, newClusterId, type Node } from './broker/jvm.js'

export { USERS } from './broker/config.js'

export interface BrokerNeeds {
  /** The test kills, pauses and restarts it. */
  readonly kill?: boolean
  /** Listeners with SASL and TLS, users (USERS), ACLs, certificates. */
  readonly secure?: boolean
  /** What the certificate of a secure broker names; by default what it is reached by. */
  readonly hosts?: readonly string[]
  /** Settings of the broker. */
  readonly overrides?: Readonly<Record<string, string>>
  readonly jit?: 'quick' | 'full'
  /** A second plain listener, which tells its clients that the broker is at this port of 127.0.0.1: that of a proxy. */
  readonly proxy?: number
}

export interface TestBroker {
  /** 'host:port' each. The plain listener is that of a superuser. */
  readonly plaintext: string
  readonly sasl: string
  readonly saslTls: string
  /** Clients need a certificate here: `CN=writer` is a superuser, other names may do nothing. */
  readonly tls: string
  /** Where the proxy of `proxy` finds the broker. */
  readonly proxied: string
  /** Who signed the broker's certificate, and may sign clients'. */
  readonly authority: Authority | undefined
  /** What it is, for messages: a container, the JVM, KAFKA_BROKERS. */
  readonly kind: string
  kill(): Promise<void>
  pause(): void
  resume(): void
  /** After `kill`: on the same ports and data. */
  restart(): Promise<void>
  dispose(): Promise<void>
}

/** Why there is no broker. */
export class NoBroker extends Error {
  override readonly name = 'NoBroker'
}

const external = (addresses: string): TestBroker => {
  const no = (): never => {
    throw new NoBroker('the broker of KAFKA_BROKERS is not ours to stop')
  }
  return {
    plaintext: addresses, sasl: '', saslTls: '', tls: '', proxied: '', authority: undefined, kind: `KAFKA_BROKERS=${addresses}`,
    kill: no, pause: no, resume: no, restart: no, dispose: async () => {},
  }
}

/** Starts a broker. Rejects with NoBroker, which says what was tried. */
export const startBroker = async ({ kill = false, secure = false, hosts = ['localhost', '127.0.0.1'], overrides, jit, proxy }: BrokerNeeds = {}): Promise<TestBroker> => {
  const given = process.env.KAFKA_BROKERS ?? ''
  if (given !== '' && !kill && !secure && overrides === undefined && proxy === undefined) return external(given)
  const tried: string[] = []
  for (const [kind, make] of [['a container', dockerNode], ['the JVM', jvmNode]] as const)
    // A port that was free may be taken before the broker has it: once more, with others.
    for (let attempt = 0; attempt < (kind === 'the JVM' ? 2 : 1); attempt++) {
      const [plaintext, controller, sasl, saslTls, tls, proxied] = await freePorts(6)
      const authority = secure ? newAuthority('tributary tests') : undefined
      const server = authority?.issue('broker', { hosts })
      const tlsFiles: Record<string, string> = authority === undefined || server === undefined ? {}
        : { 'ca.pem': authority.certificate, 'server.pem': `${server.key}${server.certificate}` }
      const ports: ListenerPorts = {
        plaintext, controller, ...(secure ? { sasl, saslTls, tls } : {}), ...(proxy === undefined ? {} : { proxied: { port: proxied, proxy } }),
      }
      let node: Node
      try {
        node = await make({ ports, tlsFiles, overrides, jit })
      } catch (error) {
        tried.push(`${kind}: ${error instanceof Error ? error.message : String(error)}`)
        continue
      }
      const at = (port: number): string => `127.0.0.1:${port}`
      return {
        plaintext: at(plaintext), sasl: at(sasl), saslTls: at(saslTls), tls: at(tls), proxied: at(proxied), authority, kind,
        kill: node.kill, pause: node.pause, resume: node.resume, restart: node.start, dispose: node.dispose,
      }
    }
  throw new NoBroker(`no Kafka broker: set KAFKA_BROKERS, or start Docker, or install Java 17 and Maven. Tried ${tried.join('; ')}`)
}

export interface TestNode {
  readonly id: number
  kill(): Promise<void>
  /** After `kill`: on the same ports and data. */
  restart(): Promise<void>
}

/** Brokers that are controllers too: any of them may be killed. Topics of the cluster's own have three replicas, two in sync. */
export interface TestCluster {
  /** 'host:port' each. */
  readonly addresses: readonly string[]
  readonly nodes: readonly TestNode[]
  readonly kind: string
  dispose(): Promise<void>
}

const clusterNodes = 3

/** Three brokers on the local JVM. Rejects with NoBroker. */
const startCluster = async (): Promise<TestCluster> => {
  const tried: string[] = []
  for (let attempt = 0; attempt < 2; attempt++) {
    const ports = await freePorts(2 * clusterNodes)
    const [plain, controllers] = [ports.slice(0, clusterNodes), ports.slice(clusterNodes)]
    const clusterId = newClusterId()
    // Beside two more of its kind on few cores a node that lives may be silent for longer than one alone.
    const overrides = { 'broker.session.timeout.ms': '3000' }
    const started = await Promise.allSettled(plain.map((plaintext, i) =>
      jvmNode({ ports: { plaintext, controller: controllers[i] }, place: { clusterId, node: i + 1, controllers }, tlsFiles: {}, overrides })))
    const nodes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const dispose = async (): Promise<void> => void await Promise.all(nodes.map((node) => node.dispose()))
    if (nodes.length === clusterNodes)
      return {
        addresses: plain.map((port) => `127.0.0.1:${port}`), kind: `${clusterNodes} of the JVM`, dispose,
        nodes: nodes.map(({ kill, start }, i) => ({ id: i + 1, kill, restart: start })),
      }
    await dispose()
    tried.push(...started.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : [])))
  }
  throw new NoBroker(`no Kafka cluster: install Java 17 and Maven. Tried ${tried.join('; ')}`)
}

/**
 * Starts a broker and registers tests that share it; it is ended after them. Where none can be had there is one test in
 * their stead, skipped with the reason, or failed where CI=true.
 */
export const withBroker = (name: string, needs: BrokerNeeds, tests: (broker: TestBroker) => void): Promise<void> =>
  withStarted(name, () => startBroker(needs), tests)

/** `withBroker` with a cluster of three. */
export const withCluster = (name: string, tests: (cluster: TestCluster) => void): Promise<void> => withStarted(name, startCluster, tests)

const withStarted = async <Started extends { readonly kind: string; dispose(): Promise<void> }>(
  name: string, start: () => Promise<Started>, tests: (started: Started) => void,
): Promise<void> => {
  const found = await start().catch((error: unknown) => {
    if (error instanceof NoBroker) return error
    throw error
  })
  if (found instanceof NoBroker) {
    if (process.env.CI === 'true') test(name, () => Promise.reject(found))
    else test(name, { skip: found.message }, () => {})
    return
  }
  describe(`${name} (broker: ${found.kind})`, () => {
    after(() => found.dispose(), { timeout: 60_000 })
    tests(found)
  })
}
