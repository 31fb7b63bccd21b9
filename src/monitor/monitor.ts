/** @file A work under observation: its metrics, its health, its lag. One a process; nothing here is global. */
import { Registry } from 'prom-client'
import { runId } from '../base/index.js'
import type { Log } from '../log/index.js'
import { observers, silentObserver, type Observer } from '../pipeline/observer.js'
import { HealthObserver, type Health } from './health.js'
import { makeMetrics } from './metrics.js'
import { metricsObserver, type Work } from './metrics-observer.js'

/** Without any progress for so long a worker counts as stalled: longer than a batch, a commit or a rebalance takes. */
const stallMsDefault = 5 * 60_000
/** The log is asked for its ends no more often than this, and given so long to answer. */
const lagEveryMs = 1000
const lagMsMax = 2000

export interface MonitorOptions {
  readonly work: Work
  readonly versions: Readonly<Record<'version' | 'node' | 'onnxruntime', string>>
  readonly stallMs?: number
  /** Milliseconds, never backwards. */
  readonly clock?: () => number
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

export interface Monitor {
  /** For the pipeline. */
  readonly observer: Observer
  readonly registry: Registry
  /** From now on lag is read from this log, for the partitions that are assigned. */
  watch(log: Pick<Log, 'describe' | 'positions'>): void
  /** The work is over: done, or in an error. After it resolves the log is asked nothing more and may be closed. */
  ended(error?: unknown): Promise<void>
  health(): Promise<Health>
  /** The text format of Prometheus, and what HTTP calls it. */
  metrics(): Promise<{ readonly text: string; readonly contentType: string }>
}

export const monitor = ({ work, versions, stallMs = stallMsDefault, clock = () => performance.now(), now = Date.now }: MonitorOptions): Monitor => {
  const registry = new Registry()
  const metrics = makeMetrics(registry)
  const counted = metricsObserver(metrics, work, { clock, now })
  const health = new HealthObserver({ clock, stallMs })
  const owned = new Set<number>()
  const own: Partial<Observer> = { assigned: (partition) => void owned.add(partition), lost: (partition) => void owned.delete(partition) }
  let log: Pick<Log, 'describe' | 'positions'> | undefined
  let lagMs = -Infinity
  let lags: Promise<ReadonlyMap<number, number> | null> = Promise.resolve(null)
  metrics.build.set({ ...versions }, 1)

  /** Lag by partition; null where nothing is known of it. Asked for again only when the last answer has grown old. */
  const readLag = (): Promise<ReadonlyMap<number, number> | null> => {
    if (log === undefined || owned.size === 0) return Promise.resolve(null)
    if (clock() - lagMs < lagEveryMs) return lags
    lagMs = clock()
    lags = within(lagMsMax, lagOf(log, work.run, owned))
    return lags
  }
  const readHealth = async (): Promise<Health> => {
    const lag = await readLag()
    return health.read(lag === null ? null : [...lag.values()].reduce((sum, records) => sum + records, 0))
  }
  return {
    observer: observers(counted.observer, health.observer, { ...silentObserver, ...own }),
    registry,
    watch: (watched) => {
      log = watched
    },
    ended: async (error) => {
      log = undefined
      health.ended(error)
      await lags
    },
    health: readHealth,
    metrics: async () => {
      const labels = { pipeline: work.pipeline, run: work.run }
      counted.collect()
      for (const [partition, records] of (await readLag()) ?? []) metrics.lag.set({ run: work.run, partition: String(partition) }, records)
      const { healthy } = await readHealth()
      metrics.healthy.set(labels, healthy ? 1 : 0)
      metrics.progressed.set(labels, (now() - health.quietMs) / 1000)
      return { text: await registry.metrics(), contentType: registry.contentType }
    },
  }
}

const lagOf = async (log: Pick<Log, 'describe' | 'positions'>, run: string, owned: ReadonlySet<number>): Promise<ReadonlyMap<number, number>> => {
  const ends = (await log.describe()).find(({ topic }) => topic === 'documents')?.ends ?? []
  const positions = await log.positions(runId(run))
  return new Map([...owned].map((partition) => [partition, Math.max(0, (ends[partition] ?? 0) - (positions[partition]?.offset ?? 0))]))
}

/** A promise, or null if it fails or takes longer: a scrape does not wait for a log that is away. */
const within = async <T>(ms: number, promise: Promise<T>): Promise<T | null> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms)
    timer.unref()
  })
  try {
    return await Promise.race([promise.catch(() => null), late])
  } finally {
    clearTimeout(timer)
  }
}
