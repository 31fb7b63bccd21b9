/**
 * @file Influence functions: which layers are tracked, the gradients of a batch, EK-FAC factors, preconditioned query
 * gradients, and the joins of documents with queries. Knows tensors and models, nothing of topics, documents as text or
 * tables. Laws: a sequence's result does not depend on its batch (to rounding); influence is positive where training
 * on a document makes the completion more likely.
 */
export { basisInputs, basisTensors, blockBounds, rotate, type Basis } from './basis.js'
export { batchTensors, paddedLength, type Sequence } from './batch.js'
export { covarianceOf, covarianceProgram, covarianceShapes, type CovarianceShape } from './covariance.js'
export { boundBases, eigenvalueProgram, type Bases } from './eigenvalues.js'
export { documentTerms, explainProgram, tokenTerms, type ScoreTerms } from './explain-program.js'
export {
  completed, dampingOf, inputFile, layerFile, openFactors, readBasis, readManifest, strategyParts, writeBasis, writeEigenvalues, writeManifest,
  type Damping, type FactorManifest, type FactorSet, type LayerFactors, type Strategy,
} from './factors.js'
export { batchGradients, type BatchGradients, type LayerGradient } from './gradients.js'
export { documentsAtOnceMax, joinCost, joins, type Join, type JoinKind, type JoinShape } from './joins.js'
export { inputName, inputWidth, trackedLayers, trackedParameters } from './layers.js'
export { gradientScale, scaledQueries } from './narrow.js'
export { batchTokensLeast, modelFlop, planJoin, type Plan, type PlanInput, type PlannedJoin } from './planner.js'
export {
  lowRankOf, preconditioner, sharedWidths,
  type DenseQuery, type LayerPreconditioner, type LowRankQuery, type QueryLayerGradient, type SharedQueries,
} from './precondition.js'
export { covarianceFlop, eigenCubes, eigenvalueFlop, factorBytes, rotationFlop } from './costs.js'
export { decayOf, inverseOf, type LaterFactors } from './segments.js'
export { queryGradient, queryProgram, type QueryGradient, type TokenizedQuery } from './query-gradients.js'
export { compileInStages, runsTogether, type BuildProgram, type StagedModel, type Stages } from './staged-program.js'
export { partsOf, planStages, spanBytes, type Stage } from './stages.js'
export { scoreBatch, scoreProgram, type BatchScores, type ScoreProgramOptions } from './score-program.js'
