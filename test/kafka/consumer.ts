/**
 * @file A consumer that is not ours, reading committed: kcat (librdkafka) where it is installed, else Kafka's own console
 * consumer from the broker's jars.
 */
import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { brokerJars } from '../log/kafka/broker/jars.js'

export interface Consumed {
  readonly partition: number
  readonly offset: number
  readonly key: string
  /** Null: a tombstone (the console consumer shows the text "null" for it). */
  readonly value: Buffer | null
}

const msMax = 90_000

const output = (command: string, args: readonly string[]): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: msMax, killSignal: 'SIGKILL' })
    const parts: Buffer[] = []
    let said = ''
    child.stdout.on('data', (part: Buffer) => parts.push(part))
    child.stderr.on('data', (part: Buffer) => (said += part.toString()))
    child.on('error', reject)
    child.on('close', (code, signal) => (code === 0 ? resolve(Buffer.concat(parts)) : reject(new Error(`${command} ended with ${code ?? signal}: ${said}`))))
  })

const kcat = async (brokers: string, topic: string): Promise<readonly Consumed[]> => {
  const out = await output('kcat', [
    '-C', '-b', brokers, '-t', topic, '-o', 'beginning', '-e', '-q', '-X', 'isolation.level=read_committed', '-f', '%p %o %K %S\\n%k%s',
  ])
  const found: Consumed[] = []
  for (let at = 0; at < out.length; ) {
    const line = out.indexOf(10, at)
    const [partition, offset, keyBytes, valueBytes] = out.subarray(at, line).toString('latin1').split(' ').map(Number)
    const value = line + 1 + Math.max(0, keyBytes)
    at = value + Math.max(0, valueBytes)
    found.push({ partition, offset, key: out.subarray(line + 1, value).toString('utf8'), value: valueBytes < 0 ? null : out.subarray(value, at) })
  }
  return found
}

const consoleConsumer = async (brokers: string, topic: string): Promise<readonly Consumed[]> => {
  const [field, end] = [randomUUID(), randomUUID()]
  const properties = { 'print.partition': true, 'print.offset': true, 'print.key': true, 'key.separator': field, 'line.separator': end }
  const out = await output('java', [
    '-Xmx200m', '-XX:TieredStopAtLevel=1', '-cp', join(await brokerJars(), '*'), 'org.apache.kafka.tools.consumer.ConsoleConsumer',
    '--bootstrap-server', brokers, '--topic', topic, '--from-beginning', '--isolation-level', 'read_committed', '--timeout-ms', '10000',
    ...Object.entries(properties).flatMap(([name, value]) => ['--formatter-property', `${name}=${value}`]),
  ])
  const split = (bytes: Buffer, separator: string): Buffer[] => {
    const parts: Buffer[] = []
    let at = 0
    for (let next; (next = bytes.indexOf(separator, at)) >= 0; at = next + separator.length) parts.push(bytes.subarray(at, next))
    return [...parts, bytes.subarray(at)]
  }
  return split(out, end).slice(0, -1).map((record) => {
    const [partition, offset, key, value] = split(record, field)
    const number = (text: Buffer): number => Number(text.toString().replace(/^\w+:/, ''))
    return { partition: number(partition), offset: number(offset), key: key.toString('utf8'), value: value.toString('latin1') === 'null' ? null : value }
  })
}

export const consumers = { kcat, 'console consumer': consoleConsumer } as const
const hasKcat = spawnSync('kcat', ['-V'], { stdio: 'ignore' }).status === 0
/** All records of a topic that are committed, tombstones included. */
export const consume = hasKcat ? kcat : consoleConsumer
export const consumerName = hasKcat ? 'kcat' : 'the console consumer'
