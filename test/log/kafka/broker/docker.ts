/**
 * @file A broker in a container, through testcontainers, where a Docker engine answers. The same settings as on the JVM.
 * testcontainers' own reaper removes it when the process ends.
 */
import { newClusterId, type NodeOptions, type Node } from './jvm.js'
import { STARTED, formatArguments, log4jProperties, serverProperties } from './config.js'
import { BROKER_VERSION } from './jars.js'

const startMsMax = 120_000

/** Rejects where no engine answers. */
export const dockerNode = async ({ ports, tlsFiles, overrides }: NodeOptions): Promise<Node> => {
  const { GenericContainer, Wait, getContainerRuntimeClient } = await import('testcontainers')
  const runtime = await getContainerRuntimeClient()
  const folder = '/tmp/tributary'
  const properties = `${folder}/server.properties`
  const format = formatArguments(newClusterId(), properties, ports.tls !== undefined).map((word) => `'${word}'`).join(' ')
  const published = [ports.plaintext, ports.proxied?.port, ports.sasl, ports.saslTls, ports.tls].filter((port) => port !== undefined)
  const container = await new GenericContainer(`apache/kafka:${BROKER_VERSION}`)
    .withExposedPorts(...published.map((port) => ({ container: port, host: port })))
    .withEnvironment({ KAFKA_HEAP_OPTS: '-Xmx400m -Xms128m', KAFKA_LOG4J_OPTS: `-Dlog4j2.configurationFile=${folder}/log4j2.properties` })
    .withCopyContentToContainer([
      { target: properties, content: serverProperties({ ports, overrides, bind: '0.0.0.0', dataFolder: '/tmp/data', tlsFolder: folder }) },
      { target: `${folder}/log4j2.properties`, content: log4jProperties },
      ...Object.entries(tlsFiles).map(([name, content]) => ({ target: `${folder}/${name}`, content })),
    ])
    .withEntrypoint(['sh', '-c'])
    .withCommand([
      `[ -d /tmp/data ] || /opt/kafka/bin/kafka-storage.sh ${format}; exec /opt/kafka/bin/kafka-server-start.sh ${properties}`,
    ])
    .withWaitStrategy(Wait.forLogMessage(STARTED))
    .withStartupTimeout(startMsMax)
    .start()
  const handle = runtime.container.getById(container.getId())
  return {
    kill: () => handle.kill({ signal: 'SIGKILL' }).then(() => undefined),
    start: async () => {
      const since = Math.floor(Date.now() / 1000)
      await handle.start()
      for (const endMs = Date.now() + startMsMax; ; await new Promise((resolve) => setTimeout(resolve, 200))) {
        const logs = await handle.logs({ stdout: true, stderr: true, since })
        if (logs.toString('utf8').includes(STARTED)) return
        if (Date.now() > endMs) throw new Error('the broker did not come back')
      }
    },
    pause: () => void handle.pause(),
    resume: () => void handle.unpause(),
    dispose: () => container.stop({ timeout: 0 }).then(() => undefined),
  }
}
