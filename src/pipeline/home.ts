/**
 * @file A home, the folder that holds artifacts and the embedded log, and where each of them lies in it; and the log,
 * wherever the settings say that it is. Whoever opens a log opens it here.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../base/index.js'
import { embeddedLog, type Log } from '../log/index.js'
import { globalSettings, kafkaAccess, type GlobalSettings, type KafkaAccess } from '../settings/index.js'

/** Where things lie in a home. */
export const homePaths = (home: string): { readonly log: string; readonly factors: string; readonly queryCache: string } => ({
  log: join(home, 'log'),
  /** One folder per factor set. */
  factors: join(home, 'factors'),
  queryCache: join(home, 'query-cache'),
})

/**
 * Opens the log that the settings name, with its topics. The home is made if it is not there.
 * @param settings what is not given has the command line's defaults
 * @param options.partitions of `documents`, where it is made now
 * @throws UserError if the home cannot be made or its log not be opened, if the cluster does not answer, or if
 *   `documents` has another number of partitions
 */
export const openLog = async (settings: Partial<GlobalSettings> = {}, { partitions }: { readonly partitions?: number } = {}): Promise<Log> => {
  const complete = globalSettings(settings)
  const { home } = complete
  try {
    mkdirSync(home, { recursive: true })
  } catch (cause) {
    throw new UserError(`the home "${home}" cannot be made: ${(cause as Error).message}`, { cause, fix: 'another --home DIR' })
  }
  const access = kafkaAccess(complete)
  const log = access === undefined ? await embeddedLog(homePaths(home).log) : await onKafka(access, { home, readonly: false })
  try {
    await log.ensureTopics(partitions === undefined ? {} : { partitions })
    return log
  } catch (error) {
    await log[Symbol.asyncDispose]()
    throw error
  }
}

/** Opens the log that the settings name for reading only. @throws UserError if there is none */
export const openLogForReading = async (settings: Partial<GlobalSettings> = {}): Promise<Log> => {
  const complete = globalSettings(settings)
  const { home } = complete
  const access = kafkaAccess(complete)
  if (access !== undefined) return onKafka(access, { home, readonly: true })
  if (!existsSync(home) || !statSync(home).isDirectory())
    throw new UserError(`there is no home at "${home}"`, { fix: 'tributary ingest PATH... (or another --home DIR)' })
  return embeddedLog(homePaths(home).log, { readonly: true })
}

/** Neither the client nor its protocol is loaded where the log is embedded. */
const onKafka = async (
  { brokers, tls, sasl, schemaRegistry, prefix, sessionMs }: KafkaAccess, { home, readonly }: { readonly home: string; readonly readonly: boolean },
): Promise<Log> => {
  const [{ guarded, kafkaLog }, { kafkajsClient }, { SchemaRegistry, wireFormat }] = await Promise.all([
    import('../log/kafka/index.js'), import('../log/kafka/kafkajs.js'), import('../log/registry/index.js'),
  ])
  const client = kafkajsClient({ brokers, tls, sasl, sessionMs })
  const cluster = `kafka://${brokers.join(',')}`
  // A worker waits for a broker that is not there yet; whoever only looks is told at once.
  if (readonly)
    try {
      await guarded(cluster, () => client.admin.topics([]))
    } catch (error) {
      await client[Symbol.asyncDispose]()
      throw error
    }
  return await kafkaLog(client, {
    cluster,
    prefix,
    readonly,
    leases: home,
    ...(schemaRegistry === null ? {} : { codecs: (schemas) => wireFormat(new SchemaRegistry(schemaRegistry), schemas) }),
  })
}
