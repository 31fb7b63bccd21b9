/**
 * @file What others see of a work while it runs: metrics for Prometheus, health for whoever restarts it, logs. Knows
 * observers and the log's ends; pipelines do not know it. Law: watching changes nothing, and never keeps a work waiting.
 */
export { causeClass } from './causes.js'
export { ScoreDrift, type Drift } from './drift.js'
export { HealthObserver, type Health, type HealthOptions, type State } from './health.js'
export { levelOfDebug, logger, logLevels, type LogFormat, type LoggerOptions, type LogLevel } from './logger.js'
export { logObserver } from './log-observer.js'
export { makeMetrics, type Metrics } from './metrics.js'
export { metricsObserver, type Work } from './metrics-observer.js'
export { monitor, type Monitor, type MonitorOptions } from './monitor.js'
export { monitorRoutes } from './routes.js'
export { listen, type Address, type HttpServer } from './server.js'
