/**
 * @file What every folder may use: errors, ids, seeded chance, waiting. Knows nothing of the others.
 */
export { DeadLetterError, TransientError, UserError, type Stage } from './errors.js'
export { documentId, queryId, runId, type DocumentId, type QueryId, type RunId } from './ids.js'
export { packageRoot } from './package-root.js'
export { pause } from './pause.js'
export { normals, seedOf, uniformAt, uniforms } from './random.js'
export { traceOf } from './trace.js'
