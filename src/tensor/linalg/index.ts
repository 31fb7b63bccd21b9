/**
 * @file Dense linear algebra in float64: symmetric eigendecompositions (fast, on worker threads), and SVD and QR of
 * small matrices. Matrices are row-major Float64Arrays. Knows nothing of tensors, models or factors. Law: what comes
 * out reproduces what went in (A = V diag Vᵀ, A = U diag Vᵀ, A = Q R) to a small multiple of n·ε·‖A‖, with factors that
 * are orthogonal to n·ε, for every finite input. Eigenvectors of equal eigenvalues are any basis: compare products.
 */
export { eigh, eighAll, type EighAllOptions, type EighOptions } from './eigh.js'
export { type Eigen, type Symmetric } from './eigen.js'
export { eighPlain } from './plain.js'
export { qrThin, svdSmall, type Qr, type Svd } from './small.js'
