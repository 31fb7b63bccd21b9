/**
 * @file The live page and its API, over HTTP. Knows the log, what pipelines read from it, and the page's files; knows no
 * engine: what must be computed is handed in (`explain`). The law it keeps: it only reads, everything it tells is in the
 * topics, and whatever a document holds is shown as text and never becomes code.
 */
export { apiRoutes, webApp, type AppOptions } from './app.js'
export { AnalysesDesk, type Analyse, type AnalysesResult } from './analyses-desk.js'
export { openApi } from './openapi.js'
export type { ApiParts, Explain, ExplainRequest, Explanation } from './parts.js'
export { startWebServer, type WebServer, type WebServerOptions } from './server.js'
export { LogWatch, type Changed, type RunProgress } from './watch.js'
